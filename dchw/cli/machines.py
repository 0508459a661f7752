"""``dchw machines``: the presets, or one machine in full."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dchw.cli.output import print_json, print_table
from dchw.cli.running import default_storage

if TYPE_CHECKING:
    from dchw.machines.machine import Machine


@click.command(name="machines")
@click.argument("name", required=False)
@click.option("--ert", type=click.Path(path_type=Path), help="Write NAME's energies as an Accelergy ERT (YAML).")
@click.option("--art", type=click.Path(path_type=Path), help="Write NAME's areas as an Accelergy ART (YAML).")
@click.option(
    "--storage", default=default_storage, show_default="all units", help="Units of this storage format, for the tables."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str | None, ert: Path | None, art: Path | None, storage: str, as_json: bool) -> None:
    """List the machine presets; with NAME (or a YAML file) print that machine as YAML."""
    import pandas as pd
    from ruamel.yaml import YAML

    import dchw
    from dchw.machines.machine import preset_names

    if name is None and (ert is not None or art is not None):
        raise click.UsageError("--ert and --art need the NAME of a machine")
    if name is not None:
        chosen = dchw.machine(name)
        if ert is not None or art is not None:
            _write_tables(chosen, storage, ert, art)
        elif as_json:
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
        print_table("Machine presets", pd.DataFrame(rows), main=("name", "description"))


def _write_tables(chosen: Machine, storage: str, ert: Path | None, art: Path | None) -> None:
    from dchw.reports.ert import area_table, energy_table, write_table

    for path, build in ((ert, energy_table), (art, area_table)):
        if path is not None:
            write_table(build(chosen, storage), path)
            click.echo(f"wrote {path}")
