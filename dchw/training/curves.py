"""The experiments' curves as CSV files and plots, also as a command: ``python -m dchw.training.curves --help``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dchw.extras import extras_named
from dchw.training.experiments import EXPERIMENTS, ExperimentPlan, Row, Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_ERROR = "error rate, %"


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--architecture", required=True, help="lenet-300-100 or lenet-5.")
@click.option("--data", envvar="DCHW_DATA", type=click.Path(path_type=Path), help="Folder with MNIST's files.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="NAME of NAME_EXPERIMENT.csv and .svg.")
@click.option("--only", type=click.Choice(list(EXPERIMENTS)), multiple=True, help="Not all experiments; repeatable.")
@click.option("--train-images", type=click.IntRange(min=1), default=ExperimentPlan().train_images, show_default=True)
def main(
    checkpoint: Path, architecture: str, data: Path | None, out: Path, only: Sequence[str], train_images: int
) -> None:
    """Run the experiments on a dense MNIST checkpoint; each is written as soon as it is done."""
    from dchw.training.datasets import mnist
    from dchw.training.material import placed
    from dchw.training.session import load_dense

    subject = Subject(
        dense=placed(load_dense(checkpoint, architecture), "cpu"),
        data=mnist(data),
        plan=ExperimentPlan(train_images=train_images),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    for name in only or EXPERIMENTS:
        rows = EXPERIMENTS[name](subject)
        write_rows(rows, out.with_name(f"{out.name}_{name}.csv"))
        draw(name, rows, out.with_name(f"{out.name}_{name}.svg"), title=architecture)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Rows as CSV, the keys of the first one as columns; numbers with at most six significant digits."""
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row.values()])


def draw(name: str, rows: Sequence[Row], path: Path, *, title: str) -> None:
    """One experiment's curves as an SVG (or PNG, PDF, by the path's suffix)."""
    with extras_named(str(path)):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    _DRAWN[name](axes, rows)
    axes.set_title(title)
    axes.set_ylabel(_ERROR)
    axes.set_yscale("log")
    _number(axes.yaxis)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    # without a date and with a fixed salt, equal rows give equal files
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "dchw"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _curves(
    axes: Axes, rows: Sequence[Row], group: str, x: str, y: str, *, style: str = "o-", suffix: str = ""
) -> None:
    for label in dict.fromkeys(row[group] for row in rows):
        points = sorted((row[x], row[y]) for row in rows if row[group] == label)
        axes.plot(*zip(*points, strict=True), style, markersize=4, label=f"{label}{suffix}")


def _number(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of every decade of a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}" if value < 1000 else f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def _sensitivity(axes: Axes, rows: Sequence[Row]) -> None:
    _curves(axes, rows, "layer", "density", "error_percent")
    axes.set_xscale("log")
    _number(axes.xaxis)
    axes.set_xlabel("density of this layer alone, others dense; not retrained")


def _size_against_error(axes: Axes, rows: Sequence[Row]) -> None:
    _curves(axes, rows, "method", "size_bytes", "error_percent")
    axes.set_xscale("log")
    _number(axes.xaxis)
    axes.set_xlabel("size, bytes")


def _codebook_bits(axes: Axes, rows: Sequence[Row]) -> None:
    _curves(axes, rows, "init", "codebook_bits", "before_percent", style="o--", suffix=", as clustered")
    axes.set_prop_cycle(None)
    _curves(axes, rows, "init", "codebook_bits", "after_percent", suffix=", fine-tuned")
    axes.set_xlabel("codebook bits of the pruned network")


def _bits_by_kind(axes: Axes, rows: Sequence[Row]) -> None:
    _curves(axes, rows, "kind", "codebook_bits", "error_percent", suffix=" layers")
    axes.set_xlabel("codebook bits of these layers, others exact; not fine-tuned")


_DRAWN: dict[str, Callable[[Axes, Sequence[Row]], None]] = {
    "sensitivity": _sensitivity,
    "size_against_error": _size_against_error,
    "codebook_bits": _codebook_bits,
    "bits_by_kind": _bits_by_kind,
}

if __name__ == "__main__":
    main()
