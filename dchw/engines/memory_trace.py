"""What a run asked of the DRAM, as a trace: one row per request, in the order in which requests were offered."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from dchw.engines.result import Timing
from dchw.program.outline import Outline
from dchw.program.program import Program
from dchw.quantities import DchwError
from dchw.traces import requests, write_trace


def write_program_trace(
    path: str | Path, program: Program | Outline, timing: Timing, *, layers: Collection[str] | None = None
) -> int:
    """Write a run's DRAM requests, those of ``layers`` only if given; the number of requests.

    The format follows the file's name (`dchw.traces`). ``cycle`` is the memory clock from which a request was offered.
    Raises DchwError for a run without a memory.
    """
    node, memory = program.memory, timing.memory
    if node is None or memory is None:
        raise DchwError(f"{path}: expected a run that uses the DRAM; got none; trace a cold run")
    burst = node.memory.burst_bytes
    clock = np.concatenate(memory.offered)
    order = np.argsort(clock, kind="stable")
    if layers is not None:
        chosen = [program.layers.index(name) for name in layers]
        layer = np.concatenate([asked.layer for asked in node.requests])
        order = order[np.isin(layer[order], chosen)]
    columns = {
        name: np.concatenate([getattr(asked, name) for asked in node.requests])[order]
        for name in ("address", "bursts", "is_write", "stream")
    }
    rows = requests(
        columns["address"],
        columns["is_write"],
        size_bytes=columns["bursts"].astype(np.int64) * burst,
        cycle=clock[order],
        stream=columns["stream"].astype(np.int8),
    )
    write_trace(path, rows, burst_bytes=burst)
    return len(rows)
