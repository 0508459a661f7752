"""``dchw machines``: the presets, or one machine in full."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
@click.option(
    "--explain", metavar="KEY", help="What a key such as huffman.units means and takes, or those in a section."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    name: str | None, ert: Path | None, art: Path | None, storage: str, explain: str | None, as_json: bool
) -> None:
    """List the machine presets; with NAME (or a YAML file) print that machine as YAML.

    --explain huffman.units says what a key means, takes and is in the presets; --explain huffman does so for a section.
    """
    import pandas as pd
    from ruamel.yaml import YAML

    import dchw
    from dchw.machines.machine import preset_names

    if name is None and (ert is not None or art is not None):
        raise click.UsageError("--ert and --art need the NAME of a machine")
    if explain is not None:
        _explain(explain, preset_names() if name is None else [name], as_json)
        return
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


def _explain(path: str, machine_names: Sequence[str], as_json: bool) -> None:
    """What a key means and takes, and what the machines have there."""
    import pandas as pd

    import dchw
    from dchw.keys import explained, file_kind

    found = explained(file_kind("machine"), path)
    machines = [dchw.machine(name) for name in machine_names]
    values = {one.name: [_value(one, key.path) for key in found] for one in machines}
    if as_json:
        rows = [{"key": k.path, "takes": k.kind, "default": k.default, "text": k.text} for k in found]
        print_json(
            "key", {"rows": [{**row, "values": {n: v[i] for n, v in values.items()}} for i, row in enumerate(rows)]}
        )
        return
    for key in found:
        default = "must be written" if not key.default else f"default {key.default}"
        click.echo(f"{key.path}: {key.kind}" + ("" if key.is_section else f"; {default}"))
        click.echo(click.wrap_text(key.text.replace("``", "").replace("`", ""), 76, "    ", "    "))
    leaves = [i for i, key in enumerate(found) if not key.is_section]
    table = pd.DataFrame(
        {"key": [found[i].path for i in leaves]} | {n: [str(v[i]) for i in leaves] for n, v in values.items()}
    )
    if leaves:
        print_table("What it is in " + ("the presets" if len(machines) > 1 else machines[0].name), table)


def _value(chosen: Machine, path: str) -> object:
    at: object = chosen.dump()
    for key in path.split("."):
        at = at.get(key) if isinstance(at, dict) else None
    return at


def _write_tables(chosen: Machine, storage: str, ert: Path | None, art: Path | None) -> None:
    from dchw.reports.ert import area_table, energy_table, write_table

    for path, build in ((ert, energy_table), (art, area_table)):
        if path is not None:
            write_table(build(chosen, storage), path)
            click.echo(f"wrote {path}")
