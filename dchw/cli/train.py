"""``dchw train``: train a network after a recipe, compress it while it retrains, and write both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dchw.cli.output import print_json, print_table, progress

if TYPE_CHECKING:
    from dchw.training.loop import Progress


@click.command()
@click.argument("recipe")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="NAME of NAME.safetensors and NAME.dchw.")
@click.option("--data", envvar="DCHW_DATA", type=click.Path(path_type=Path), help="Folder with MNIST's files.")
@click.option("--dataset", type=click.Choice(["digits", "mnist"]), help="Another data set than the recipe's.")
@click.option("--dense", type=click.Path(path_type=Path), help="Start from this checkpoint, not from random weights.")
@click.option("--seed", "seeds", type=click.IntRange(min=0), multiple=True, help="Instead of the recipe's; repeatable.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe; repeatable.")
@click.option("--held-out", is_flag=True, help="Measure on 5,000 held-out training images, to choose a recipe.")
@click.option("--device", default="cpu", show_default=True, help="Where torch trains: cpu, cuda, mps.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def command(
    recipe: str,
    out: Path,
    data: Path | None,
    dataset: str | None,
    dense: Path | None,
    seeds: tuple[int, ...],
    changes: tuple[str, ...],
    held_out: bool,
    device: str,
    as_json: bool,
) -> None:
    """Train, prune and retrain, share and fine-tune after RECIPE, a YAML file or the name of an architecture.

    The dense network goes to NAME.safetensors; with several seeds each compressed network goes to NAME-SEED.dchw and
    the smallest one that keeps the recipe's promise (without one, the most accurate) to NAME.dchw as well.
    """
    from dchw.training.recipe import load_recipe, with_changes
    from dchw.training.session import train_files

    plan = with_changes(load_recipe(recipe), changes)
    with progress() as bars:
        tasks: dict[str, Any] = {}

        def report(task: str, done: int, total: int) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total)
            bars.update(tasks[task], completed=done)

        watched: Progress = report
        rows = train_files(
            plan,
            out,
            dataset=dataset or plan.dataset,
            folder=data,
            dense_checkpoint=dense,
            seeds=seeds or tuple(plan.seeds),
            held_out=held_out,
            device=device,
            progress=watched,
        )
    if as_json:
        print_json("train", {"recipe": plan.dump(), "networks": rows})
        return
    import pandas as pd

    start = f"from {dense}" if dense else f"dense seed {plan.dense_seed}"
    print_table(f"{plan.name} on {rows[0]['data_set']}, {start}", pd.DataFrame(rows).drop(columns="data_set"))
