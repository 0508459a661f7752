"""``dchw compare``: before and after compression; several machines, networks and settings in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from dchw.cli.output import print_json, print_table, progress
from dchw.cli.running import (
    baseline_option,
    chosen_machine,
    comparison_notes,
    default_storage,
    load_compressed,
    many_run_options,
    print_comparison,
    run_comparison,
    typed_command,
)
from dchw.extras import require

if TYPE_CHECKING:
    import pandas as pd

    from dchw.compression.compressed import CompressedNetwork
    from dchw.dram.idle import IdleState
    from dchw.run.simulation import Engine


class _How(TypedDict):
    """How every run of a table is made."""

    engine: Engine
    batch: int
    warm: bool
    fps: float | None
    dram_idle: IdleState


MOST_VERDICTS = 4
"""Verdicts that open a table for people; of more, ``--json`` has all."""
_SWEPT = {
    "cycles": "cycles",
    "latency_us": "latency us",
    "inferences_per_s": "inf/s",
    "inferences_per_j": "inf/J",
    "bound_by": "bound by",
    "dram_read_bytes": "DRAM read B",
    "energy_nj": "total nJ",
    "energy_per_frame_nj": "frame nJ",
    "area_mm2": "area mm2",
}


@click.command(name="compare")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--storage",
    multiple=True,
    help="Only these storage formats (repeatable; default: all, and one where --set lists values).",
)
@many_run_options
@baseline_option
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Also write the table as .csv or .parquet.")
@click.option("--report", type=click.Path(path_type=Path), help="Also write a self-contained HTML report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    context: click.Context,
    files: tuple[str, ...],
    machine_names: tuple[str, ...],
    settings: tuple[str, ...],
    storage: tuple[str, ...],
    engine: Engine,
    batch: int,
    warm: bool,
    fps: float | None,
    dram_idle: IdleState,
    prototxt: Path | None,
    baseline: str | None,
    csv_file: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Simulate each FILE (a .dchw file or a published release) in every storage format, on one machine or several.

    With lists of values (--set huffman.units=4,8,16,32,64) every combination is run, and the notes say where more
    stops paying and what bounds the run on either side.
    """
    from dchw.studies.variants import parse_settings

    choices = parse_settings(settings)
    many = len(files) > 1 or len(machine_names) > 1 or any(len(values) > 1 for values in choices.values())
    if many:
        if report is not None:
            raise click.UsageError("--report is of one network on one machine; 'dchw report' puts several side by side")
        if baseline is not None:
            raise click.UsageError("--baseline compares formats of one network on one machine; leave it out")
        networks = {path: load_compressed(path, prototxt) for path in files}
        how: _How = {"engine": engine, "batch": batch, "warm": warm, "fps": fps, "dram_idle": dram_idle}
        _compare_many(networks, machine_names, choices, storage, how, csv_file, as_json)
        return
    from dchw.costs import per_frame

    if report is not None:
        require("a report", "plotly")
    target = chosen_machine(machine_names[0], settings)
    run = run_comparison(
        load_compressed(files[0], prototxt),
        target,
        storage,
        {"engine": engine, "batch": batch, "warm": warm, "baseline": baseline},
        keep=report is not None or fps is not None,
    )
    network, frame = run.network, run.frame
    if fps is not None:
        frames = [per_frame(result.costs, fps, target, dram_idle) for result in run.results.values()]
        frame["energy_per_frame_nj"] = [one.energy_pj / 1e3 for one in frames]
    notes = [_settings_note(choices)] if choices else []
    notes += comparison_notes(network, frame, run.last, brief=not as_json)
    if fps is not None:
        notes.append(_frame_note(fps, dram_idle))
    if report is not None:
        from dchw.reports import write_report

        line = typed_command(context)
        write_report(report, network, target, run.results, frame, command=line, fps=fps, dram_idle=dram_idle)
        notes.append(f"Report written to {report}.")
    notes += _written(frame, csv_file)
    if as_json:
        rows = frame.to_dict("records")
        content = {"network": network.name, "machine": target.name, "rows": rows, "notes": notes}
        content |= {key: frame.attrs[key] for key in ("baseline", "verdict")}
        print_json("compare", content)
        return
    print_comparison(f"{network.name} on {target.name}", frame, notes)


def _compare_many(
    networks: Mapping[str, CompressedNetwork],
    machine_names: Sequence[str],
    choices: Mapping[str, list[object]],
    storages: Sequence[str],
    how: _How,
    csv_file: Path | None,
    as_json: bool,
) -> None:
    """Every network on every machine with every combination of settings, in one table with its knees."""
    from dchw.formats import STORAGE_FORMATS, storage_format
    from dchw.studies.knee import find_knees
    from dchw.studies.side_by_side import side_by_side
    from dchw.studies.variants import variants

    swept = [key for key, values in choices.items() if len(values) > 1]
    asked = storages or ((default_storage(),) if swept else tuple(STORAGE_FORMATS))
    chosen = [storage_format(name).name for name in asked]
    machines = [variant for name in machine_names for variant in variants(name, choices)]
    with progress() as bar:
        task = bar.add_task("simulating", total=len(networks) * len(machines) * len(chosen))
        table = side_by_side(networks, machines, chosen, **how, on_row=lambda: bar.advance(task))
    knees = find_knees(table.frame, swept, ["network", "machine", "storage"])
    fixed = {key: values for key, values in choices.items() if key not in swept}
    notes = [str(knee) for knee in knees]
    notes += [_settings_note(fixed)] if fixed else []
    if swept and not storages:
        notes.append(f"Storage format {default_storage()}; --storage adds others.")
    notes += table.notes
    if how["fps"] is not None:
        notes.append(_frame_note(how["fps"], how["dram_idle"]))
    notes += _written(table.frame, csv_file)
    if as_json:
        found = [{"key": k.key, "metric": k.metric, "knee": None if k.is_open else k.value} for k in knees]
        content = {"rows": table.frame.to_dict("records"), "knees": found, "verdicts": list(table.verdicts)}
        print_json("compare", {**content, "notes": notes})
        return
    verdicts = table.verdicts if len(table.verdicts) <= MOST_VERDICTS else ()
    _print_many(table.frame, swept, notes, verdicts)


def _print_many(frame: pd.DataFrame, swept: list[str], notes: list[str], verdicts: Sequence[str]) -> None:
    """The columns that vary, then the figures; what is the same in every row goes into the title."""
    telling = ["network", "machine", *swept, "storage"]
    same = [name for name in telling if name not in swept and frame[name].nunique() == 1]
    first = [name for name in telling if name not in same]
    title = ", ".join(str(frame[name].iloc[0]) for name in same) or "Side by side"
    shown = {**{name: name for name in first}, **{k: v for k, v in _SWEPT.items() if k in frame.columns}}
    main = [*first, "latency us", "bound by", "total nJ", "area mm2"]
    print_table(title, frame[list(shown)].rename(columns=shown), notes, main=main, opening=verdicts)


def _settings_note(choices: Mapping[str, list[object]]) -> str:
    return f"With {', '.join(f'{key} = {values[0]}' for key, values in choices.items())}."


def _frame_note(fps: float, dram_idle: str) -> str:
    return f"A frame at {fps:g} frames per second: the run, then leakage and DRAM {dram_idle} until the next."


def _written(frame: pd.DataFrame, path: Path | None) -> list[str]:
    from dchw.files import write_frame

    if path is None:
        return []
    write_frame(frame, path)
    return [f"Table written to {path}."]
