"""Whole numbers of variable length, and a reader of bytes that names the field it could not read.

A varint holds a whole number in groups of 7 bits, lowest first, the top bit of a byte saying that another follows
(LEB128). Only the shortest form is legal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.quantities import FileFormatError

_MOST_BYTES = 9
"""63 bits: every legal number fits a signed 64-bit integer."""


def varint(value: int) -> bytes:
    """The shortest bytes of a whole number from 0 to 2**63 - 1."""
    assert 0 <= value < 1 << 63
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Bytes read from the front, field by field."""

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        self.data = data
        self.position = 0

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.position

    def take(self, count: int, field: str) -> npt.NDArray[np.uint8]:
        """The next ``count`` bytes."""
        if count > self.remaining:
            raise FileFormatError(f"{field}: expected {count} bytes; got {self.remaining}")
        self.position += count
        return self.data[self.position - count : self.position]

    def byte(self, field: str) -> int:
        """The next byte."""
        return int(self.take(1, field)[0])

    def varint(self, field: str) -> int:
        """The next varint."""
        value = 0
        for i in range(_MOST_BYTES):
            byte = self.byte(field)
            value |= (byte & 127) << 7 * i
            if byte < 128:
                if byte == 0 and i:
                    break
                return value
        raise FileFormatError(f"{field}: expected a varint of at most {_MOST_BYTES} bytes in its shortest form")
