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

Sums of all occupied cycles, latencies and memory times must stay below 2**61 (checked before a run).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.events import Stream
from dchw.quantities import SimulationError

IntArray = npt.NDArray[Any]
TIME_LIMIT = 2**61
UNBOUNDED = 0
"""Depth of a link without a limit."""


class Policy(StrEnum):
    """Who wins in an arbiter (T6)."""

    FIXED = "fixed"
    ROUND_ROBIN = "round_robin"
    OLDEST = "oldest"


@dataclass(frozen=True, kw_only=True, eq=False)
class FiringNode:
    """A node of T2. ``unit`` is the machine's unit it belongs to (several nodes may share one)."""

    name: str
    unit: str
    occupied: IntArray
    """int32[firings], each at least 1."""
    layer: IntArray
    """int32[firings]: index into ``Program.layers`` of what each firing belongs to; never decreasing."""


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
    """uint8[n]: index into ``list(Stream)``."""
    layer: IntArray
    """int32[n]: index into ``Program.layers``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryNode:
    """The node of T8; its ports are the links whose ``target`` (requests) and ``source`` (answers) name it."""

    name: str
    unit: str
    memory: Any
    """Configuration of the memory (``dchw.units.dram.Dram``), from which both engines build its model."""
    requests: tuple[Requests, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
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
        """SHA-256 of everything that decides the run's timing, as hexadecimal text."""
        state = hashlib.sha256()
        for part in (self.clock_hz, self.layers, *self.nodes, *self.links):
            fields = getattr(part, "__dataclass_fields__", None)
            values = [part] if fields is None else [getattr(part, name) for name in fields]
            for value in values:
                if isinstance(value, tuple) and value and isinstance(value[0], Requests):
                    arrays = [getattr(r, name) for r in value for name in Requests.__dataclass_fields__]
                else:
                    arrays = [value]
                for item in arrays:
                    state.update(
                        np.ascontiguousarray(item).data if isinstance(item, np.ndarray) else repr(item).encode()
                    )
        return state.hexdigest()


def check(program: Program) -> None:
    """Whether a program is well formed; every engine checks before it runs.

    Raises SimulationError naming the node or link when names clash or are unknown, item counts of a link and of its
    two ends disagree, a list of firings decreases, a queue is shallower than what one firing moves at once, numbers
    are out of range, or times could reach 2**61.
    """
    names = [node.name for node in program.nodes]
    _expect(len(set(names)) == len(names), "nodes", "different names", f"{len(names) - len(set(names))} repeated")
    links = [link.name for link in program.links]
    _expect(len(set(links)) == len(links), "links", "different names", f"{len(links) - len(set(links))} repeated")
    memories = sum(isinstance(node, MemoryNode) for node in program.nodes)
    _expect(memories <= 1, "nodes", "at most one memory node", str(memories))
    _expect(program.clock_hz > 0, "clock_hz", "a positive frequency", str(program.clock_hz))
    by_name = {node.name: node for node in program.nodes}
    for link in program.links:
        for end in (link.source, link.target):
            _expect(end in by_name, f"link {link.name!r}", "two existing nodes as its ends", repr(end))
        _check_link(link, by_name[link.source], by_name[link.target])
    for node in program.nodes:
        into = [program.links[index] for index in program.links_into(node.name)]
        out_of = [program.links[index] for index in program.links_out_of(node.name)]
        if isinstance(node, FiringNode):
            _check_firings(node, len(program.layers))
            continue
        where = f"{type(node).__name__.lower()} {node.name!r}"
        _expect(len(into) == len(out_of), where, "as many in-links as out-links", f"{len(into)} and {len(out_of)}")
        for one, other in zip(into, out_of, strict=True):
            _expect(
                one.items == other.items and other.initial == 0,
                where,
                f"every item of {one.name!r} to pass to {other.name!r}",
                f"{one.items} items in, {other.items - other.initial} out",
            )
        if isinstance(node, Arbiter):
            _check_arbiter(node, where)
        else:
            _check_memory(node, where, into, out_of, len(program.layers))
    bound = time_bound(program)
    _expect(bound < TIME_LIMIT, "times", "at most 2**61 cycles if all its work were done in turn", f"up to {bound}")


def time_bound(program: Program) -> int:
    """A number of machine cycles that no run of the program can exceed; all memory work counted by its own limit."""
    total = 1
    for node in program.nodes:
        if isinstance(node, FiringNode):
            total += int(node.occupied.sum(dtype=np.int64)) + len(node.occupied)
        elif isinstance(node, Arbiter):
            length = node.blackout[2] if node.blackout else 0
            total += (node.occupied + length + 1) * sum(program.links[i].items for i in program.links_into(node.name))
        else:
            bursts = sum(int(asked.bursts.sum(dtype=np.int64)) for asked in node.requests)
            clocks = node.memory.clocks_bound(bursts)
            ratio = node.memory.clocks_per_cycle(program.clock_hz)
            total += int(clocks / ratio) * max(ratio.numerator, ratio.denominator)  # products must fit as well
    return total + sum((link.latency + 2) * link.items for link in program.links)


def _expect(holds: bool, where: str, expected: str, got: str) -> None:
    if not holds:
        raise SimulationError(f"program: {where}: expected {expected}; got {got}; correct how the program is built")


def _check_firings(node: FiringNode, layers: int) -> None:
    where = f"node {node.name!r}"
    _expect(
        node.occupied.ndim == 1 and node.occupied.dtype.kind in "iu",
        where,
        "occupied as a row of integers",
        f"{node.occupied.dtype} of {node.occupied.ndim} dimensions",
    )
    _expect(
        len(node.layer) == len(node.occupied),
        where,
        "one layer per firing",
        f"{len(node.layer)} layers for {len(node.occupied)} firings",
    )
    if len(node.occupied) == 0:
        return
    _expect(int(node.occupied.min()) >= 1, where, "at least one cycle per firing", str(node.occupied.min()))
    _expect(int(node.occupied.max()) < 2**31, where, "less than 2**31 cycles per firing", str(node.occupied.max()))
    _expect(_monotone(node.layer), where, "layers in order", "a decreasing list")
    _expect(
        int(node.layer[0]) >= 0 and int(node.layer[-1]) < layers,
        where,
        f"layers below {layers}",
        f"{node.layer[0]} to {node.layer[-1]}",
    )


def _check_link(
    link: Link, source: FiringNode | Arbiter | MemoryNode, target: FiringNode | Arbiter | MemoryNode
) -> None:
    where = f"link {link.name!r}"
    _expect(0 <= link.initial <= link.items, where, "initial items among all items", f"{link.initial} of {link.items}")
    _expect(
        link.depth >= 0 and link.latency >= 0,
        where,
        "depth and latency of at least 0",
        f"{link.depth} and {link.latency}",
    )
    _expect(link.items < 2**31, where, "less than 2**31 items", str(link.items))
    given = link.items - link.initial
    for end, by, what in ((source, link.given_by, "given"), (target, link.taken_by, "taken")):
        if by is None:
            continue
        _expect(
            isinstance(end, FiringNode), where, f"no list of items {what}, because {end.name!r} does not fire", "one"
        )
        assert isinstance(end, FiringNode)
        _expect(_monotone(by), where, f"items {what} in order", "a decreasing list")
        inside = len(by) == 0 or (int(by[0]) >= 0 and int(by[-1]) < len(end.occupied))
        _expect(
            inside,
            where,
            f"items {what} by firings below {len(end.occupied)} of {end.name!r}",
            f"{by[0] if len(by) else 0} to {by[-1] if len(by) else 0}",
        )
        room = link.depth + (link.initial if what == "taken" else 0)
        too_many = link.depth != UNBOUNDED and len(by) > room and bool((by[room:] == by[:-room]).any())
        most = int(np.bincount(by).max()) if too_many else 0
        _expect(
            not too_many, where, f"a depth of at least the items {what} at once", f"{most} items for depth {link.depth}"
        )
    gives = given if link.given_by is not None or not isinstance(source, FiringNode) else len(source.occupied)
    listed = given if link.given_by is None else len(link.given_by)
    _expect(
        gives == given == listed,
        where,
        f"{given} items given by {source.name!r}",
        str(listed if link.given_by is not None else gives),
    )
    takes = link.items
    if isinstance(target, FiringNode):
        takes = len(target.occupied) if link.taken_by is None else len(link.taken_by)
    _expect(given <= takes <= link.items, where, f"{given} to {link.items} items taken by {target.name!r}", str(takes))


def _check_arbiter(node: Arbiter, where: str) -> None:
    _expect(
        node.ports >= 1 and node.occupied >= 1,
        where,
        "at least one port held for at least one cycle",
        f"{node.ports} and {node.occupied}",
    )
    if node.blackout is not None:
        period, start, length = node.blackout
        _expect(
            start >= 0 and length >= 1 and start + length <= period and length < period,
            where,
            "a blackout inside its period",
            f"period {period}, start {start}, length {length}",
        )


def _check_memory(node: MemoryNode, where: str, into: list[Link], out_of: list[Link], layers: int) -> None:
    _expect(
        len(into) == len(node.requests),
        where,
        "a request list per request link",
        f"{len(node.requests)} lists for {len(into)} links",
    )
    for link, answer, asked in zip(into, out_of, node.requests, strict=True):
        port = f"{where}, port {link.name!r}"
        sizes = {len(getattr(asked, name)) for name in Requests.__dataclass_fields__}
        _expect(sizes == {link.items}, port, f"{link.items} rows in every column", ", ".join(map(str, sorted(sizes))))
        _expect(
            answer.depth == UNBOUNDED,
            port,
            "an unbounded answer link (credits bound what is outstanding)",
            f"depth {answer.depth}",
        )
        _expect(link.initial == 0, port, "no initial requests", str(link.initial))
        if link.items == 0:
            continue
        _expect(int(asked.bursts.min()) >= 1, port, "at least one burst per request", str(asked.bursts.min()))
        burst = node.memory.burst_bytes
        aligned = int(asked.address.min()) >= 0 and not (asked.address % burst).any()
        _expect(aligned, port, f"addresses that are multiples of {burst} bytes, from 0", "others")
        _expect(int(asked.stream.max()) < len(Stream), port, f"streams below {len(Stream)}", str(asked.stream.max()))
        inside = int(asked.layer.min()) >= 0 and int(asked.layer.max()) < layers
        _expect(inside, port, f"layers below {layers}", f"{asked.layer.min()} to {asked.layer.max()}")


def _monotone(values: IntArray) -> bool:
    return len(values) < 2 or bool((values[1:] >= values[:-1]).all())
