"""Relative index: where the stored weights are, as gaps of a few bits (Han et al., ICLR 2016, arXiv:1510.00149, 3).

A gap is the number of zeros skipped since the previous entry, or since the start of the run. A gap of ``index_bits``
bits reaches ``G = 2**index_bits - 1``; what is larger is split, in one of two ways:

- *fillers*: entries with gap G and code 0. A filler skips G zeros and stands on one more: it advances G + 1 positions.
- *escapes*: the gap value G alone. It advances G positions and has no code, so a gap of exactly G is an escape and a 0.

Zeros behind the last stored weight are not stored, so a run never ends in a filler or an escape. The encoding of given
positions is unique, and the decoders accept nothing else: what they accept encodes to the same entries again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.quantities import DchwError, FileFormatError

Int64s = npt.NDArray[np.int64]
Uint16s = npt.NDArray[np.uint16]

MAX_INDEX_BITS = 16


def encode_gaps(positions: npt.ArrayLike, codes: npt.ArrayLike, index_bits: int) -> tuple[Uint16s, Uint16s]:
    """One run with fillers: ascending positions int64[n] and their codes (>= 1) to (gaps, codes), uint16[m] each."""
    size = np.asarray(positions).size
    gaps, entry_codes, _ = encode_runs(positions, codes, np.array([0, size]), index_bits)
    return gaps, entry_codes


def encode_runs(
    positions: npt.ArrayLike, codes: npt.ArrayLike, run_offsets: npt.ArrayLike, index_bits: int
) -> tuple[Uint16s, Uint16s, Int64s]:
    """Many runs with fillers: (gaps uint16[m], codes uint16[m], run_offsets int64[r + 1] into both).

    Run i holds ``positions[run_offsets[i]:run_offsets[i + 1]]``, counted from the run's own start and strictly
    ascending, and their codes, none of them 0. Raises DchwError when that does not hold.
    """
    _check_index_bits(index_bits)
    where, offsets = _int64s(positions), _int64s(run_offsets)
    values = _uint16s(codes, DchwError)
    _check_offsets(offsets, where.size, DchwError)
    if values.size != where.size:
        raise DchwError(
            f"relative index: expected a code for each of {where.size} positions; got {values.size}; pass both alike"
        )
    if values.size and not values.all():
        raise DchwError("relative index: expected codes of 1 and above; got code 0, which is a filler's; drop it")
    counts = np.zeros(offsets.size, dtype=np.int64)
    if _count_entries(where, offsets, index_bits, counts) < 0:
        raise DchwError(
            "relative index: expected strictly ascending positions of 0 and above in every run; got others; sort them"
        )
    out_offsets = np.cumsum(counts)
    gaps = np.empty(out_offsets[-1], dtype=np.uint16)
    entry_codes = np.empty(out_offsets[-1], dtype=np.uint16)
    _fill_entries(where, values, offsets, index_bits, gaps, entry_codes)
    return gaps, entry_codes, out_offsets


def decode_runs(gaps: npt.ArrayLike, codes: npt.ArrayLike, run_offsets: npt.ArrayLike, index_bits: int) -> Int64s:
    """Positions of all entries, fillers included, each counted from its run's start: int64[m].

    Raises FileFormatError when an entry of code 0 is no filler (its gap is not the largest one), when a run ends in a
    filler, when a gap does not fit ``index_bits``, or when offsets and entries disagree.
    """
    _check_index_bits(index_bits)
    skips, values = _uint16s(gaps, FileFormatError), _uint16s(codes, FileFormatError)
    offsets = _int64s(run_offsets)
    if skips.size != values.size:
        raise FileFormatError(
            f"relative index: expected as many gaps as codes; got {skips.size} gaps and {values.size} codes; "
            "the data is damaged"
        )
    _check_offsets(offsets, skips.size, FileFormatError)
    largest = (1 << index_bits) - 1
    if skips.size and int(skips.max()) > largest:
        raise FileFormatError(
            f"relative index: expected gaps of {index_bits} bits; got {int(skips.max())}; the data is damaged"
        )
    filler = values == 0
    if (skips[filler] != largest).any():
        raise FileFormatError(
            f"relative index: expected every code 0 to be a filler of gap {largest}; "
            f"got gap {int(skips[filler & (skips != largest)][0])}; the data is damaged"
        )
    ends = offsets[1:][offsets[1:] > offsets[:-1]] - 1
    if filler[ends].any():
        raise FileFormatError("relative index: expected a weight as a run's last entry; got a filler; data is damaged")
    positions = np.empty(skips.size, dtype=np.int64)
    _run_positions(skips, offsets, positions)
    return positions


def decode_gaps(gaps: npt.ArrayLike, codes: npt.ArrayLike, size: int, index_bits: int) -> Uint16s:
    """The codes of one run of ``size`` weights, 0 where none is stored: uint16[size].

    Raises FileFormatError as ``decode_runs`` does, and when entries run past the end.
    """
    values = _uint16s(codes, FileFormatError)
    positions = decode_runs(gaps, values, np.array([0, values.size]), index_bits)
    if positions.size and int(positions[-1]) >= size:
        raise FileFormatError(
            f"relative index: expected entries within {size} weights; got one at position {int(positions[-1])}; "
            "the data is damaged"
        )
    dense = np.zeros(size, dtype=np.uint16)
    dense[positions] = values
    return dense


def encode_escaped(positions: npt.ArrayLike, index_bits: int) -> Uint16s:
    """One run with escapes: strictly ascending positions int64[n] to gap values uint16[m], m >= n.

    Values below ``2**index_bits - 1`` end a gap and belong to one code each; that value itself is an escape.
    """
    _check_index_bits(index_bits)
    where = _int64s(positions)
    skips = np.diff(where, prepend=-1) - 1
    if skips.size and int(skips.min()) < 0:
        raise DchwError("relative index: expected strictly ascending positions of 0 and above; got others; sort them")
    largest = (1 << index_bits) - 1
    escapes, rest = np.divmod(skips, largest)
    gaps = np.full(where.size + int(escapes.sum()), largest, dtype=np.uint16)
    gaps[np.cumsum(escapes + 1) - 1] = rest
    return gaps


def decode_escaped(gaps: npt.ArrayLike, index_bits: int) -> Int64s:
    """The inverse of ``encode_escaped``: positions int64[n]; that they lie within the layer is the caller's check.

    Raises FileFormatError when a gap does not fit ``index_bits`` or the last one is an escape.
    """
    _check_index_bits(index_bits)
    skips = _uint16s(gaps, FileFormatError).astype(np.int64)
    largest = (1 << index_bits) - 1
    if skips.size and int(skips.max()) > largest:
        raise FileFormatError(
            f"relative index: expected gaps of {index_bits} bits; got {int(skips.max())}; the data is damaged"
        )
    if skips.size and skips[-1] == largest:
        raise FileFormatError("relative index: expected a gap as the last value; got an escape; the data is damaged")
    stored = skips != largest
    positions: Int64s = (np.cumsum(skips + stored) - 1)[stored]
    return positions


def _check_index_bits(index_bits: int) -> None:
    if not 1 <= index_bits <= MAX_INDEX_BITS:
        raise DchwError(f"relative index: expected 1 to {MAX_INDEX_BITS} index bits; got {index_bits}; choose others")


def _check_offsets(offsets: Int64s, count: int, error: type[DchwError]) -> None:
    if offsets.size == 0 or offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
        raise error(
            f"relative index: expected run offsets that rise from 0 to {count}; got {offsets[:1]} to {offsets[-1:]}; "
            "give the start of every run and the end"
        )


def _uint16s(values: npt.ArrayLike, error: type[DchwError]) -> Uint16s:
    array = np.asarray(values).reshape(-1)
    if array.size and not (array.dtype.kind in "ui" and int(array.min()) >= 0 and int(array.max()) <= 0xFFFF):
        raise error("relative index: expected gaps and codes of 0 to 65535; got others; narrow them")
    return np.ascontiguousarray(array.astype(np.uint16, copy=False))


def _int64s(values: npt.ArrayLike) -> Int64s:
    return np.ascontiguousarray(np.asarray(values).reshape(-1), dtype=np.int64)


@kernel
def _count_entries(positions: Int64s, run_offsets: Int64s, index_bits: int, counts: Int64s) -> int:
    # counts[r + 1] becomes the entries of run r; -1 when positions do not ascend
    for run in range(run_offsets.size - 1):
        previous = np.int64(-1)
        entries = np.int64(0)
        for i in range(run_offsets[run], run_offsets[run + 1]):
            skip = positions[i] - previous - 1
            if skip < 0:
                return -1
            entries += (skip >> index_bits) + 1
            previous = positions[i]
        counts[run + 1] = entries
    return 0


@kernel
def _fill_entries(
    positions: Int64s, codes: Uint16s, run_offsets: Int64s, index_bits: int, gaps: Uint16s, entry_codes: Uint16s
) -> None:
    largest = (1 << index_bits) - 1
    at = 0
    for run in range(run_offsets.size - 1):
        previous = np.int64(-1)
        for i in range(run_offsets[run], run_offsets[run + 1]):
            skip = positions[i] - previous - 1
            for _ in range(skip >> index_bits):
                gaps[at] = largest
                entry_codes[at] = 0
                at += 1
            gaps[at] = skip & largest
            entry_codes[at] = codes[i]
            at += 1
            previous = positions[i]


@kernel
def _run_positions(gaps: Uint16s, run_offsets: Int64s, positions: Int64s) -> None:
    for run in range(run_offsets.size - 1):
        position = np.int64(-1)
        for i in range(run_offsets[run], run_offsets[run + 1]):
            position += np.int64(gaps[i]) + 1
            positions[i] = position
