"""The rules of time, and the program both engines run.

A program is a whole network on a machine: nodes joined by links, with the exact list of what each node does.

T1  Time is integer machine cycles from 0. What happens in cycle c is visible from c + 1 on, plus a link's latency.
    Nothing takes zero time: every firing occupies its node for at least one cycle.
T2  A *firing* node does its firings strictly in order, one at a time. A firing takes all its items, then gives all
    its items. Source, server, fork, join, gather, scatter and sink are this one kind; only their links differ.
T3  Firing i starts at ``s = max(finish of firing i-1, visible time of every item it takes)`` (finish of "firing -1"
    is 0). Items are taken at s; the slots they held are visible as free at s + 1, even if the giving then waits.
T4  It hands over at ``g = max(s + occupied - 1, visible time of every slot it needs)``, all links at once, and
    finishes at ``g + 1``. Given items are visible at ``g + 1 + latency``. A slot is held from g, so items still
    travelling count against a link's depth.
T5  A link is an in-order queue of ``depth`` slots (UNBOUNDED: no limit). ``initial`` items are visible at cycle 0 and
    hold no slot, nor does taking them free one: item k needs the slot of item k - depth where both are given in the
    run; the first ``depth`` given items need none. A credit (double buffering, bounded outstanding requests) is an
    unbounded link with initial items that runs against the flow; at most ``initial`` items of a link may be left over.
T6  An *arbiter* serves C channels, each one in-link and one out-link of equal item counts. A channel is eligible in
    cycle c when its head item is visible by c and a slot of its out-link is visible by c. In each cycle the arbiter
    has ``ports`` grants to give and holds each granted port for ``occupied`` cycles; in a blackout it grants nothing
    (what was granted before goes on). Several grants of one cycle go one after another, each to the policy's choice
    among the channels then eligible. A granted item's slot is visible as free at c + 1, its slot of the out-link is
    held from c, and it is visible at the other side at ``c + occupied + latency of the out-link``. ``fixed``: lowest
    channel wins. ``round_robin``: the first eligible channel after the one granted last (channel 0 at first).
    ``oldest``: smallest visible time of the head item wins. Ties go to the lower channel.
T7  A blackout is periodic: cycles c with ``c mod period`` in [start, start + length). Refresh is not a blackout: it is
    commands that the memory node issues.
T8  The *memory* node, at most one in a program, accepts or refuses. It has ports, each one request link and one
    unbounded answer link; an item of a request link is a read or write of whole bursts. Memory time is the memory's
    own clock:
    a request visible at machine cycle c is offered from memory clock ``ceil(c x machine period / memory period)`` on;
    what completes at memory clock d is visible from machine cycle ``ceil(d x memory period / machine period) + 1`` on,
    plus the answer link's latency.
    Ports take turns request by request (round robin from port 0, skipping ports without a visible request). Bursts of
    the request in turn are offered in address order, in one memory clock at most one to each memory channel; the
    first that is refused, or whose channel already took one in this clock, and those behind it wait for the next
    clock. Which channel an address lies on, and what a channel accepts and when a burst is complete, `dchw.dram` says
    (a burst accepted in clock c is looked at from c + 1 on). The clock after its last burst was accepted, the next
    request has its turn. A request's slot is free, by the crossing rule, from
    the acceptance of its last burst on. A request is answered when all its bursts are complete; answers leave a port
    in the order of its requests.
T9  Nothing runnable while firings or requests are left is a deadlock: an error that names who waits for whom.
T10 The run's total is the latest finish of any firing and of any answer's visible time. For every firing node,
    busy (sum of ``occupied``) + stall (held by missing slots, T4) + idle (waiting for items, and after the last
    firing) = total.

Who is to blame: a firing *waited for* the in-link, and is *stalled by* the out-link, whose visible time is the
largest and moves the start (hand-over) at all; of equal ones the first in link order.

Sums of all occupied cycles, latencies and memory times must stay below 2**61 (`dchw.program.check`, before a run).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.program.flow import Flow
from dchw.program.known_lists import KnownLists
from dchw.program.layer_runs import LayerRuns

IntArray = npt.NDArray[Any]
TIME_LIMIT = 2**61
UNBOUNDED = 0
"""Depth of a link without a limit."""


class Policy(StrEnum):
    """Who wins in an arbiter (T6)."""

    FIXED = "fixed"
    ROUND_ROBIN = "round_robin"
    OLDEST = "oldest"


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FiringNode:
    """A node of T2. ``unit`` is the machine's unit it belongs to (several nodes may share one)."""

    name: str
    unit: str
    occupied: IntArray
    """int32[firings], each at least 1."""
    layer: LayerRuns
    """Index into ``Program.layers`` of what each firing belongs to; never decreasing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arbiter:
    """A node of T6; its channels are the links whose ``target`` (in) and ``source`` (out) name it, in link order."""

    name: str
    unit: str
    ports: int = 1
    occupied: int = 1
    policy: Policy = Policy.ROUND_ROBIN
    blackout: tuple[int, int, int] | None = None
    """(period, start, length) in cycles, T7."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """What one port of the memory node asks for, in order; one row per item of its request link."""

    address: IntArray
    """int64[n] byte address of the first burst, a multiple of the burst size."""
    bursts: IntArray
    """int32[n], at least 1."""
    is_write: npt.NDArray[np.bool_]
    stream: IntArray
    """uint8[n]: index into `dchw.vocabulary.STREAMS`."""
    layer: IntArray
    """int32[n]: index into ``Program.layers``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryNode:
    """The node of T8; its ports are the links whose ``target`` (requests) and ``source`` (answers) name it."""

    name: str
    unit: str
    memory: Any
    """Configuration of the memory (``dchw.machines.units.dram.Dram``), from which both engines build its model."""
    requests: tuple[Requests, ...]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Link:
    """An in-order queue between two nodes (T5)."""

    name: str
    source: str
    target: str
    items: int
    """Number of items that pass in the whole run, initial ones included."""
    depth: int = UNBOUNDED
    latency: int = 0
    initial: int = 0
    given_by: IntArray | None = None
    """int32[items - initial]: which firing of ``source`` gives each item, never decreasing; None: one each, in turn."""
    taken_by: IntArray | None = None
    """int32: which firing of ``target`` takes each item, never decreasing; items beyond it are left over; None: item k
    by firing k (also at arbiters and the memory, where item k is grant or request k)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A whole network on a machine, ready to run."""

    clock_hz: int
    layers: tuple[str, ...]
    nodes: tuple[FiringNode | Arbiter | MemoryNode, ...]
    links: tuple[Link, ...]
    notes: tuple[str, ...] = field(default=())
    flows: tuple[Flow, ...] = field(default=())
    """What the firings of each stage do: no part of the timing, and so none of the digest."""
    known: KnownLists | None = None
    """What was found out about its lists, where other programs share them."""

    @property
    def memory(self) -> MemoryNode | None:
        """The memory node, if the program has one."""
        return next((node for node in self.nodes if isinstance(node, MemoryNode)), None)

    def links_into(self, name: str) -> list[int]:
        """Indices of the links whose target is that node, in link order."""
        return self._ends.get((name, "into"), [])

    def links_out_of(self, name: str) -> list[int]:
        """Indices of the links whose source is that node, in link order."""
        return self._ends.get((name, "out of"), [])

    @cached_property
    def _ends(self) -> dict[tuple[str, str], list[int]]:
        ends: dict[tuple[str, str], list[int]] = {}
        for index, link in enumerate(self.links):
            ends.setdefault((link.target, "into"), []).append(index)
            ends.setdefault((link.source, "out of"), []).append(index)
        return ends

    @cached_property
    def _by_name(self) -> dict[str, FiringNode | Arbiter | MemoryNode]:
        return {node.name: node for node in self.nodes}

    def taken(self, link: Link) -> int:
        """Items of a link that are taken in a whole run; the rest is left over."""
        if link.taken_by is not None:
            return len(link.taken_by)
        target = self.node(link.target)
        return len(target.occupied) if isinstance(target, FiringNode) else link.items

    def node(self, name: str) -> FiringNode | Arbiter | MemoryNode:
        """One node by name (KeyError if there is none)."""
        return self._by_name[name]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides the run's timing, as hexadecimal text: `ProgramDigest`."""
        if self.known is not None:  # the lists were hashed with the first program that has them
            return self.known.of(ProgramDigest, lambda: _digest_of(self)).hexadecimal_on(self)
        return _digest_of(self).hexadecimal()

    def __repr__(self) -> str:
        return showing.line(
            "Program", f"{len(self.nodes)} nodes", f"{len(self.links)} links", f"{len(self.layers)} layers"
        )


class ProgramDigest:
    """What decides a program's timing, as one number, whether the program comes in one piece or in several.

    SHA-256 over clock, layers, and nodes and links by their names; lists go in as int32, lowest byte first, and whole:
    also where they say that item k belongs to firing k. Of arbiters and the memory the order of links goes in as well.
    """

    def __init__(self) -> None:
        self._piece: Program | None = None
        self._count: dict[str, int] = {}
        self._lists: dict[tuple[str, str], _ListDigest] = {}

    def add(self, piece: Program) -> None:
        """Add a program, or a piece behind the pieces before it."""
        begun = dict(self._count)
        for node in piece.nodes:
            if isinstance(node, FiringNode):
                self._count[node.name] = begun.get(node.name, 0) + len(node.occupied)
                self._list(node.name, "occupied").add(node.occupied)
                self._list(node.name, "layer").add(node.layer.listed())
        for link in piece.links:
            for side, end, by in (("given", link.source, link.given_by), ("taken", link.target, link.taken_by)):
                if end in self._count:
                    held = link.initial if side == "given" else 0
                    listed = self._list(link.name, side, held)
                    listed.add(_counted(begun.get(end, 0), self._count[end]) if by is None else by)
        self._piece = replace(
            piece,
            nodes=tuple(node for node in piece.nodes if not isinstance(node, FiringNode)),
            links=tuple(replace(link, given_by=None, taken_by=None) for link in piece.links),
            known=None,
        )
        self._units = {node.name: node.unit for node in piece.nodes}

    def _list(self, owner: str, what: str, held: int = 0) -> _ListDigest:
        found = self._lists.get((owner, what))
        if found is None:
            found = self._lists[owner, what] = _ListDigest(held)
        return found

    def hexadecimal_on(self, program: Program) -> str:
        """The digest of another program in one piece whose lists are those of the one that was added."""
        return self._hexadecimal(program, MappingProxyType({}))

    def hexadecimal(self, surplus: Mapping[str, int] = MappingProxyType({})) -> str:
        """The digest; ``surplus`` items given at the end of a link are no part of the program."""
        assert self._piece is not None
        return self._hexadecimal(self._piece, surplus)

    def _hexadecimal(self, piece: Program, surplus: Mapping[str, int]) -> str:
        state = hashlib.sha256()
        parts: list[tuple[Any, ...]] = [(piece.clock_hz, piece.layers)]
        for name in sorted(name for name, count in self._count.items() if count):
            lists = [self._list(name, what).hexadecimal() for what in ("occupied", "layer")]
            parts.append((name, self._units[name], *lists))
        others = [node for node in piece.nodes if not isinstance(node, FiringNode)]
        for node in sorted(others, key=lambda node: node.name):
            ends = [piece.links[index].name for index in (*piece.links_into(node.name), *piece.links_out_of(node.name))]
            if isinstance(node, MemoryNode):
                columns = [getattr(asked, name) for asked in node.requests for name in Requests.__dataclass_fields__]
                parts.append((node.name, node.unit, repr(node.memory), ends, *(_sha256(column) for column in columns)))
            elif isinstance(node, Arbiter):
                parts.append((repr(node), ends))
        for link in sorted(piece.links, key=lambda link: link.name):
            given, taken = (self._lists.get((link.name, side)) for side in ("given", "taken"))
            spare = surplus.get(link.name, 0)
            count = 0 if given is None else given.count
            initial = link.initial - max(spare - count, 0)
            if count - min(spare, count) + initial == 0 and (taken is None or taken.count == 0):
                continue
            lists = [
                "" if one is None else one.hexadecimal(less) for one, less in ((given, min(spare, count)), (taken, 0))
            ]
            parts.append((link.name, link.source, link.target, link.depth, link.latency, initial, *lists))
        for part in parts:
            state.update(repr(part).encode())
        return state.hexdigest()


def _digest_of(program: Program) -> ProgramDigest:
    found = ProgramDigest()
    found.add(program)
    return found


class _ListDigest:
    """SHA-256 of a list that comes in parts, but for its last items, which may turn out to be no part of it."""

    def __init__(self, held: int) -> None:
        self._held, self._state = held, hashlib.sha256()
        self._tail = np.empty(0, "<i4")
        self._texts: dict[int, str] = {}
        self.count = 0

    def add(self, values: IntArray) -> None:
        """Append values."""
        self.count += len(values)
        self._texts.clear()
        rows = np.ascontiguousarray(values, "<i4")
        if self._held:
            rows = np.concatenate([self._tail, rows])
            rows, self._tail = np.split(rows, [max(len(rows) - self._held, 0)])
        self._state.update(rows.data)

    def hexadecimal(self, less: int = 0) -> str:
        """The digest of all values but the last ``less``."""
        if less not in self._texts:
            state = self._state.copy()
            state.update(np.ascontiguousarray(self._tail[: len(self._tail) - less]).data)
            self._texts[less] = state.hexdigest()
        return self._texts[less]


@lru_cache(maxsize=64)
def _counted(first: int, end: int) -> IntArray:
    """int32[end - first]: first, first + 1, ...; many links of a program have the same."""
    return np.arange(first, end, dtype="<i4")


def _sha256(values: IntArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
