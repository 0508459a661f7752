"""``dchw demo``: the whole way in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dchw.cli.output import print_json, progress, say
from dchw.cli.running import RunNotes, comparison_notes, print_comparison


@click.command(name="demo")
@click.option("--out", type=click.Path(path_type=Path), default="dchw-demo", show_default=True, help="Folder to write.")
@click.option("--machine", "machine_name", default="phone-lpddr5x", show_default=True, help="Preset or YAML file.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(out: Path, machine_name: str, seed: int, as_json: bool) -> None:
    """Train LeNet-300-100 on bundled digits, compress it, simulate it before and after, write a report."""
    from dchw.demo import run_demo

    with progress() as bar:
        tasks: dict[str, Any] = {}

        def report(task: str, done: int, total: int) -> None:
            if task not in tasks:
                tasks[task] = bar.add_task(task, total=total)
            bar.update(tasks[task], completed=done)

        def announce(line: str) -> None:
            say(bar, line)

        demo = run_demo(out, machine_name=machine_name, seed=seed, progress=report, on_stage=announce)
    last = RunNotes.of(list(demo.results.values())[-1])
    notes = comparison_notes(demo.network, demo.table, last, brief=not as_json)
    trained = demo.training
    notes.append(
        f"Error on the test digits: {trained['dense_error_percent']:.2f} % dense, "
        f"{trained['pruned_error_percent']:.2f} % pruned to {100 * trained['density']:.1f} % of the weights, "
        f"{trained['error_percent']:.2f} % with shared weights (seed {seed}). 'error %' of a row is of its weights; "
        "rounding activations to bytes, where a row multiplies bytes, is not in it."
    )
    notes.append("Decoding the file gave back every bit.")
    notes.append(f"Report: {demo.report}")
    if as_json:
        rows = demo.table.to_dict("records")
        content = {"network": demo.network.name, "machine": demo.machine.name, "training": trained}
        print_json("demo", {**content, "rows": rows, "notes": notes, "report": str(demo.report)})
        return
    print_comparison(f"{demo.network.name} on {demo.machine.name}, before and after compression", demo.table, notes)
