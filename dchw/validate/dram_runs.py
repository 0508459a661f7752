"""The reference runs of DRAM simulators: their traces, and how each was run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.dram.records import TRACE_MAX
from dchw.dram.replay import ReplayResult, replay
from dchw.dram.standard import Standard

Trace = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]
_KIB, _MIB, _BURST = 1 << 10, 1 << 20, 32


def reference_traces() -> dict[str, Trace]:
    """The five traces of the reference runs: addresses and whether each is written; all bursts of 32 bytes."""
    front_to_back = np.arange(0, _MIB, _BURST)
    chunk = front_to_back // (2 * _KIB)
    step = np.arange(0, 512 * _KIB, 2 * _BURST)
    two = np.stack([step, step + _BURST, 8 * _MIB + step, 8 * _MIB + step + _BURST], axis=1).ravel()
    apart = np.arange(8192)

    def reads(addresses: npt.NDArray[np.int64]) -> Trace:
        return addresses, np.zeros(len(addresses), bool)

    return {
        "seq_read": reads(front_to_back),
        "seq_rw30": (front_to_back, 3 * chunk % 10 < 3),  # whole 2 KiB chunks are written
        "stride_64k": reads(apart * 64 * _KIB),
        "stride_2k": reads(apart * 2 * _KIB),
        "two_streams": reads(two),
    }


def reference_replay(on: Standard, config: str, trace: Trace) -> ReplayResult:
    """A trace on a standard the way a reference run's configuration says."""
    mapping, refresh, *variant, inject = config.split("-")
    if variant == ["rrd3.75faw15"]:
        for timing, cycles in (("nRRDS", 4), ("nRRDL", 4), ("nFAW", 16)):
            on = on.replace(f"timings.{timing}.cycles", cycles)
    choices: dict[str, Any] = {"refresh": refresh, "inject": inject}
    return replay(trace, on, mapping=mapping, keep_commands=TRACE_MAX, **choices)


def relative_error(computed: float, published: float) -> float:
    """Distance from the published figure as a share of it; 1 for a figure that should be 0 and is not."""
    return abs(computed - published) / abs(published) if published else float(computed != 0)
