"""The columns of a study's table: what varied, what came out, what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from dchw.quantities import parse_magnitude
from dchw.studies.points import MACHINE, NETWORK, RECIPE, STORAGE, Space
from dchw.studies.store import ERROR, INDEX

METRICS = MappingProxyType(
    {
        "file_bytes": "int",
        "packed_bytes": "int",
        "dram_read_bytes": "int",
        "dram_write_bytes": "int",
        "bandwidth_gbps": "float",
        "cycles": "int",
        "latency_us": "float",
        "inferences_per_s": "float",
        "inferences_per_j": "float",
        "energy_dram_nj": "float",
        "energy_sram_nj": "float",
        "energy_decode_nj": "float",
        "energy_compute_nj": "float",
        "energy_clock_nj": "float",
        "energy_leakage_nj": "float",
        "energy_nj": "float",
        "energy_low_nj": "float",
        "energy_high_nj": "float",
        "energy_pj": "float",
        "energy_one_chip_nj": "float",
        "leakage_mw": "float",
        "area_mm2": "float",
        "area_one_chip_mm2": "float",
        "error_pct": "float",
        "coverage": "float",
    }
)
"""Figures of a point; less is better in all but bandwidth, inferences and coverage. ``error_pct`` may be missing: not
measured."""
BOUND, MEETS = "bound_by", "meets"
ORIGIN = ("seed", "dchw_version", "network_sha256", "program_digest", "point_sha256")
"""What a row rests on."""


def kinds_of(space: Space, metrics: Iterable[str]) -> dict[str, str]:
    """Columns in order, with their kind."""
    kinds = {INDEX: "int", NETWORK: "str", RECIPE: "str", MACHINE: "str", STORAGE: "str"}
    choices: dict[str, list[object]] = {key: [value] for key, value in space.fixed.items()}
    for axis in space.axes:
        for place, key in enumerate(axis.keys):
            choices[key] = [choice[place] for choice in axis.choices]
    for key in space.keys:
        if key not in kinds:
            kinds[key] = _kind(choices[key]) if key in choices else "float"
    kinds[MEETS] = "bool"
    kinds |= {name: METRICS[name] for name in metrics}
    kinds |= {BOUND: "str", ERROR: "str"}
    return kinds | {name: "int" if name == "seed" else "str" for name in ORIGIN}


def _kind(values: list[object]) -> str:
    kinds = {type(value) for value in values}
    if len(kinds) == 1 and kinds <= {bool, int, float}:
        return kinds.pop().__name__
    if all(not isinstance(value, str) and parse_magnitude(value) is not None for value in values):
        return "float"
    return "str"


def parameters(kinds: Iterable[str]) -> list[str]:
    """The columns that tell points apart."""
    out: list[str] = []
    for name in kinds:
        if name == MEETS:
            return out
        if name != INDEX:
            out.append(name)
    return out
