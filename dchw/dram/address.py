"""From byte addresses to channel, bank, row and column: named mappings, or any order of bits a user gives.

An order is written from the highest bits to the lowest, fields joined by ``-``: ``ro-ba-bg-ra-co-ch``. A field may
appear in parts, all but one with their number of bits: ``ro-co-ba-bg-ra-co2-ch`` keeps the two lowest column bits at
the bottom. Below the lowest field lie the bits inside one burst. Addresses beyond the capacity wrap around.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from dchw.compile import inlined
from dchw.dram.options import FixedMemory
from dchw.dram.standard import Standard
from dchw.quantities import ConfigError, nearest

Ints = npt.NDArray[np.int64]

FIELDS = ("co", "ro", "ba", "bg", "ra", "ch")
"""Column (burst in the row), row, bank (in its group), bank group, rank and channel."""
MAPPINGS = {"robaracoch": ("ro-ba-bg-ra-co-ch", False), "mop4clxor": ("ro-co-ba-bg-ra-co2-ch", True)}
"""Order of bits, and whether rank, bank group, bank and row are XORed with successive bits of the column."""
_COLUMN, _ROW, _BANK, _GROUP, _RANK = range(5)
# places of a map: bits inside a burst, XOR or not, widths of the six fields, then the parts from the lowest address
# bits up: how many bits and where they go to, with the fields side by side in the order of FIELDS
_WIDTHS = 2
_PARTS = _WIDTHS + 6


def address_map(source: Standard | FixedMemory, mapping: str = "robaracoch", channels: int = 1) -> Ints:
    """A mapping as the integers that ``locate`` reads.

    ``mapping`` is a name of MAPPINGS or an order of bits. Raises ConfigError for unknown fields and where the bits
    of an order are not those of the organisation.
    """
    if channels < 1 or channels & (channels - 1):
        raise ConfigError(f"channels: expected a power of two, because addresses are split by bits; got {channels}")
    if isinstance(source, FixedMemory):
        sizes = (1, max(1, source.capacity // source.burst_size // channels), 1, 1, 1, channels)
        burst, order, xor = source.burst_size, "ro-ba-bg-ra-co-ch", False
    else:
        org = source.organisation
        sizes = (org.columns, org.rows, org.banks_per_group, org.bank_groups, org.ranks, channels)
        burst = org.burst_size
        order, xor = MAPPINGS.get(mapping, (mapping, False))
    widths = [(size - 1).bit_length() for size in sizes]
    parts: list[int] = []
    taken = [sum(widths[:field]) for field in range(len(FIELDS))]
    for field, bits in reversed(_read_order(order, widths)):
        parts += [bits, taken[field]] if bits else []
        taken[field] += bits
    return np.array([(burst - 1).bit_length(), int(xor), *widths, *parts], np.int64)


def _read_order(order: str, widths: list[int]) -> list[tuple[int, int]]:
    """(field, bits) from the highest to the lowest."""
    parts: list[tuple[int, int | None]] = []
    for text in order.lower().split("-"):
        match = re.fullmatch(r"([a-z]+)(\d+)?", text)
        if match is None or match[1] not in FIELDS:
            known = nearest(match[1] if match else text, [*FIELDS, *MAPPINGS])
            raise ConfigError(f"mapping {order!r}: expected fields such as 'ro-ba-bg-ra-co-ch'; got {text!r}; {known}")
        parts.append((FIELDS.index(match[1]), None if match[2] is None else int(match[2])))
    out: list[tuple[int, int]] = []
    for number, (field, bits) in enumerate(parts):
        if bits is None:
            others = [b for other, (f, b) in enumerate(parts) if f == field and other != number]
            if None in others:
                raise ConfigError(
                    f"mapping {order!r}: {FIELDS[field]!r} appears twice without a number of bits; give one of them"
                )
            bits = widths[field] - sum(b for b in others if b is not None)
        out.append((field, bits))
    for field, name in enumerate(FIELDS):
        given = sum(bits for f, bits in out if f == field)
        if given != widths[field] or any(bits < 0 for f, bits in out if f == field):
            raise ConfigError(
                f"mapping {order!r} and organisation: {name!r} has {widths[field]} address bits; "
                f"the mapping gives {given}"
            )
    return out


@inlined
def locate(bits: Ints, address: int) -> tuple[int, int, int, int]:
    """Channel, bank (numbered through the ranks of its channel), row and column of a byte address."""
    rest = address >> bits[0]
    place = 0
    for part in range(_PARTS, len(bits), 2):
        place |= (rest & ((1 << bits[part]) - 1)) << bits[part + 1]
        rest >>= bits[part]
    columns, rows, banks = bits[_WIDTHS + _COLUMN], bits[_WIDTHS + _ROW], bits[_WIDTHS + _BANK]
    groups, ranks = bits[_WIDTHS + _GROUP], bits[_WIDTHS + _RANK]
    column = place & ((1 << columns) - 1)
    place >>= columns
    if bits[1]:
        # rank, bank group, bank and row in turn, each with as many of the column's bits as it has
        in_row = column >> (ranks + groups + banks)
        in_bank = (column >> (ranks + groups)) & ((1 << banks) - 1)
        in_group = (column >> ranks) & ((1 << groups) - 1)
        in_rank = column & ((1 << ranks) - 1)
        place ^= (in_row & ((1 << rows) - 1)) | (in_bank << rows)
        place ^= (in_group << (rows + banks)) | (in_rank << (rows + banks + groups))
    row = place & ((1 << rows) - 1)
    place >>= rows
    bank = place & ((1 << (banks + groups + ranks)) - 1)
    return place >> (banks + groups + ranks), bank, row, column
