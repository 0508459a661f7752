"""Machines that differ in named fields: what ``--set KEY=VALUE,VALUE`` and the ``vary`` of a study file ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from dchw.config import parse_choices
from dchw.machines.machine import Machine, machine_of
from dchw.quantities import ConfigError

EXAMPLE = "huffman.units=4,8,16"
MOST_VARIANTS = 10_000
"""Machines that one command line may ask for."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A machine and the fields in which it differs from the preset or file it comes from."""

    machine: Machine
    changes: Mapping[str, object] = field(default_factory=dict)
    """By dotted key, what was set."""


def parse_settings(settings: Iterable[str]) -> dict[str, list[object]]:
    """Values by key of ``KEY=VALUE[,VALUE...]`` texts; a key that is set twice is an error."""
    found: dict[str, list[object]] = {}
    for text in settings:
        key, values = parse_choices(text, EXAMPLE)
        if key in found:
            raise ConfigError(f"--set {key}: expected once; got it twice; list its values as {key}=A,B")
        if len({repr(value) for value in values}) < len(values):
            raise ConfigError(f"--set {key}: expected values that differ; got {text.partition('=')[2]}; drop the twins")
        found[key] = values
    return found


def variants(on: Machine | str | Path, choices: Mapping[str, Sequence[object]]) -> list[Variant]:
    """Every combination of the chosen values on a machine, the last key varying fastest; each is checked whole."""
    base = machine_of(on)
    count = 1
    for values in choices.values():
        count *= len(values)
    if count > MOST_VARIANTS:
        raise ConfigError(
            f"machine {base.name!r}: expected at most {MOST_VARIANTS:,} combinations; got {count:,}; "
            "write a study file and run it with 'dchw sweep'"
        )
    return [varied(base, dict(zip(choices, values, strict=True))) for values in product(*choices.values())]


def varied(base: Machine, changes: Mapping[str, object]) -> Variant:
    """The machine with some fields changed at once; a fault names the machine and what was set."""
    if not changes:
        return Variant(machine=base)
    try:
        return Variant(machine=base.replace_all(changes), changes=changes)
    except ConfigError as error:
        asked = ", ".join(f"{key}={value}" for key, value in changes.items())
        raise ConfigError(f"{base.name} with {asked}: {error}") from None
