"""``dchw compare``: one row per storage format, before and after compression."""

from __future__ import annotations

from pathlib import Path

import click

from dchw.cli.output import print_json, progress
from dchw.cli.running import comparison_notes, load_compressed, print_comparison


@click.command(name="compare")
@click.argument("file")
@click.option("--machine", "machine_name", default="phone-lpddr5x", show_default=True, help="Preset or YAML file.")
@click.option("--storage", multiple=True, help="Only these storage formats (repeatable; default: all seven).")
@click.option("--engine", type=click.Choice(["fast", "reference"]), default="fast", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--warm", is_flag=True, help="Weights that fit are in the weight SRAM already.")
@click.option("--prototxt", type=click.Path(path_type=Path), help="Caffe network of a released .net file.")
@click.option("--report", type=click.Path(path_type=Path), help="Also write a self-contained HTML report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    file: str,
    machine_name: str,
    storage: tuple[str, ...],
    engine: str,
    batch: int,
    warm: bool,
    prototxt: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Simulate FILE (a .dchw file or a published release) in every storage format on one machine."""
    import dchw
    from dchw.experiment import SimResult
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
    notes = comparison_notes(network, frame, results[chosen[-1]])
    if report is not None:
        from dchw.report import write_report

        write_report(report, network, target, results, frame, command=f"dchw compare {file} --machine {machine_name}")
        notes.append(f"Report written to {report}.")
    if as_json:
        rows = frame.to_dict("records")
        print_json("compare", {"network": network.name, "machine": target.name, "rows": rows, "notes": notes})
        return
    print_comparison(f"{network.name} on {target.name}", frame, notes)
