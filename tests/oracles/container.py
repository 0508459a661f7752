"""The ``.dchw`` file read bit by bit, following its description and nothing else; for files known to be sound."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any


class Bits:
    """Bits of a byte string, lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def bit(self) -> int:
        byte, place = divmod(self.at, 8)
        self.at += 1
        return self.data[byte] >> place & 1

    def field(self, width: int) -> int:
        return sum(self.bit() << i for i in range(width))

    def align(self) -> None:
        while self.at % 8:
            assert self.bit() == 0

    def byte(self) -> int:
        assert self.at % 8 == 0
        return self.field(8)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def raw(self, count: int) -> bytes:
        return bytes(self.byte() for _ in range(count))


def read_file(data: bytes) -> tuple[list[Any], dict[str, bytes]]:
    """The description and the bytes of every tensor."""
    size = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + size])
    value = entries.pop("__metadata__")["dchw"]
    version, _, text = value.partition(".")
    assert version == "1"
    blank = data.replace(text[:5].encode(), b"00000", 1)
    assert zlib.crc32(blank) == int.from_bytes(base64.b85decode(text[:5]), "big")
    from dchw.container.envelope import DICTIONARY

    unpack = zlib.decompressobj(wbits=-15, zdict=DICTIONARY)
    description = json.loads(unpack.decompress(base64.b85decode(text[5:])))
    body = data[8 + size :]
    return description, {name: body[slice(*entry["data_offsets"])] for name, entry in entries.items()}


def read_layer(data: bytes, rows: int, columns: int) -> tuple[list[list[int]], list[float], list[float] | None]:
    """Codes [rows][columns], codebook and biases of one layer."""
    bits = Bits(data)
    first, second, third = bits.byte(), bits.byte(), bits.byte()
    positions, huffman_codes, huffman_gaps = first & 3, first >> 2 & 1, first >> 3 & 1
    codebook_bits, index_bits, limit = (second >> 4) + 1, (third & 15) + 1, (third >> 4) + 1
    chunk = bits.varint() if first >> 6 & 1 else 4096
    used_rows, used_columns, silent = [True] * rows, [True] * columns, False
    if first >> 4 & 1:
        modes = bits.byte()
        used_rows = _axis(bits, modes & 3, rows)
        used_columns = _axis(bits, modes >> 2 & 3, columns)
        silent = bool(modes >> 4)
    k = bits.varint()
    codebook = [0.0, *_values(bits, second & 3, k - 1)]
    biases = None
    if first >> 5 & 1:
        stored = iter(_values(bits, second >> 2 & 3, sum(used_rows) if silent else rows))
        biases = [next(stored) if used or not silent else 0.0 for used in used_rows]
    inner = sum(used_rows) * sum(used_columns)
    entries, mask = inner, None
    if positions < 2:
        entries = bits.varint()
    elif positions == 2:
        mask = [bits.bit() for _ in range(inner)]
        bits.align()
        entries = sum(mask)
    gap_lengths = _table(bits, 0, limit) if positions < 2 and huffman_gaps else None
    code_lengths = _table(bits, 1 if positions in (1, 2) else 0, limit) if huffman_codes else None
    chunks = -(-entries // chunk)
    if gap_lengths is not None:
        [bits.varint() for _ in range(chunks)]
    if code_lengths is not None:
        [bits.varint() for _ in range(chunks - 1)]
    sizes = [min(chunk, entries - i * chunk) for i in range(chunks)]
    gaps = [_chunk(bits, size, gap_lengths, index_bits) for size in sizes] if positions < 2 else []
    largest = 2**index_bits - 1
    if positions == 1:
        sizes = [sum(gap != largest for gap in part) for part in gaps]
    codes = [code for size in sizes for code in _chunk(bits, size, code_lengths, codebook_bits)]
    assert bits.at == 8 * len(data)
    flat = [0] * inner
    if positions == 3:
        flat = codes
    elif mask is not None:
        for where in (i for i, kept in enumerate(mask) if kept):
            flat[where] = codes.pop(0)
    else:
        at = 0
        for gap in (gap for part in gaps for gap in part):
            at += gap
            if positions == 0 or gap != largest:
                flat[at] = codes.pop(0)
                at += 1
        assert not codes
    inside = iter(flat)
    matrix = [[next(inside) if r and c else 0 for c in used_columns] for r in used_rows]
    return matrix, codebook, biases


def _axis(bits: Bits, mode: int, size: int) -> list[bool]:
    if mode == 0:
        return [True] * size
    if mode == 1:
        used = [bool(bits.bit()) for _ in range(size)]
    else:
        used, state = [], mode == 2
        while len(used) < size:
            width = 0
            while not bits.bit():
                width += 1
            used += [state] * (2**width + bits.field(width))
            state = not state
    bits.align()
    return used


def _values(bits: Bits, form: int, count: int) -> list[float]:
    if form == 2:
        step = struct.unpack("<f", bits.raw(4))[0]
        return [
            struct.unpack("<f", struct.pack("<f", n * step))[0] for n in struct.unpack(f"{count}b", bits.raw(count))
        ]
    return list(struct.unpack(f"<{count}{'fe'[form]}", bits.raw(count * (4, 2)[form])))


def _table(bits: Bits, first: int, limit: int) -> dict[int, int]:
    head = bits.varint()
    width, lengths = limit.bit_length(), []
    while len(lengths) < head >> 1:
        length = bits.field(width)
        lengths += [length] if length or not head & 1 else [0] * (bits.field(width) + 1)
    bits.align()
    return {first + i: length for i, length in enumerate(lengths) if length}


def _chunk(bits: Bits, count: int, lengths: dict[int, int] | None, width: int) -> list[int]:
    if lengths is None:
        out = [bits.field(width) for _ in range(count)]
    else:
        words, word, last = {}, 0, 0
        for symbol, length in sorted(lengths.items(), key=lambda item: (item[1], item[0])):
            word <<= length - last
            words[(length, word)] = symbol
            word, last = word + 1, length
        out = []
        for _ in range(count):
            read, length = 0, 0
            while (length, read) not in words:
                read, length = read << 1 | bits.bit(), length + 1
            out.append(words[(length, read)])
    bits.align()
    return out
