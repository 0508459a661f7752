"""``dchw report``: a comparison as one HTML file, as tables on disk and as figures for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dchw.cli.output import print_json, progress
from dchw.cli.running import frame_options, load_compressed, typed_command

if TYPE_CHECKING:
    from dchw.costs import DramIdle
    from dchw.experiment import Engine, SimResult


@click.command(name="report")
@click.argument("file")
@click.option("--machine", "machine_name", default="phone-lpddr5x", show_default=True, help="Preset or YAML file.")
@click.option("--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="HTML to write.")
@click.option("--storage", multiple=True, help="Only these storage formats (repeatable; first is before, last after).")
@click.option("--engine", type=click.Choice(["fast", "reference"]), default="fast", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--warm", is_flag=True, help="Weights that fit are in the weight SRAM already.")
@frame_options
@click.option("--prototxt", type=click.Path(path_type=Path), help="Caffe network of a released .net file.")
@click.option("--csv", "csv_folder", type=click.Path(path_type=Path), help="Folder for every table as CSV.")
@click.option("--parquet", "parquet_folder", type=click.Path(path_type=Path), help="Folder for every table as Parquet.")
@click.option("--figures", "figure_folder", type=click.Path(path_type=Path), help="Folder for SVG and PDF figures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: what was written.")
@click.pass_context
def command(
    context: click.Context,
    file: str,
    machine_name: str,
    out: Path,
    storage: tuple[str, ...],
    engine: Engine,
    batch: int,
    warm: bool,
    fps: float | None,
    dram_idle: DramIdle,
    prototxt: Path | None,
    csv_folder: Path | None,
    parquet_folder: Path | None,
    figure_folder: Path | None,
    as_json: bool,
) -> None:
    """Simulate FILE (a .dchw file or a published release) in every storage format and write a report."""
    import dchw
    from dchw.report import write_report, write_tables
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
    tables = write_report(
        out,
        network,
        target,
        results,
        frame,
        command=typed_command(context),
        fps=fps,
        dram_idle=dram_idle,
    )
    written = [out]
    if csv_folder is not None:
        written += write_tables(tables, csv_folder, ".csv")
    if parquet_folder is not None:
        written += write_tables(tables, parquet_folder, ".parquet")
    if figure_folder is not None:
        from dchw.report.paper_figures import write_figures

        written += write_figures(tables, target, figure_folder)
    if as_json:
        files = [str(path) for path in written]
        print_json("report", {"network": network.name, "machine": target.name, "files": files})
        return
    for path in written:
        click.echo(f"wrote {path}")
