"""``dchw report``: a comparison as one HTML file, as tables on disk and as figures for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dchw.cli.output import print_json, progress
from dchw.cli.running import (
    How,
    baseline_option,
    chosen_formats,
    chosen_machine,
    compared,
    format_count,
    load_compressed,
    machines_option,
    other_run_options,
    run_comparison,
    setting_option,
    typed_command,
)
from dchw.extras import require

if TYPE_CHECKING:
    from dchw.dram.idle import IdleState
    from dchw.machines.machine import Machine
    from dchw.reports import Heading, ReportTables
    from dchw.reports.side_by_side_page import Column
    from dchw.run.simulation import Engine


@click.command(name="report")
@click.argument("files", nargs=-1, required=True, metavar="FILE...|DIR")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="report.html",
    show_default=True,
    help="File to write: .html, or .pdf where Chromium is installed.",
)
@click.option("--storage", multiple=True, help="Only these storage formats (repeatable; first is before, last after).")
@machines_option
@setting_option
@other_run_options
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
    files: tuple[str, ...],
    machine_names: tuple[str, ...],
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

    Several files, or several --machine, stand side by side on one page: a column for every file on every machine.
    Of DIR, the folder of a study, the page shows the Pareto front, effects and every point.
    """
    require("a report", "plotly")
    folders = [file for file in files if Path(file).is_dir()]
    if folders:
        if len(files) > 1:
            raise click.UsageError(f"{folders[0]} is a study, which has a page of its own; leave the others out")
        _study_report(context, files[0], out, figure_folder, as_json)
        return
    from dchw.reports import Heading, write_tables

    if figure_folder is not None:
        require("figures as SVG and PDF", "matplotlib")
    if out.suffix.lower() == ".pdf":
        from dchw.reports.printing import chromium

        chromium()
    asked = _Asked(
        storages=storage,
        how={"engine": engine, "batch": batch, "warm": warm, "baseline": baseline},
        fps=fps,
        dram_idle=dram_idle,
        heading=Heading(title=title, author=author, date=date),
        command=typed_command(context),
    )
    written = [out]
    if len(files) * len(machine_names) > 1:
        if figure_folder is not None:
            raise click.UsageError("--figures draws one network on one machine; write a report of each")
        tables, about = _side_by_side(out, files, machine_names, settings, prototxt, asked)
    else:
        target = chosen_machine(machine_names[0], settings)
        tables, about = _one(out, files[0], target, prototxt, asked)
        if figure_folder is not None:
            from dchw.reports.paper_figures import write_figures

            written += write_figures(tables, target, figure_folder)
    if csv_folder is not None:
        written += write_tables(tables, csv_folder, ".csv")
    if parquet_folder is not None:
        written += write_tables(tables, parquet_folder, ".parquet")
    if as_json:
        print_json("report", {**about, "files": [str(path) for path in written]})
        return
    for path in written:
        click.echo(f"wrote {path}")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What every column of a report is made with."""

    storages: Sequence[str]
    how: How
    fps: float | None
    dram_idle: IdleState
    heading: Heading
    command: str


def _one(
    out: Path, file: str, target: Machine, prototxt: Path | None, asked: _Asked
) -> tuple[ReportTables, dict[str, Any]]:
    """The report of one network on one machine: its tables, and what it is about."""
    from dchw.reports import write_report

    run = run_comparison(load_compressed(file, prototxt), target, asked.storages, asked.how)
    tables = write_report(
        out,
        run.network,
        run.machine,
        run.results,
        run.frame,
        command=asked.command,
        fps=asked.fps,
        dram_idle=asked.dram_idle,
        heading=asked.heading,
    )
    return tables, {"network": run.network.name, "machine": run.machine.name}


def _side_by_side(
    out: Path,
    files: Sequence[str],
    machine_names: Sequence[str],
    settings: Sequence[str],
    prototxt: Path | None,
    asked: _Asked,
) -> tuple[ReportTables, dict[str, Any]]:
    """The report with a column for every network on every machine; one column's runs are held at a time."""
    from dchw.reports.side_by_side_page import Column, check_columns, write_side_by_side
    from dchw.studies.side_by_side import distinct_names

    check_columns([f"{file} on {name}" for file in files for name in machine_names])
    machines = {name: chosen_machine(name, settings) for name in machine_names}
    networks = {file: load_compressed(file, prototxt) for file in files}
    network_names = distinct_names({file: network.name for file, network in networks.items()})
    shown_names = distinct_names({name: target.name for name, target in machines.items()})
    chosen = chosen_formats(asked.storages)
    columns: list[Column] = []
    with progress() as bar:
        task = bar.add_task("simulating", total=len(files) * len(machines) * format_count(chosen))
        for file, network in networks.items():
            for name, target in machines.items():
                run = compared(network, target, chosen, asked.how, lambda: bar.advance(task))
                columns.append(
                    Column.of(
                        network,
                        target,
                        run.results,
                        run.frame,
                        network_name=network_names[file],
                        machine_name=shown_names[name],
                        fps=asked.fps,
                        dram_idle=asked.dram_idle,
                    )
                )
    tables = write_side_by_side(out, columns, command=asked.command, heading=asked.heading)
    return tables, {"networks": list(network_names.values()), "machines": list(shown_names.values())}


def _study_report(context: click.Context, folder: str, out: Path, figure_folder: Path | None, as_json: bool) -> None:
    """The page of a study; an option that only a comparison knows is an error, not ignored."""
    from dchw.reports.study_page import write_study_report

    for parameter in context.command.params:
        assert parameter.name is not None
        given = context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        if given and parameter.name not in ("files", "out", "figure_folder", "as_json"):
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
