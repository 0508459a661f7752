"""The codes of a standard's commands: what each line of the command and address bus carries, beat by beat.

Only the energy of the interface uses them, where it is counted by signal edges (`dchw.dram.currents.SignalEdges`).
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from pydantic import model_validator

from dchw.config import Config, Positive
from dchw.dram import records as at

_TOKEN = re.compile(r"(BA|BG|C|R)(\d+)")
FIELDS = {"C": (at.COLUMN_AT, 16), "BA": (at.BANK_AT, 8), "BG": (at.GROUP_AT, 8), "R": (at.ROW_AT, 30)}
"""Where the bits of an address stand in one number (`dchw.dram.records`), and how many there may be."""


class Code(NamedTuple):
    """A command's code as one number, its first beat's first line on top."""

    beats: int
    ones: int
    """Bits that are always high."""
    variable: tuple[tuple[int, int], ...]
    """(bit of the address, bit of the code) for the others."""


class CommandCodes(Config):
    """Lines are written in order, beats divided by ``|``.

    ``H`` and ``L`` are high and low; ``V`` may be either and is driven low; ``R3`` is bit 3 of the row, ``C3`` of the
    column address, ``BA1`` of the bank in its group and ``BG1`` of the bank group. The column address of a burst is
    its number in the row times ``columns_per_burst``. Between commands all lines are low.
    """

    beats_per_clock: Positive
    """Words on the command and address lines in one clock."""
    columns_per_burst: Positive
    """Column addresses that one burst covers."""
    words: dict[str, str]
    """By command: its words, a field per line."""
    source: str
    """Where the codes come from."""

    @property
    def lines(self) -> int:
        """Lines of the bus."""
        return max((len(beat.split()) for word in self.words.values() for beat in word.split("|")), default=0)

    def code(self, command: str) -> Code:
        """One command's code; ValueError where a word is malformed."""
        beats = [beat.split() for beat in self.words[command].split("|")] if self.words[command] else []
        if any(len(beat) != self.lines for beat in beats):
            raise ValueError(
                f"words.{command}: expected {self.lines} lines in every beat, as in other beats; got "
                f"{', '.join(str(len(beat)) for beat in beats)}"
            )
        tokens = [token for beat in beats for token in beat]
        if len(tokens) > at.CODE_BITS:
            raise ValueError(f"words.{command}: expected at most {at.CODE_BITS} bits in all; got {len(tokens)}")
        ones, variable = 0, []
        for place, token in zip(reversed(range(len(tokens))), tokens, strict=True):
            if token == "H":
                ones |= 1 << place
            elif token not in ("L", "V"):
                variable.append((self._bit(command, token), place))
        return Code(len(beats), ones, tuple(variable))

    def _bit(self, command: str, token: str) -> int:
        found = _TOKEN.fullmatch(token)
        if found is not None:
            first, bits = FIELDS[found[1]]
            if int(found[2]) < bits:
                return first + int(found[2])
        known = ", ".join(f"{name}0 to {name}{bits - 1}" for name, (_, bits) in FIELDS.items())
        raise ValueError(f"words.{command}: expected H, L, V, {known}; got {token!r}")

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for command in self.words:
            self.code(command)
        if self.columns_per_burst & (self.columns_per_burst - 1):
            raise ValueError(f"columns_per_burst: expected a power of two; got {self.columns_per_burst}")
        return self
