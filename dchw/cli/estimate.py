"""``dchw estimate``: what runs will take, before they run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dchw.cli.output import print_json, print_table
from dchw.cli.running import chosen_machine, default_storage, load_compressed, machines_option, setting_option


@click.command(name="estimate")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@machines_option
@setting_option
@click.option("--storage", multiple=True, help="Storage format of the weights; repeatable.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--warm", is_flag=True, help="Weights that fit are in the weight SRAM already.")
@click.option("--prototxt", type=click.Path(path_type=Path), help="Caffe network of a released .net file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    networks: tuple[str, ...],
    machine_names: tuple[str, ...],
    settings: tuple[str, ...],
    storage: tuple[str, ...],
    batch: int,
    warm: bool,
    prototxt: Path | None,
    as_json: bool,
) -> None:
    """Say how many seconds, how much memory and how many DRAM bytes runs will take.

    Each NETWORK (a .dchw file, a published release or a built-in name) is mapped on each machine; nothing is run.
    """
    import pandas as pd

    import dchw
    from dchw.run.estimate import LEFT_OUT

    machines = [chosen_machine(name, settings) for name in machine_names]
    found = [
        dchw.estimate(network, target, form, batch=batch, warm=warm)
        for network in (load_compressed(path, prototxt) for path in networks)
        for target in machines
        for form in storage or (default_storage(),)
    ]
    rows = [{key: value for key, value in asdict(one).items() if key != "left_out"} for one in found]
    if as_json:
        print_json("estimate", {"rows": rows, "notes": LEFT_OUT})
        return
    frame = pd.DataFrame(rows)
    frame["seconds"] = [float(f"{value:.2g}") for value in frame["seconds"]]
    frame["memory MiB"] = [round(value / 2**20, -1) for value in frame.pop("memory_bytes")]
    names = {"dram_read_bytes": "DRAM read B", "dram_write_bytes": "DRAM write B"}
    main = ["network", "machine", "storage", "seconds", "memory MiB", "DRAM read B"]
    print_table("Before running, about", frame.rename(columns=names), LEFT_OUT, main=main)
