"""Errors a user can cause, quantities with units, and the one rounding rule from time to cycles.

Everything inside the package is in base units that the name states (``_bits _bytes _hz _ps _pj _mw _mm2``).
Text with a unit is accepted only where a user writes it (YAML, command line) and is converted here, once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fractions import Fraction


class DchwError(Exception):
    """Every error a user can cause: one sentence with where, what was expected, what arrived and what to do."""


class ConfigError(DchwError):
    """A machine, recipe or standard that does not hold together."""


class FileFormatError(DchwError):
    """A file that is damaged, of an unknown version, or not of the kind its reader expects."""


class SimulationError(DchwError):
    """A run that cannot go on: a deadlock, an overflow of time, or a broken conservation check."""


# One table: unit text -> (dimension, factor to the base unit of that dimension).
# Decimal prefixes are powers of ten, binary ones (Ki, Mi, Gi) powers of two; B is byte, b is bit.
_UNITS: dict[str, tuple[str, Fraction]] = {
    "Hz": ("frequency", Fraction(1)),
    "kHz": ("frequency", Fraction(10**3)),
    "MHz": ("frequency", Fraction(10**6)),
    "GHz": ("frequency", Fraction(10**9)),
    "B": ("size", Fraction(1)),
    "kB": ("size", Fraction(10**3)),
    "MB": ("size", Fraction(10**6)),
    "KiB": ("size", Fraction(2**10)),
    "MiB": ("size", Fraction(2**20)),
    "GiB": ("size", Fraction(2**30)),
    "ps": ("time", Fraction(1)),
    "ns": ("time", Fraction(10**3)),
    "us": ("time", Fraction(10**6)),
    "ms": ("time", Fraction(10**9)),
    "T/s": ("transfer rate", Fraction(1)),
    "MT/s": ("transfer rate", Fraction(10**6)),
    "GT/s": ("transfer rate", Fraction(10**9)),
    "B/s": ("bandwidth", Fraction(1)),
    "MB/s": ("bandwidth", Fraction(10**6)),
    "GB/s": ("bandwidth", Fraction(10**9)),
    "mW": ("power", Fraction(1)),
    "uW": ("power", Fraction(1, 1000)),
    "W": ("power", Fraction(1000)),
    "pJ": ("energy", Fraction(1)),
    "nJ": ("energy", Fraction(1000)),
    "nm": ("length", Fraction(1)),
    "V": ("voltage", Fraction(1)),
    "mA": ("current", Fraction(1)),
    "K": ("temperature", Fraction(1)),
}

BASE_UNITS = {
    "frequency": "Hz",
    "size": "B",
    "time": "ps",
    "transfer rate": "T/s",
    "bandwidth": "B/s",
    "power": "mW",
    "energy": "pJ",
    "length": "nm",
    "voltage": "V",
    "current": "mA",
    "temperature": "K",
}

_QUANTITY = re.compile(r"\s*([+-]?\d[\d_]{0,39}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?)\s*([A-Za-z/]+)\s*")
"""A number of at most 40 digits on each side of the point and two in its exponent: any quantity, quick to read."""


def forgiven(word: str, choices: Iterable[str]) -> str | None:
    """The legal word that a typed one means: case does not count, nor whether ``-``, ``_`` or a space divides."""

    def plain(text: str) -> str:
        return text.casefold().replace("_", "-").replace(" ", "-")

    legal = list(choices)
    return word if word in legal else next((choice for choice in legal if plain(choice) == plain(word)), None)


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint naming the legal words: the nearest one if there is one, all of them otherwise.

    Of equally near ones the one that begins as the word does.
    """
    legal = sorted(choices)
    close = difflib.get_close_matches(word, legal, n=3, cutoff=0.5)
    if close:
        near = difflib.SequenceMatcher(None, word, close[0]).ratio()
        equal = [one for one in close if difflib.SequenceMatcher(None, word, one).ratio() >= near - 1e-9]
        return f"did you mean {next((one for one in equal if one.startswith(word)), close[0])!r}?"
    return "use one of " + ", ".join(repr(c) for c in legal)


def units_of(dimension: str) -> list[str]:
    """The unit texts accepted for a dimension, for error messages."""
    return [unit for unit, (kind, _) in _UNITS.items() if kind == dimension]


def parse_quantity(text: object, dimension: str) -> Fraction:
    """The exact value of ``"800 MHz"`` in the base unit of ``dimension`` (see the unit table).

    Raises ValueError (which configuration readers turn into a ConfigError with the key's path) when the text has
    no unit, an unknown unit, or a unit of another dimension.
    """
    expected = f"a {dimension} with its unit, such as '1 {units_of(dimension)[-1]}'"
    if not isinstance(text, str):
        raise ValueError(
            f"expected {expected}; got {text!r} without a unit; write one of {', '.join(units_of(dimension))}"
        )
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {expected}; got {text!r}")
    number, unit = match.groups()
    if unit not in _UNITS or _UNITS[unit][0] != dimension:
        raise ValueError(f"expected {expected}; got unit {unit!r}; {nearest(unit, units_of(dimension))}")
    return Fraction(number.replace("_", "")) * _UNITS[unit][1]


def split_quantity(value: object) -> tuple[Fraction, str] | None:
    """The exact value of a text with any known unit, in base units, and its dimension; None for anything else."""
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in _UNITS:
        return None
    dimension, factor = _UNITS[match[2]]
    return Fraction(match[1].replace("_", "")) * factor, dimension


def parse_magnitude(value: object) -> float | None:
    """A number, or the number of a text with any known unit in that unit's base; None for what has no magnitude.

    For ordering and plotting values whose dimension is checked elsewhere.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)) or hasattr(value, "__float__"):  # numpy's numbers too
        return float(value)
    found = split_quantity(value)
    return None if found is None else float(found[0])


def format_quantity(value: Fraction | int, dimension: str) -> str:
    """Text that ``parse_quantity`` reads back exactly, in the largest unit that keeps the number a whole one."""
    exact = Fraction(value)
    candidates = [(factor, unit) for unit, (kind, factor) in _UNITS.items() if kind == dimension]
    if dimension == "size":
        candidates = [(f, u) for f, u in candidates if u == "B" or u.endswith("iB")]
    for factor, unit in sorted(candidates, reverse=True):
        if (exact / factor).denominator == 1:
            return f"{exact / factor} {unit}"
    return f"{float(exact)!r} {BASE_UNITS[dimension]}"


def ceil_div(numerator: int, denominator: int) -> int:
    """Whole units needed to hold ``numerator``: the quotient rounded up."""
    return -(-numerator // denominator)


def cycles_of(duration_ps: Fraction | int, clock_hz: int) -> int:
    """Cycles a duration lasts at a clock: rounded up, because hardware waits for the next edge. The one such rule."""
    exact = Fraction(duration_ps) * clock_hz / 10**12
    return ceil_div(exact.numerator, exact.denominator)


def seconds_of(cycles: int, clock_hz: int) -> float:
    """Seconds that a number of cycles lasts."""
    return cycles / clock_hz
