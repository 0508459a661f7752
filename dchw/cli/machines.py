"""``dchw machines``: the presets, or one machine in full."""

from __future__ import annotations

import sys

import click

from dchw.cli.output import print_json, print_table


@click.command(name="machines")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str | None, as_json: bool) -> None:
    """List the machine presets; with NAME (or a YAML file) print that machine as YAML."""
    import pandas as pd
    from ruamel.yaml import YAML

    import dchw
    from dchw.hardware.machine import preset_names

    if name is not None:
        chosen = dchw.machine(name)
        if as_json:
            print_json("machine", chosen.dump())
        else:
            writer = YAML()
            writer.dump(chosen.dump(), sys.stdout)
        return
    rows = []
    for preset in preset_names():
        found = dchw.machine(preset)
        rows.append(
            {
                "name": found.name,
                "clock_mhz": found.clock_hz // 10**6,
                "macs_per_cycle": found.pe_array.macs_per_cycle,
                "dram": found.dram.standard or "fixed",
                "channels": found.dram.channels,
                "weight_sram_kib": found.weight_sram.size_bytes // 1024,
                "decode_units": found.huffman.units,
                "description": found.description,
            }
        )
    if as_json:
        print_json("machines", {"rows": rows})
    else:
        print_table("Machine presets", pd.DataFrame(rows))
