"""``dchw list``: every name that stands for something: networks, machines, recipes, storage formats, standards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import click

from dchw.cli.output import print_json, print_table
from dchw.quantities import DchwError, forgiven, nearest


def _networks() -> dict[str, str]:
    from dchw.importers.load import built_in_names

    return built_in_names()


def _machines() -> dict[str, str]:
    from dchw.machines.machine import machine, preset_names

    return {name: machine(name).description for name in preset_names()}


def _recipes() -> dict[str, str]:
    from importlib.resources import files

    found = sorted(entry.name for entry in files("dchw.training").iterdir() if entry.name.endswith(".yaml"))
    # told from the files, because reading one needs torch
    return dict.fromkeys((name.removesuffix(".yaml") for name in found), "pruned, shared and fine-tuned on digits")


def _formats() -> dict[str, str]:
    from dchw.formats import STORAGE_FORMATS

    return {name: form.summary for name, form in STORAGE_FORMATS.items()}


def _standards() -> dict[str, str]:
    from dchw.dram.standard import standard, standard_names

    found = {}
    for one in map(standard, standard_names()):
        part = one.organisation
        rate = one.clock.data_rate // 10**6
        found[one.name] = f"{part.channel_bits} data lines a channel at {rate:,} MT/s, {part.banks} banks a rank"
    return found


SUBJECTS: Mapping[str, tuple[str, Callable[[], dict[str, str]]]] = MappingProxyType(
    {
        "networks": ("Networks: a name for 'dchw compare', 'simulate', 'report', 'compress'", _networks),
        "machines": ("Machines: a name for --machine", _machines),
        "recipes": ("Recipes: a name for 'dchw train'", _recipes),
        "formats": ("Storage formats: a name for --storage", _formats),
        "standards": ("DRAM standards: a name for 'dchw replay --dram' and a machine's dram.standard", _standards),
    }
)
"""What can be listed, its heading, and who lists it."""


@click.command(name="list")
@click.argument("subject", required=False, metavar="[" + "|".join(SUBJECTS) + "]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(subject: str | None, as_json: bool) -> None:
    """Every built-in name, or those of one subject, with what each stands for.

    Case does not count where a name is typed, nor does ``_`` for ``-``.
    """
    import pandas as pd

    chosen = subject if subject is None else forgiven(subject, SUBJECTS)
    if subject is not None and chosen is None:
        raise DchwError(f"list {subject!r}: no such subject; {nearest(subject, SUBJECTS)}")
    found = {name: listed() for name, (_, listed) in SUBJECTS.items() if chosen in (None, name)}
    if as_json:
        print_json("list", found)
        return
    for name, rows in found.items():
        print_table(SUBJECTS[name][0], pd.DataFrame({"name": list(rows), "what": list(rows.values())}))
