"""What a run gives: cycles, who worked, waited and was held, and (when asked for) every start and finish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeTimes:
    """One firing node's share of the run, in cycles (T10)."""

    busy: int
    stall: int
    idle: int
    firings: int
    start: IntArray | None = None
    """int64[firings] when recorded."""
    finish: IntArray | None = None
    stalled_by: npt.NDArray[np.int32] | None = None
    """int32[firings] when recorded: index of the link whose missing slot delayed the hand-over last; -1: none."""
    waited_for: npt.NDArray[np.int32] | None = None
    """int32[firings] when recorded: index of the link whose item came last, after the previous finish; -1: none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkFill:
    """How full one link got."""

    peak: int
    items: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing:
    """The outcome of running a program: equal in both engines, bit for bit."""

    cycles: int
    nodes: Mapping[str, NodeTimes]
    links: Mapping[str, LinkFill]
    layer_start: IntArray
    """int64[layers]: first start of any firing of each layer; -1 where a layer has none."""
    layer_finish: IntArray
    """int64[layers]: last finish of any firing of each layer."""
    arbiters: Mapping[str, Any] = field(default_factory=dict)
    """Per arbiter: int64 array of grant cycles per channel, when recorded."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """Counters of the memory node: commands by name, bytes per stream, latencies."""
    program_digest: str = ""
