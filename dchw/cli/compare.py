"""``dchw compare``: one row per storage format, before and after compression."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dchw.cli.output import print_json, progress
from dchw.cli.running import comparison_notes, frame_options, load_compressed, print_comparison, typed_command

if TYPE_CHECKING:
    from dchw.costs import DramIdle
    from dchw.experiment import Engine, SimResult


@click.command(name="compare")
@click.argument("file")
@click.option("--machine", "machine_name", default="phone-lpddr5x", show_default=True, help="Preset or YAML file.")
@click.option("--storage", multiple=True, help="Only these storage formats (repeatable; default: all seven).")
@click.option("--engine", type=click.Choice(["fast", "reference"]), default="fast", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--warm", is_flag=True, help="Weights that fit are in the weight SRAM already.")
@frame_options
@click.option("--prototxt", type=click.Path(path_type=Path), help="Caffe network of a released .net file.")
@click.option("--report", type=click.Path(path_type=Path), help="Also write a self-contained HTML report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    context: click.Context,
    file: str,
    machine_name: str,
    storage: tuple[str, ...],
    engine: Engine,
    batch: int,
    warm: bool,
    fps: float | None,
    dram_idle: DramIdle,
    prototxt: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Simulate FILE (a .dchw file or a published release) in every storage format on one machine."""
    import dchw
    from dchw.costs import per_frame
    from dchw.storage import STORAGE_FORMATS, storage_format

    network = load_compressed(file, prototxt)
    target = dchw.machine(machine_name)
    chosen = [storage_format(name).name for name in storage] or list(STORAGE_FORMATS)
    results: dict[str, SimResult] = {}
    with progress() as bar:
        task = bar.add_task("simulating", total=len(chosen))

        def finished(name: str, result: SimResult) -> None:
            results[name] = result
            bar.advance(task)

        frame = dchw.compare(
            network, target, storages=chosen, engine=engine, batch=batch, warm=warm, on_result=finished
        )
    if fps is not None:
        frames = [per_frame(result.costs, fps, target, dram_idle) for result in results.values()]
        frame["energy_per_frame_nj"] = [one.energy_pj / 1e3 for one in frames]
    notes = comparison_notes(network, frame, results[chosen[-1]])
    if fps is not None:
        notes.append(
            f"A frame at {fps:g} frames per second: the run, then leakage and DRAM {dram_idle} until the next."
        )
    if report is not None:
        from dchw.report import write_report

        line = typed_command(context)
        write_report(report, network, target, results, frame, command=line, fps=fps, dram_idle=dram_idle)
        notes.append(f"Report written to {report}.")
    if as_json:
        rows = frame.to_dict("records")
        print_json("compare", {"network": network.name, "machine": target.name, "rows": rows, "notes": notes})
        return
    print_comparison(f"{network.name} on {target.name}", frame, notes)
