"""``dchw sweep``: run a design-space study, go on with one, or read one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dchw.cli.output import print_json, print_table, progress

if TYPE_CHECKING:
    import pandas as pd

    from dchw.studies.plan import StudyPlan
    from dchw.studies.study import Study

SHOWN_ROWS = 60
"""Rows of a table on a terminal; all of them lie in the folder."""
_FIGURES = ("latency_us", "energy_pj", "area_mm2", "dram_read_bytes", "error_pct", "bound_by")


@click.command(name="sweep")
@click.argument("target", metavar="STUDY|DIR")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study; one that was begun is gone on with.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes of this machine.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on the Dask cluster of this scheduler instead.")
@click.option("--data", envvar="DCHW_DATA", type=click.Path(path_type=Path), help="Folder with MNIST, to train on.")
@click.option("--dry-run", is_flag=True, help="Say how many points, seconds and bytes of memory it will take.")
@click.option("--retry-failed", is_flag=True, help="Run points again that ended in an error.")
@click.option("--best", metavar="METRIC", help="The best points in one metric, such as energy_pj.")
@click.option("--where", "conditions", multiple=True, metavar="EXPR", help="Only points that meet it; repeatable.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many of the best.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Also write the table as .csv or .parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    target: str,
    out: Path | None,
    workers: int,
    scheduler: str | None,
    data: Path | None,
    dry_run: bool,
    retry_failed: bool,
    best: str | None,
    conditions: tuple[str, ...],
    top: int,
    csv_file: Path | None,
    as_json: bool,
) -> None:
    """Run the study in the YAML file STUDY into --out, or read the study in the folder DIR.

    A study with a section `search` looks for its front within a budget instead of running every point.

    What is finished is kept at every moment: the same command goes on after Ctrl-C, a full disk or a lost worker.
    """
    if workers > 1 and scheduler is None and out is not None and not dry_run:
        from dchw.studies.nursery import open_nursery

        open_nursery()  # before all else: it gets ready beside this process

    from dchw.files import write_frame
    from dchw.studies import reading
    from dchw.studies.study import read_results, study

    if Path(target).is_dir():
        if out is not None or dry_run:
            raise click.UsageError(f"{target} is a folder, to be read; name the YAML file of a study to run it")
        frame = read_results(target)
    else:
        asked = study(target, data=data)
        if dry_run:
            _print_plan(asked, as_json)
            return
        if out is None:
            raise click.UsageError("--out: missing; name the folder of the study")
        frame = _run(asked, out, workers, scheduler, retry_failed)
    rows = reading.good_points(frame)
    brief = reading.brief_names(frame)
    for condition in conditions:
        rows = reading.where(rows, condition)
    if best is not None:
        rows = reading.best(rows, best, top)
    notes = _notes(frame.replace(brief), (rows if conditions else frame).replace(brief))
    if csv_file is not None:
        write_frame(rows if conditions or best else frame, csv_file)
        notes.append(f"Table written to {csv_file}.")
    if as_json:
        records = rows.astype(object).where(rows.notna(), None).to_dict("records")
        print_json("sweep", {"points": len(frame), "rows": records, "notes": notes})
        return
    _print_rows(rows.replace(brief), frame.replace(brief), best, notes)


def _run(asked: Study, out: Path, workers: int, scheduler: str | None, retry_failed: bool) -> pd.DataFrame:
    import time

    with progress() as bar:
        task = bar.add_task("points", total=None)
        start, first = time.monotonic(), -1

        def report(done: int, total: int) -> None:
            nonlocal first
            first = done if first < 0 else first
            rate = (done - first) / max(time.monotonic() - start, 1e-9)
            bar.update(task, completed=done, total=total, description=f"points, {rate:.3g} a second")

        return asked.run(out, workers=workers, scheduler=scheduler, retry_failed=retry_failed, on_progress=report)


def _print_plan(asked: Study, as_json: bool) -> None:
    plan = asked.plan()
    if as_json:
        print_json("sweep-plan", vars(plan))
        return
    memory = "unknown" if plan.memory_bytes is None else f"{plan.memory_bytes / 2**20:,.0f} MiB"
    click.echo(
        f"{plan.points:,} points, about {plan.seconds:,.0f} seconds on one core and {memory} of memory a worker "
        f"({_how(plan)})"
    )
    if plan.trainings:
        click.echo(f"{plan.trainings:,} networks are trained before, once each, which is not in these seconds")
    for error in plan.failed:
        click.echo(f"fails: {error}")


def _how(plan: StudyPlan) -> str:
    ways = ((plan.tried, "measured on {} of them"), (plan.estimated, "estimated from the mapping of {} of them"))
    return " and ".join(words.format(count) for count, words in ways if count) or "nothing to run"


def _notes(frame: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Knees of the whole table, the likely choice among the rows asked for, and what failed."""
    from dchw.studies import reading
    from dchw.studies.knee import find_knees, shared_knees
    from dchw.studies.study import MOST_KNEES

    notes = []
    ran = reading.good_points(frame)
    names = reading.telling(ran) if len(ran) else []
    swept = [name for name in names if name not in ("network", "recipe", "machine", "storage")]
    fixed = [name for name in names if name not in swept]
    knees = [*shared_knees(ran, swept, fixed), *find_knees(ran, swept, fixed)] if len(swept) == 1 else []
    notes += [str(knee) for knee in knees[:MOST_KNEES]]
    if len(ran) > 1:
        notes += [f"A likely choice: {choice.sentence}" for choice in reading.likely_choices(rows, frame)]
    failed = frame[frame["error"].notna()]
    if len(failed):
        notes.append(f"{len(failed):,} of {len(frame):,} points failed, the first with: {failed['error'].iloc[0]}")
    left_out = len(frame) - len(failed) - len(ran)
    if left_out:
        notes.append(f"{left_out:,} points do not meet the study's conditions.")
    if ran["error_pct"].isna().all():
        notes.append("Error rates are not available: none was measured on these networks as they are stored.")
    return notes


def _print_rows(rows: pd.DataFrame, frame: pd.DataFrame, best: str | None, notes: list[str]) -> None:
    from dchw.studies import reading

    names = reading.telling(frame)
    shown = [name for name in dict.fromkeys((*names, *([best] if best else []), *_FIGURES)) if rows[name].notna().any()]
    table = rows[shown].head(SHOWN_ROWS)
    gaps = [name for name in shown if table[name].isna().any()]
    table[gaps] = table[gaps].astype(object).where(table[gaps].notna(), None)
    if len(rows) > SHOWN_ROWS:
        notes = [
            *notes,
            f"The first {SHOWN_ROWS} of {len(rows):,} rows; results.parquet has all.",
        ]
    title = f"{len(rows):,} of {len(frame):,} points" + (f", best {best} first" if best else "")
    main = [name.replace("_", " ") for name in (*names, "latency_us", "energy_pj", "area_mm2", "bound_by")]
    print_table(title, table, notes, main=main)
