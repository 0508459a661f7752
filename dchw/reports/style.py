"""How numbers, names and colours appear in every table and figure of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dchw.machines.machine import Machine

PREFIXES = ((1e-12, "p"), (1e-9, "n"), (1e-6, "µ"), (1e-3, "m"), (1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))

UNITS = {name: face.label for name, face in Machine.faces().items()}
"""Units of every machine as readers call them, from memory to results."""

BLACK, ORANGE, SKY, GREEN = "#4d4d4d", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#999999"
"""Okabe and Ito's colours, told apart by people with any common colour vision; a grey instead of black, which a dark
page would hide."""


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What stands above a report besides its subject."""

    title: str = ""
    """Instead of the one that names network and machine."""
    author: str = ""
    date: str = ""
    """As it is to be printed; a report is not dated by itself, so that equal results give equal bytes."""


@dataclass(frozen=True)
class Look:
    """A colour and the pattern that tells it apart in print and without colour (a plotly pattern shape)."""

    colour: str
    pattern: str = ""


CATEGORIES = {
    "DRAM": Look(BLUE),
    "SRAM": Look(SKY, "/"),
    "decode": Look(VERMILLION, "x"),
    "compute": Look(ORANGE, "\\"),
    "clock": Look(GREEN, "."),
    "leakage": Look(GREY, "-"),
}
STREAMS = {
    "weights": Look(BLUE),
    "codes": Look(ORANGE, "/"),
    "gaps": Look(SKY, "\\"),
    "pointers": Look(GREEN, "x"),
    "code_tables": Look(YELLOW, "|"),
    "chunk_tables": Look(VERMILLION, "-"),
    "codebooks": Look(PURPLE, "+"),
    "biases": Look(BLACK, "."),
    "activations": Look(GREY),
    "partial_sums": Look(BLUE, "x"),
    "outputs": Look(GREY, "/"),
}
STATES = {"busy": Look(BLUE), "stall": Look(VERMILLION, "/"), "idle": Look("rgba(150, 150, 150, 0.25)")}
BEFORE, AFTER = Look(ORANGE, "/"), Look(BLUE)
SERIES = (
    Look(BLUE),
    Look(ORANGE, "/"),
    Look(GREEN, "x"),
    Look(SKY, "\\"),
    Look(VERMILLION, "-"),
    Look(PURPLE, "+"),
    Look(YELLOW, "|"),
    Look(GREY, "."),
)
"""For what has no colour of its own, such as layers."""


def unit_name(unit: str) -> str:
    """A unit as readers call it; unknown ones with spaces for underscores."""
    return UNITS.get(unit, unit.replace("_", " "))


def unit_rank(unit: str) -> int:
    """Place of a unit in tables and figures; those of one machine only come behind the others."""
    known = list(UNITS)
    return known.index(unit) if unit in known else len(known)


def number(value: float, digits: int = 3) -> str:
    """``digits`` significant digits, thousands separated by a thin space that stays in its line; a dash for nothing."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    rounded = round(value, digits - 1 - magnitude)
    if magnitude < -4:
        return f"{value:.{digits - 1}e}"
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}".replace(",", "\u202f")


def whole(value: float) -> str:
    """All digits of a whole number, thousands separated by a thin space that stays in its line."""
    return f"{round(value):,}".replace(",", "\u202f")


def prefix(values: Iterable[float]) -> tuple[float, str]:
    """The decimal prefix that gives the largest of some values one to three digits before the point."""
    top = max((abs(value) for value in values), default=0.0)
    fitting = [(factor, name) for factor, name in PREFIXES if top >= factor]
    return fitting[-1] if fitting else (1.0, "")


def quantity(value: float, unit: str) -> str:
    """A value in its base unit, with prefix and unit."""
    factor, name = prefix([value])
    return f"{number(value / factor)} {name}{unit}"
