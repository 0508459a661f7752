"""``dchw estimate``: what runs will take, before they run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dchw.cli.output import print_json, print_table
from dchw.cli.running import default_storage, load_compressed, machines_option, setting_option
from dchw.extras import require

if TYPE_CHECKING:
    from dchw.run.estimate import Estimate
    from dchw.studies.variants import Variant

_CLIFF_COLUMNS = {
    "weight_sram_bytes": "weight SRAM B",
    "weight_bytes": "weights B",
    "resident_bytes": "stay B",
    "layers_that_stay": "layers that stay",
    "cold_dram_bytes": "first inference B",
    "warm_dram_bytes": "every other B",
}
_CLIFF_MAIN = ("storage", "weight SRAM B", "stay B", "first inference B", "every other B")
_FRAME_COLUMNS = ("storage", "frames", "cold_dram_bytes", "warm_dram_bytes", "frame_dram_bytes")
_FRAME_MAIN = ("storage", "frames", "a frame B")


@click.command(name="estimate")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@machines_option
@setting_option
@click.option("--storage", multiple=True, help="Storage format of the weights; repeatable.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--warm", is_flag=True, help="Weights that fit are in the weight SRAM already.")
@click.option(
    "--cliff",
    "cliff_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also DRAM bytes against the size of the weight SRAM, dense and compressed, as a figure (.svg, .pdf, .png) or "
    "rows (.csv); --storage chooses formats.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    multiple=True,
    help="Also DRAM bytes of a frame where so many are worked after one cold start; repeatable.",
)
@click.option("--prototxt", type=click.Path(path_type=Path), help="Caffe network of a released .net file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    networks: tuple[str, ...],
    machine_names: tuple[str, ...],
    settings: tuple[str, ...],
    storage: tuple[str, ...],
    batch: int,
    warm: bool,
    cliff_file: Path | None,
    frames: tuple[int, ...],
    prototxt: Path | None,
    as_json: bool,
) -> None:
    """Say how many seconds, how much memory and how many DRAM bytes runs will take.

    Each NETWORK (a .dchw file, a published release or a built-in name) is mapped on each machine, and for every
    combination of values where there are lists (--set huffman.units=4,8,16); nothing is run.
    """
    import pandas as pd

    import dchw
    from dchw.run.cliff import STORAGES, over_frames
    from dchw.run.estimate import LEFT_OUT
    from dchw.studies.variants import parse_settings, variants

    choices = parse_settings(settings)
    chosen = [variant for name in machine_names for variant in variants(name, choices)]
    if cliff_file is not None and len(networks) * len(chosen) > 1:
        raise click.UsageError("--cliff draws one network on one machine; name one of each, and one value of each key")
    if cliff_file is not None and cliff_file.suffix != ".csv":
        require(str(cliff_file), "matplotlib")
    loaded = [load_compressed(path, prototxt) for path in networks]
    pairs = [(network, variant) for network in loaded for variant in chosen]
    rows = [
        _row(dchw.estimate(network, variant.machine, form, batch=batch, warm=warm), variant)
        for network, variant in pairs
        for form in storage or (default_storage(),)
    ]
    edge = None
    if cliff_file is not None:
        edge = dchw.cliff(loaded[0], chosen[0].machine, storage or STORAGES, batch=batch)
        edge.write(cliff_file)
    many = []
    for network, variant in pairs if frames else ():
        told = over_frames(network, variant.machine, storage or STORAGES, frames=frames, batch=batch)
        which = {"network": network.name, "machine": variant.machine.name, **variant.changes}
        many.append(pd.DataFrame([{**which, **row} for row in told.to_dict("records")]))
    per_frame = pd.concat(many)[["network", "machine", *choices, *_FRAME_COLUMNS]] if many else None
    if as_json:
        content: dict[str, object] = {"rows": rows, "notes": LEFT_OUT}
        if edge is not None:
            content["cliff"] = {"rows": edge.frame.to_dict("records"), "notes": edge.sentences}
        if per_frame is not None:
            content["frames"] = per_frame.to_dict("records")
        print_json("estimate", content)
        return
    frame = pd.DataFrame(rows)
    frame["seconds"] = [float(f"{value:.2g}") for value in frame["seconds"]]
    frame["memory MiB"] = [round(value / 2**20, -1) for value in frame.pop("memory_bytes")]
    names = {"dram_read_bytes": "DRAM read B", "dram_write_bytes": "DRAM write B"}
    main = ["network", "machine", *choices, "storage", "seconds", "memory MiB", "DRAM read B"]
    print_table("Before running, about", frame.rename(columns=names), LEFT_OUT, main=main)
    if edge is not None:
        shown = edge.frame.rename(columns=_CLIFF_COLUMNS)
        note = f"Written to {cliff_file}."
        print_table("DRAM bytes against the weight SRAM", shown, (*edge.sentences, note), main=list(_CLIFF_MAIN))
    if per_frame is not None:
        per_frame["frame_dram_bytes"] = per_frame["frame_dram_bytes"].round().astype(int)
        named = per_frame.rename(columns={**_CLIFF_COLUMNS, "frame_dram_bytes": "a frame B"})
        print_table("DRAM bytes of a frame, the first of so many cold", named, main=["network", *choices, *_FRAME_MAIN])


def _row(found: Estimate, variant: Variant) -> dict[str, object]:
    """A line of the table: network and machine, what of it was set, and what a run will take."""
    told = asdict(found)
    del told["left_out"]
    return {"network": told.pop("network"), "machine": told.pop("machine"), **variant.changes, **told}
