"""Traces as lines of text, one burst each, as Ramulator and DRAMsim3 read them; gzip by the file name."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from dchw.compile import kernel
from dchw.quantities import FileFormatError
from dchw.traces.chunk import CHUNK, Requests, requests

Lines = Literal["ramulator", "dramsim3"]
_BLOCK = 1 << 22
_EXPECTED = {
    "ramulator": "'LD ADDRESS' or 'ST ADDRESS' with a decimal or 0x address",
    "dramsim3": "'HEX-ADDRESS READ CLOCK' or 'HEX-ADDRESS WRITE CLOCK'",
}


def open_text(path: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    """A text file, through gzip where its name says so."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, mode)  # type: ignore[return-value]
    return open(path, mode)


def read_lines(path: Path, kind: Lines | None, burst_bytes: int) -> Iterator[Requests]:
    """The requests of a file, each of ``burst_bytes``; its first line tells the format where ``kind`` is None."""
    line = 1
    rest = b""
    with open_text(path, "rb") as file:
        while True:
            try:
                block = file.read(_BLOCK)
            except (OSError, EOFError) as error:
                raise FileFormatError(f"{path}: cannot be read ({error}); write it again") from None
            text = rest + block
            if not text:
                return
            if block:
                end = text.rfind(b"\n") + 1
                text, rest = text[:end], text[end:]
            else:
                text, rest = text + b"\n", b""
            if kind is None and text.strip():
                kind = "ramulator" if text.split(None, 1)[0] in (b"LD", b"ST") else "dramsim3"
            data = np.frombuffer(text, np.uint8)
            room = int(np.count_nonzero(data == ord("\n")))
            address, cycle = np.empty(room, np.int64), np.zeros(room, np.int64)
            is_write = np.empty(room, np.bool_)
            parse = _parse_ramulator if kind == "ramulator" else _parse_dramsim3
            found, bad = parse(data, address, is_write, cycle)
            if bad >= 0:
                wrong = text.split(b"\n")[bad].decode("utf-8", "replace").strip()
                raise FileFormatError(
                    f"{path}, line {line + bad}: expected {_EXPECTED[kind or 'dramsim3']}; got {wrong[:60]!r}"
                )
            line += room
            for at in range(0, found, CHUNK):
                part = slice(at, min(at + CHUNK, found))
                yield requests(address[part], is_write[part], size_bytes=burst_bytes, cycle=cycle[part])


_SPACE, _NEWLINE, _TAB, _RETURN, _ZERO, _NINE, _X = 32, 10, 9, 13, 48, 57, 120
_MAX = (1 << 62) // 16


@kernel
def _skip_spaces(data: Any, at: int) -> int:
    while data[at] == _SPACE or data[at] == _TAB or data[at] == _RETURN:
        at += 1
    return at


@kernel
def _word(data: Any, at: int) -> int:
    # the end of the word that starts here; every block ends with a newline
    while data[at] != _SPACE and data[at] != _TAB and data[at] != _RETURN and data[at] != _NEWLINE:
        at += 1
    return at


@kernel
def _number(data: Any, at: int, end: int, always_hex: bool) -> int:
    # the value of a decimal or 0x number, -1 if it is none or beyond 2**62
    base = 16 if always_hex else 10
    if end - at > 2 and data[at] == _ZERO and (data[at + 1] | 32) == _X:
        base = 16
        at += 2
    if at == end:
        return -1
    value = 0
    while at < end:
        digit = int(data[at]) - _ZERO
        if digit < 0 or digit > 9:
            digit = (int(data[at]) | 32) - 87
            if digit < 10 or digit >= base:
                return -1
        if value >= _MAX:
            return -1
        value = value * base + digit
        at += 1
    return value


@kernel
def _is_word(data: Any, at: int, end: int, word: Any) -> bool:
    if end - at != len(word):
        return False
    for k in range(len(word)):  # noqa: SIM110  kernels have no generators
        if data[at + k] != word[k]:
            return False
    return True


_LD, _ST = (np.frombuffer(word, np.uint8) for word in (b"LD", b"ST"))
_READ, _WRITE, _P_MEM_WR, _BOFF = (np.frombuffer(word, np.uint8) for word in (b"READ", b"WRITE", b"P_MEM_WR", b"BOFF"))


@kernel
def _parse_ramulator(data: Any, address: Any, is_write: Any, cycle: Any) -> tuple[int, int]:
    """Requests found, and the first malformed line (-1 if none)."""
    at = found = line = 0
    while at < len(data):
        at = _skip_spaces(data, at)
        if data[at] != _NEWLINE:
            end = _word(data, at)
            if _is_word(data, at, end, _ST):
                is_write[found] = True
            elif _is_word(data, at, end, _LD):
                is_write[found] = False
            else:
                return found, line
            at = _skip_spaces(data, end)
            end = _word(data, at)
            address[found] = _number(data, at, end, False)
            at = _skip_spaces(data, end)
            if address[found] < 0 or data[at] != _NEWLINE:
                return found, line
            found += 1
        at += 1
        line += 1
    return found, -1


@kernel
def _parse_dramsim3(data: Any, address: Any, is_write: Any, cycle: Any) -> tuple[int, int]:
    """Requests found, and the first malformed line (-1 if none)."""
    at = found = line = 0
    while at < len(data):
        at = _skip_spaces(data, at)
        if data[at] != _NEWLINE:
            end = _word(data, at)
            address[found] = _number(data, at, end, True)
            at = _skip_spaces(data, end)
            end = _word(data, at)
            write = _is_word(data, at, end, _WRITE) or _is_word(data, at, end, _P_MEM_WR)
            is_write[found] = write or _is_word(data, at, end, _BOFF)
            known = is_write[found] or _is_word(data, at, end, _READ)
            at = _skip_spaces(data, end)
            end = _word(data, at)
            cycle[found] = _number(data, at, end, False)
            at = _skip_spaces(data, end)
            if not known or address[found] < 0 or cycle[found] < 0 or data[at] != _NEWLINE:
                return found, line
            found += 1
        at += 1
        line += 1
    return found, -1


def lines_of(made: Requests, kind: Lines, burst_bytes: int) -> bytes:
    """The lines of requests, one per burst they touch."""
    first = made.address // burst_bytes
    bursts = (made.address + made.size_bytes - 1) // burst_bytes - first + 1
    whole = np.repeat(np.arange(len(made)), bursts)
    inside = np.arange(len(whole)) - np.repeat(np.cumsum(bursts) - bursts, bursts)
    addresses = ((first[whole] + inside) * burst_bytes).tolist()
    writes = made.is_write[whole].tolist()
    if kind == "ramulator":
        lines = (f"{'ST' if w else 'LD'} 0x{a:x}\n" for a, w in zip(addresses, writes, strict=True))
    else:
        cycles = made.cycle[whole].tolist()
        ops = ("WRITE" if w else "READ" for w in writes)
        lines = (f"0x{a:x} {op} {c}\n" for a, op, c in zip(addresses, ops, cycles, strict=True))
    return "".join(lines).encode()
