"""``dchw report``: a comparison as one HTML file, as tables on disk and as figures for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dchw.cli.output import print_json
from dchw.cli.running import baseline_option, chosen_machine, run_comparison, run_options, typed_command

if TYPE_CHECKING:
    from dchw.dram.idle import IdleState
    from dchw.run.simulation import Engine


@click.command(name="report")
@click.argument("file", metavar="FILE|DIR")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="report.html",
    show_default=True,
    help="File to write: .html, or .pdf where Chromium is installed.",
)
@click.option("--storage", multiple=True, help="Only these storage formats (repeatable; first is before, last after).")
@run_options
@baseline_option
@click.option("--csv", "csv_folder", type=click.Path(path_type=Path), help="Folder for every table as CSV.")
@click.option("--parquet", "parquet_folder", type=click.Path(path_type=Path), help="Folder for every table as Parquet.")
@click.option(
    "--figures",
    "figure_folder",
    type=click.Path(path_type=Path),
    help="Folder for SVG and PDF figures; a study's as PNG too.",
)
@click.option("--title", default="", help="Instead of the title that names network and machine.")
@click.option("--author", default="", help="Printed below the title.")
@click.option("--date", default="", help="Printed below the title, as it is written here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: what was written.")
@click.pass_context
def command(
    context: click.Context,
    file: str,
    machine_name: str,
    settings: tuple[str, ...],
    out: Path,
    storage: tuple[str, ...],
    engine: Engine,
    batch: int,
    warm: bool,
    fps: float | None,
    dram_idle: IdleState,
    prototxt: Path | None,
    baseline: str | None,
    csv_folder: Path | None,
    parquet_folder: Path | None,
    figure_folder: Path | None,
    title: str,
    author: str,
    date: str,
    as_json: bool,
) -> None:
    """Simulate FILE (a .dchw file or a published release) in every storage format and write a report.

    Of DIR, the folder of a study, the page shows the Pareto front, effects and every point.
    """
    if Path(file).is_dir():
        _study_report(context, file, out, figure_folder, as_json)
        return
    from dchw.reports import Heading, write_report, write_tables

    if out.suffix.lower() == ".pdf":
        from dchw.reports.printing import chromium

        chromium()  # says what to install before anything is simulated
    target = chosen_machine(machine_name, settings)
    run = run_comparison(
        file, target, storage, engine=engine, batch=batch, warm=warm, prototxt=prototxt, baseline=baseline
    )
    tables = write_report(
        out,
        run.network,
        run.machine,
        run.results,
        run.frame,
        command=typed_command(context),
        fps=fps,
        dram_idle=dram_idle,
        heading=Heading(title=title, author=author, date=date),
    )
    written = [out]
    if csv_folder is not None:
        written += write_tables(tables, csv_folder, ".csv")
    if parquet_folder is not None:
        written += write_tables(tables, parquet_folder, ".parquet")
    if figure_folder is not None:
        from dchw.reports.paper_figures import write_figures

        written += write_figures(tables, run.machine, figure_folder)
    if as_json:
        files = [str(path) for path in written]
        print_json("report", {"network": run.network.name, "machine": run.machine.name, "files": files})
        return
    for path in written:
        click.echo(f"wrote {path}")


def _study_report(context: click.Context, folder: str, out: Path, figure_folder: Path | None, as_json: bool) -> None:
    """The page of a study; an option that only a comparison knows is an error, not ignored."""
    from dchw.reports.study_page import write_study_report

    for parameter in context.command.params:
        assert parameter.name is not None
        given = context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        if given and parameter.name not in ("file", "out", "figure_folder", "as_json"):
            raise click.UsageError(f"{parameter.opts[-1]}: {folder} is a study, which has run already; leave it out")
    page = write_study_report(out, folder, command=typed_command(context))
    written = [out]
    if figure_folder is not None:
        from dchw.reports.study_figures import write_study_figures

        written += write_study_figures(page, figure_folder)
    if as_json:
        print_json(
            "report",
            {
                "points": page.points,
                "choices": [choice.sentence for choice in page.choices],
                "files": [str(path) for path in written],
            },
        )
        return
    for choice in page.choices:
        click.echo(f"A likely choice: {choice.sentence}")
    for path in written:
        click.echo(f"wrote {path}")
