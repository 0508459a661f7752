"""``dchw train``: train a network after a recipe, compress it while it retrains, and write both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dchw.cli.output import print_json, print_table, progress

if TYPE_CHECKING:
    from dchw.training.loop import Progress
    from dchw.training.material import Material
    from dchw.training.recipe_file import TrainingRecipe

_FUNCTION = "PACKAGE.MODULE:FUNCTION"
_INTERRUPTED = 130


@click.command()
@click.argument("recipe")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="NAME of NAME.safetensors and NAME.dchw.")
@click.option("--module", metavar=_FUNCTION, help="Instead of the recipe's architecture: gives a torch module.")
@click.option("--batches", metavar=_FUNCTION, help="With --module: gives an iterable of (inputs, targets).")
@click.option("--loss", metavar=_FUNCTION, help="With --module: of (outputs, targets).  [default: cross entropy]")
@click.option("--evaluate", metavar=_FUNCTION, help="With --module: a number for a module, lower for a better one.")
@click.option("--epochs", type=click.IntRange(min=1), help="In all stages together; the recipe's are changed alike.")
@click.option("--data", envvar="DCHW_DATA", type=click.Path(path_type=Path), help="Folder with MNIST's files.")
@click.option("--dataset", type=click.Choice(["digits", "mnist"]), help="Another data set than the recipe's.")
@click.option("--dense", type=click.Path(path_type=Path), help="Start from this checkpoint, not from random weights.")
@click.option("--seed", "seeds", type=click.IntRange(min=0), multiple=True, help="Instead of the recipe's; repeatable.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe; repeatable.")
@click.option("--held-out", is_flag=True, help="Measure on 5,000 held-out training images, to choose a recipe.")
@click.option("--device", default="cpu", show_default=True, help="Where torch trains: cpu, cuda, mps.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_context
def command(
    context: click.Context,
    recipe: str,
    out: Path,
    module: str | None,
    batches: str | None,
    loss: str | None,
    evaluate: str | None,
    epochs: int | None,
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
    the smallest one that keeps the recipe's promise (without one, the most accurate) to NAME.dchw as well. After every
    epoch NAME-SEED.checkpoint is replaced: stopped by Ctrl-C, a kill or a power cut, the same command goes on from
    there and ends with the same bits. Checkpoints go when all is done.

    A module of your own: --module and --batches name functions without arguments, looked for in the current folder
    too. In the recipe, settings by layer may be patterns (block.*).
    """
    from dchw.training.recipe_file import load_recipe, with_changes
    from dchw.training.session import left_behind, train_files

    plan = with_changes(load_recipe(recipe), changes)
    plan = plan if epochs is None else plan.with_epochs(epochs)
    own = {"--batches": batches, "--loss": loss, "--evaluate": evaluate}
    if module is None:
        _refuse({**own}, "needs --module")
        material = _built_in(plan, dataset, data, held_out, device)
    else:
        from dchw.training.material import given

        _refuse({"--dataset": dataset, "--dense": dense, "--held-out": held_out}, "goes without --module")
        if batches is None:
            raise click.UsageError("--module needs --batches PACKAGE.MODULE:FUNCTION, which gives (inputs, targets)")
        material = given(module, batches, loss=loss, evaluate=evaluate, device=device)
    wanted = seeds or tuple(plan.seeds)
    with progress() as bars:
        tasks: dict[str, Any] = {}

        def report(task: str, done: int, total: int) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total)
            bars.update(tasks[task], completed=done)

        watched: Progress = report
        try:
            rows = train_files(
                plan, material, out, dense_checkpoint=dense, seeds=wanted, device=device, progress=watched
            )
        except KeyboardInterrupt:
            click.echo(f"dchw: stopped; {left_behind(out, wanted)}", err=True)
            context.exit(_INTERRUPTED)
    if as_json:
        print_json("train", {"recipe": plan.dump(), "networks": rows})
        return
    import pandas as pd

    start = f"from {dense}" if dense else f"dense seed {plan.dense_seed}"
    print_table(f"{plan.name} on {rows[0]['data_set']}, {start}", pd.DataFrame(rows).drop(columns="data_set"))


def _built_in(plan: TrainingRecipe, dataset: str | None, folder: Path | None, held_out: bool, device: str) -> Material:
    from dchw.training.datasets import hold_out, load_dataset
    from dchw.training.material import built_in

    dataset = dataset or plan.dataset
    if plan.architecture is None or dataset is None:
        raise click.UsageError(
            f"recipe {plan.name} names no architecture and data set: give --module and --batches, or both keys in it"
        )
    data = load_dataset(dataset, folder)
    return built_in(plan.architecture, hold_out(data) if held_out else data, device=device)


def _refuse(options: dict[str, Any], reason: str) -> None:
    for option, value in options.items():
        if value:
            raise click.UsageError(f"{option} {reason}")
