"""Traces as lines of text, one burst each, as Ramulator 1 and 2 and DRAMsim3 read them; format and gzip by content.

Upper and lower case are the same, ``#`` begins a comment, a byte order mark and empty lines are passed over. Memory
does not grow with the file: a line is at most ``LINE_MAX`` bytes long.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from dchw.compile import kernel
from dchw.quantities import FileFormatError
from dchw.traces.chunk import CHUNK, TraceChunk, requests

Lines = Literal["ramulator", "ramulator1", "dramsim3"]
FORMS: tuple[Lines, ...] = ("ramulator", "ramulator1", "dramsim3")
LINE_MAX = 1 << 16
_BLOCK = 1 << 22
_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_EXPECTED = {
    "ramulator": "'LD ADDRESS' or 'ST ADDRESS' with a decimal or 0x address",
    "ramulator1": "'ADDRESS R' or 'ADDRESS W' with a decimal or 0x address",
    "dramsim3": "'HEX-ADDRESS READ CLOCK' or 'HEX-ADDRESS WRITE CLOCK'",
}


def open_text(path: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    """A text file, through gzip where its content (to read) or its name (to write) says so."""
    if mode == "wb":
        return gzip.open(path, mode) if path.name.lower().endswith(".gz") else open(path, mode)  # type: ignore[return-value]
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


def form_of(text: bytes) -> Lines | None:
    """The format of the first request in some lines; None where it is none of the three."""
    for line in text.split(b"\n"):
        words = line.split(b"#")[0].upper().split()
        if not words:
            continue
        if words[0] in (b"LD", b"ST"):
            return "ramulator"
        if len(words) == 2 and words[1] in (b"R", b"W"):
            return "ramulator1"
        return "dramsim3" if len(words) > 1 and words[1] in _DRAMSIM3_WORDS else None
    return None


def read_lines(
    path: Path, kind: Lines | None, burst_bytes: int, named: Lines | None, on_read: Callable[[int, int], None]
) -> Iterator[TraceChunk]:
    """The requests of a file, each of ``burst_bytes``.

    ``kind`` is the format where somebody said it. Otherwise the first request tells it, and where that is malformed
    ``named``, what the file's name says, words the error. ``on_read`` is told bytes of the file read and in all.
    """
    whole = path.stat().st_size
    with open_text(path, "rb") as file:
        packed: IO[bytes] = getattr(file, "fileobj", file)
        for line, text in _blocks(path, file):
            if kind is None and (kind := form_of(text)) is None and _has_request(text):
                kind = named or _unknown(path, line, text)
            data = np.frombuffer(text, np.uint8)
            room = int(np.count_nonzero(data == _NEWLINE))
            address, cycle = np.empty(room, np.int64), np.zeros(room, np.int64)
            is_write = np.empty(room, np.bool_)
            found, bad = _parse(data, FORMS.index(kind or "ramulator"), address, is_write, cycle)
            if bad >= 0:
                wrong = _shown(text.split(b"\n")[bad])
                raise FileFormatError(
                    f"{path}, line {line + bad}: expected {_EXPECTED[kind or 'ramulator']}; got {wrong}"
                )
            on_read(packed.tell(), whole)
            for at in range(0, found, CHUNK):
                part = slice(at, min(at + CHUNK, found))
                yield requests(address[part], is_write[part], size_bytes=burst_bytes, cycle=cycle[part])


def _blocks(path: Path, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Whole lines, a few million bytes at a time, and the number of the first one."""
    line, rest = 1, b""
    while True:
        try:
            block = file.read(_BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            raise FileFormatError(f"{path}: cannot be read ({error}); write it again") from None
        text = rest + block
        if not text:
            return
        if line == 1 and not rest:
            text = text.removeprefix(_MARK)
        end = text.rfind(b"\n") + 1 if block else len(text)
        text, rest = text[:end], text[end:]
        if len(rest) > LINE_MAX:
            number = line + text.count(b"\n")
            raise FileFormatError(
                f"{path}, line {number}: expected a line of at most {LINE_MAX:,} bytes; got {_shown(rest)} without an "
                "end; give a text trace or a Parquet file"
            )
        if not block:
            text += b"\n"
        if text:
            yield line, text
            line += text.count(b"\n")


def _has_request(text: bytes) -> bool:
    return any(line.split(b"#")[0].strip() for line in text.split(b"\n"))


def _unknown(path: Path, line: int, text: bytes) -> Lines:
    """Always an error: a first request of no known format."""
    lines = text.split(b"\n")
    at = next(number for number, words in enumerate(lines) if words.split(b"#")[0].strip())
    raise FileFormatError(
        f"{path}, line {line + at}: expected {', '.join(_EXPECTED.values())}; got {_shown(lines[at])}; "
        "give one of these, or a Parquet file"
    )


def _shown(line: bytes) -> str:
    return repr(line[:240].decode("utf-8", "replace").strip()[:60])


_SPACE, _NEWLINE, _TAB, _RETURN, _ZERO, _NINE, _X, _HASH, _UPPER_A, _UPPER_Z = 32, 10, 9, 13, 48, 57, 120, 35, 65, 90
_MAX = (1 << 62) // 16


@kernel
def _skip_spaces(data: Any, at: int) -> int:
    while data[at] == _SPACE or data[at] == _TAB or data[at] == _RETURN:
        at += 1
    return at


@kernel
def _ends(data: Any, at: int) -> bool:
    # every block ends with a newline
    return data[at] == _NEWLINE or data[at] == _HASH  # type: ignore[no-any-return]


@kernel
def _word(data: Any, at: int) -> int:
    # the end of the word that starts here
    while data[at] != _SPACE and data[at] != _TAB and data[at] != _RETURN and not _ends(data, at):
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
    for k in range(len(word)):
        letter = data[at + k]
        if letter != word[k] and not (_UPPER_A <= word[k] <= _UPPER_Z and letter == word[k] + 32):
            return False
    return True


_DRAMSIM3_READS = (b"READ", b"P_MEM_RD", b"P_FETCH")
_DRAMSIM3_WRITES = (b"WRITE", b"P_MEM_WR", b"BOFF")
_DRAMSIM3_WORDS = (*_DRAMSIM3_READS, *_DRAMSIM3_WRITES)
_LD, _ST, _R, _W = (np.frombuffer(word, np.uint8) for word in (b"LD", b"ST", b"R", b"W"))
_READ, _P_MEM_RD, _P_FETCH = (np.frombuffer(word, np.uint8) for word in _DRAMSIM3_READS)
_WRITE, _P_MEM_WR, _BOFF = (np.frombuffer(word, np.uint8) for word in _DRAMSIM3_WRITES)
_RAMULATOR, _RAMULATOR1, _DRAMSIM3 = range(3)


@kernel
def _way(data: Any, at: int, end: int, form: int) -> int:
    # 0 for a word that reads, 1 for one that writes, -1 for another
    if form == _RAMULATOR:
        reads, writes = _is_word(data, at, end, _LD), _is_word(data, at, end, _ST)
    elif form == _RAMULATOR1:
        reads, writes = _is_word(data, at, end, _R), _is_word(data, at, end, _W)
    else:
        reads = _is_word(data, at, end, _READ) or _is_word(data, at, end, _P_MEM_RD)
        reads = reads or _is_word(data, at, end, _P_FETCH)
        writes = _is_word(data, at, end, _WRITE) or _is_word(data, at, end, _P_MEM_WR)
        writes = writes or _is_word(data, at, end, _BOFF)
    return 1 if writes else 0 if reads else -1


@kernel
def _parse(data: Any, form: int, address: Any, is_write: Any, cycle: Any) -> tuple[int, int]:
    """Requests found, and the first malformed line (-1 if none)."""
    at = found = line = 0
    while at < len(data):
        at = _skip_spaces(data, at)
        if not _ends(data, at):
            first, first_end = at, _word(data, at)
            second = _skip_spaces(data, first_end)
            second_end = _word(data, second)
            at = _skip_spaces(data, second_end)
            if form == _RAMULATOR:
                way = _way(data, first, first_end, form)
                address[found] = _number(data, second, second_end, False)
            else:
                way = _way(data, second, second_end, form)
                address[found] = _number(data, first, first_end, form == _DRAMSIM3)
            if form == _DRAMSIM3:
                end = _word(data, at)
                cycle[found] = _number(data, at, end, False)
                at = _skip_spaces(data, end)
            if way < 0 or address[found] < 0 or cycle[found] < 0 or not _ends(data, at):
                return found, line
            is_write[found] = way == 1
            found += 1
        while data[at] != _NEWLINE:  # a comment
            at += 1
        at += 1
        line += 1
    return found, -1


def lines_of(made: TraceChunk, kind: Lines, burst_bytes: int) -> bytes:
    """The lines of requests, one per burst they touch."""
    first = made.address // burst_bytes
    bursts = (made.address + made.size_bytes - 1) // burst_bytes - first + 1
    whole = np.repeat(np.arange(len(made)), bursts)
    inside = np.arange(len(whole)) - np.repeat(np.cumsum(bursts) - bursts, bursts)
    addresses = ((first[whole] + inside) * burst_bytes).tolist()
    writes = made.is_write[whole].tolist()
    if kind == "ramulator":
        lines = (f"{'ST' if w else 'LD'} 0x{a:x}\n" for a, w in zip(addresses, writes, strict=True))
    elif kind == "ramulator1":
        lines = (f"0x{a:x} {'W' if w else 'R'}\n" for a, w in zip(addresses, writes, strict=True))
    else:
        cycles = made.cycle[whole].tolist()
        ops = ("WRITE" if w else "READ" for w in writes)
        lines = (f"0x{a:x} {op} {c}\n" for a, op, c in zip(addresses, ops, cycles, strict=True))
    return "".join(lines).encode()
