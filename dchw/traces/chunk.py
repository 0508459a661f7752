"""Requests to a memory, in order: what every trace consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.quantities import ConfigError, FileFormatError
from dchw.vocabulary import Stream

if TYPE_CHECKING:
    import numpy.typing as npt

CHUNK = 1 << 18
"""Requests handled at a time."""
ADDRESS_MAX = (1 << 62) - 1
"""Highest address: the end of a request behind it still fits 64 bits."""
BYTES_MAX = 1 << 30
"""Most bytes of one request."""
CYCLE_MAX = 1 << 40
"""Latest clock of a request: 20 minutes of a memory at 0.8 GHz, whose refreshes take about one to run."""
_REMEDIES = {"bytes": " (split the request)", "cycle": " (let clocks begin at 0)"}
NO_STREAM = -1
STREAMS = tuple(stream.value for stream in Stream)


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceChunk:
    """Some requests of a trace, in order; arrays of equal length."""

    cycle: npt.NDArray[np.int64]
    """Earliest clock, where the trace says one; 0 otherwise."""
    address: npt.NDArray[np.int64]
    """Byte address of the first byte."""
    size_bytes: npt.NDArray[np.int64]
    is_write: npt.NDArray[np.bool_]
    stream: npt.NDArray[np.int8]
    """Index into `dchw.vocabulary.STREAMS`; NO_STREAM where unknown."""

    def __len__(self) -> int:
        return len(self.address)


def requests(
    address: npt.ArrayLike,
    is_write: npt.ArrayLike,
    *,
    size_bytes: npt.ArrayLike = 32,
    cycle: npt.ArrayLike = 0,
    stream: npt.ArrayLike = NO_STREAM,
) -> TraceChunk:
    """Requests from arrays or single values; all are checked and brought to one length (ConfigError)."""
    where = np.asarray(address)
    if where.ndim != 1 or (where.size and where.dtype.kind not in "iu"):
        raise ConfigError(f"address: expected whole numbers in one dimension; got {where.dtype} of shape {where.shape}")
    columns = {"is_write": is_write, "size_bytes": size_bytes, "cycle": cycle, "stream": stream}
    arrays: dict[str, Any] = {}
    for name, value in columns.items():
        array = np.asarray(value)
        if array.ndim and array.shape != where.shape:
            raise ConfigError(f"{name}: expected one value or {where.size} of them; got shape {array.shape}")
        arrays[name] = np.broadcast_to(array, where.shape)
    made = TraceChunk(
        cycle=arrays["cycle"].astype(np.int64),
        address=where.astype(np.int64),
        size_bytes=arrays["size_bytes"].astype(np.int64),
        is_write=arrays["is_write"].astype(bool),
        stream=arrays["stream"].astype(np.int8),
    )
    check(made, "requests", 1)
    return made


def check(made: TraceChunk, where: str, first: int) -> None:
    """FileFormatError for the first request with an impossible value; ``first`` is the number of the first one."""
    for name, low, high, values in (
        ("address", 0, ADDRESS_MAX, made.address),
        ("bytes", 1, BYTES_MAX, made.size_bytes),
        ("cycle", 0, CYCLE_MAX, made.cycle),
        ("stream", NO_STREAM, len(STREAMS) - 1, made.stream),
    ):
        bad = np.flatnonzero((values < low) | (values > high))
        if bad.size:
            got = int(values[bad[0]])
            expected = f"at least {low}" if got < low else f"at most {high:,}{_REMEDIES.get(name, '')}"
            raise FileFormatError(f"{where}, request {first + int(bad[0])}: {name}: expected {expected}; got {got}")
