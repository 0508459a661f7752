"""``dchw compare``: one row per storage format, before and after compression."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dchw.cli.output import print_json
from dchw.cli.running import comparison_notes, print_comparison, run_comparison, run_options, typed_command

if TYPE_CHECKING:
    from dchw.dram.idle import IdleState
    from dchw.run.simulation import Engine


@click.command(name="compare")
@click.argument("file")
@click.option("--storage", multiple=True, help="Only these storage formats (repeatable; default: all).")
@run_options
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
    dram_idle: IdleState,
    prototxt: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Simulate FILE (a .dchw file or a published release) in every storage format on one machine."""
    from dchw.costs import per_frame

    run = run_comparison(file, machine_name, storage, engine=engine, batch=batch, warm=warm, prototxt=prototxt)
    network, target, frame = run.network, run.machine, run.frame
    if fps is not None:
        frames = [per_frame(result.costs, fps, target, dram_idle) for result in run.results.values()]
        frame["energy_per_frame_nj"] = [one.energy_pj / 1e3 for one in frames]
    notes = comparison_notes(network, frame, list(run.results.values())[-1])
    if fps is not None:
        notes.append(
            f"A frame at {fps:g} frames per second: the run, then leakage and DRAM {dram_idle} until the next."
        )
    if report is not None:
        from dchw.reports import write_report

        line = typed_command(context)
        write_report(report, network, target, run.results, frame, command=line, fps=fps, dram_idle=dram_idle)
        notes.append(f"Report written to {report}.")
    if as_json:
        rows = frame.to_dict("records")
        print_json("compare", {"network": network.name, "machine": target.name, "rows": rows, "notes": notes})
        return
    print_comparison(f"{network.name} on {target.name}", frame, notes)
