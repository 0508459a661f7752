"""From byte addresses to channel, bank, row and column: named mappings, or any order of bits a user gives.

An order is written from the highest bits to the lowest, fields joined by ``-``: ``ro-ba-bg-ra-co-ch``. A field may
appear in parts, all but one with their number of bits: ``ro-co-ba-bg-ra-co2-ch`` keeps the two lowest column bits at
the bottom. Below the lowest field lie the bits inside one burst. Addresses beyond the capacity wrap around.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.dram.options import FixedMemory
from dchw.dram.standard import Standard
from dchw.quantities import ConfigError, nearest

Ints = npt.NDArray[np.int64]

FIELDS = ("ch", "ra", "bg", "ba", "ro", "co")
"""Channel, rank, bank group, bank (in its group), row and column (burst in the row)."""
MAPPINGS = {"robaracoch": ("ro-ba-bg-ra-co-ch", False), "mop4clxor": ("ro-co-ba-bg-ra-co2-ch", True)}
"""Order of bits, and whether rank, bank group, bank and row are XORed with successive bits of the column."""
_CHANNEL, _RANK, _GROUP, _BANK, _ROW, _COLUMN = range(6)
_WIDTHS = 2  # places of a map: bits inside a burst, XOR or not, widths of the six fields, then the parts
_PARTS = _WIDTHS + 6


def address_map(source: Standard | FixedMemory, mapping: str = "robaracoch", channels: int = 1) -> Ints:
    """A mapping as the integers that ``locate`` reads.

    ``mapping`` is a name of MAPPINGS or an order of bits. Raises ConfigError for unknown fields and where the bits
    of an order are not those of the organisation.
    """
    if channels < 1 or channels & (channels - 1):
        raise ConfigError(f"channels: expected a power of two, because addresses are split by bits; got {channels}")
    if isinstance(source, FixedMemory):
        sizes = (channels, 1, 1, 1, max(1, source.capacity // source.burst_size // channels), 1)
        burst, order, xor = source.burst_size, "ro-ba-bg-ra-co-ch", False
    else:
        org = source.organisation
        sizes = (channels, org.ranks, org.bank_groups, org.banks_per_group, org.rows, org.columns)
        burst = org.burst_size
        order, xor = MAPPINGS.get(mapping, (mapping, False))
    widths = [(size - 1).bit_length() for size in sizes]
    place = [0] * 6
    parts: list[int] = []
    for field, bits in reversed(_read_order(order, widths)):
        parts += [field, bits, place[field]]
        place[field] += bits
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


@kernel
def locate(bits: Ints, address: int) -> tuple[int, int, int, int]:
    """Channel, bank (numbered through the ranks of its channel), row and column of a byte address."""
    rest = address >> bits[0]
    channel = rank = group = bank = row = column = 0
    for part in range(_PARTS, len(bits), 3):
        field = bits[part]
        value = (rest & ((1 << bits[part + 1]) - 1)) << bits[part + 2]
        rest >>= bits[part + 1]
        if field == _CHANNEL:
            channel |= value
        elif field == _RANK:
            rank |= value
        elif field == _GROUP:
            group |= value
        elif field == _BANK:
            bank |= value
        elif field == _ROW:
            row |= value
        else:
            column |= value
    if bits[1]:
        mixed = column
        rank ^= mixed & ((1 << bits[_WIDTHS + _RANK]) - 1)
        mixed >>= bits[_WIDTHS + _RANK]
        group ^= mixed & ((1 << bits[_WIDTHS + _GROUP]) - 1)
        mixed >>= bits[_WIDTHS + _GROUP]
        bank ^= mixed & ((1 << bits[_WIDTHS + _BANK]) - 1)
        mixed >>= bits[_WIDTHS + _BANK]
        row ^= mixed & ((1 << bits[_WIDTHS + _ROW]) - 1)
    groups, banks = bits[_WIDTHS + _GROUP], bits[_WIDTHS + _BANK]
    return channel, (((rank << groups) | group) << banks) | bank, row, column
