"""What a run gives: cycles, who worked, waited and was held, and (when asked for) every start and finish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.program.program import Program
from dchw.program.windows import Windowed

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class NodeTimes:
    """One firing node's share of the run, in cycles (T10).

    A recorded run keeps the firings of its window: those that finish after the window's first cycle and start before
    its end. Row i of the recorded columns is firing ``first + i``; ``first`` of them finished before the window.
    """

    busy: int
    stall: int
    idle: int
    firings: int
    by_layer: IntArray
    """int64[layers, 3]: busy, stall and idle of each layer's firings; idle after the last firing is in no layer."""
    first: int = 0
    start: IntArray | None = None
    """int64[recorded firings] when recorded."""
    finish: IntArray | None = None
    stalled_by: npt.NDArray[np.int32] | None = None
    """int32: index of the link whose missing slot delayed the hand-over last; -1: none."""
    waited_for: npt.NDArray[np.int32] | None = None
    """int32: index of the link whose item came last, after the previous finish; -1: none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkFill:
    """How full one link got."""

    peak: int
    """Most slots held at once (T4; initial items hold none)."""
    items: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ArbiterTimes:
    """What one arbiter did (T6)."""

    grants: int
    waited: int
    """Cycles between a head item's visible time and its grant, over all items."""
    grant: tuple[IntArray, ...] | None = None
    """Grant cycles of each channel inside the window, when recorded."""
    before: tuple[int, ...] | None = None
    """Grants of each channel before the window."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryTimes:
    """What the memory node did (T8). Rows of requests are port by port, each in its order."""

    clocks: int
    """Memory clocks of the whole run."""
    commands: Mapping[str, int]
    """Counts by event (`dchw.vocabulary`) and by the standard's own command names; ``forwarded`` reads and ``merged``
    writes met a waiting write and needed no command."""
    size_bytes: IntArray
    """int64[streams, 2, layers]: bytes moved, read (0) and written (1)."""
    offered: tuple[IntArray, ...]
    """Memory clock from which each port's requests were offered."""
    accepted: tuple[IntArray, ...]
    """Memory clock in which their last burst was accepted."""
    answered: tuple[IntArray, ...]
    """Memory clock in which they were complete, in order within a port."""
    channels: Any = None
    """Records of the channels (`dchw.dram.state.State`) at the end of the run, from which energy is computed."""

    def latency_percentile(self, percent: float) -> int:
        """Memory clocks from offer to answer that ``percent`` of all requests do not exceed (0 without requests)."""
        latencies = np.sort(np.concatenate([a - o for a, o in zip(self.answered, self.offered, strict=True)]))
        rank = int(np.ceil(percent / 100 * latencies.size))
        return int(latencies[max(rank, 1) - 1]) if latencies.size else 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing:
    """The outcome of running a program: equal in both engines, bit for bit."""

    cycles: int
    nodes: Mapping[str, NodeTimes]
    """Firing nodes by name."""
    links: Mapping[str, LinkFill]
    layer_start: IntArray
    """int64[layers]: first start of any firing of each layer; -1 where a layer has none."""
    layer_finish: IntArray
    """int64[layers]: last finish of any firing of each layer; -1 where a layer has none."""
    arbiters: Mapping[str, ArbiterTimes] = field(default_factory=dict)
    memory: MemoryTimes | None = None
    program: Program | Windowed | None = field(default=None, repr=False)
    """What was run."""
    window: tuple[int, int] | None = None
    """First cycle and end of what was recorded; None: nothing was."""

    @property
    def program_digest(self) -> str:
        """`Program.digest` of what was run; empty if that is not known. What was run in windows is lowered anew for
        it, window by window."""
        return self.program.digest if self.program is not None else ""

    def __repr__(self) -> str:
        return showing.line("Timing", f"{self.cycles:,} cycles", f"{len(self.nodes)} nodes")
