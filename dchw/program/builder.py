"""Puts a `Program` together piece by piece: firings are appended to nodes, items to links, in order.

Nodes and links are handles: whoever appends holds the node, and names are for people. A node is made once, and
a link's depth, latency and credits are stated wherever it is asked for and must agree. Indices of firings run on from
append to append, so what was appended so far never has to be looked at again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dchw.program.program import UNBOUNDED, FiringNode, Link, MemoryNode, Program, Requests, Work
from dchw.quantities import DchwError, SimulationError
from dchw.vocabulary import Stream

_LIMIT = 2**31
Indices = npt.NDArray[np.int64]
OptionalList = TypeVar("OptionalList", npt.NDArray[np.int32], npt.NDArray[np.int32] | None)


@dataclass(eq=False, kw_only=True)
class NodeBuilder:
    """Firings of one node so far."""

    name: str
    unit: str
    places: itertools.count[int]
    """Where the next node that begins to fire stands in the program."""
    place: int = -1
    """-1 before the first firing."""
    count: int = 0
    work: Counter[tuple[int, Work, Stream | None]] = field(default_factory=Counter)
    """What the firings so far do, by (layer, what, stream)."""
    occupied: list[npt.NDArray[np.int32]] = field(default_factory=list)
    layer: list[tuple[int, int]] = field(default_factory=list)
    """(layer, firings) of each append."""

    def fire(self, occupied: npt.ArrayLike, layer: int) -> Indices:
        """Append firings that occupy so many cycles each; their indices.

        Raises DchwError where a firing would take 2**31 cycles or more: its counter would wrap.
        """
        given = np.atleast_1d(np.asarray(occupied))
        if given.size and int(given.max()) >= _LIMIT:
            raise DchwError(
                f"node {self.name!r}: expected firings of less than 2**31 cycles; got {int(given.max()):,}; lower "
                "pe_array.tile or raise what the node works with at a time"
            )
        cycles = given.astype(np.int32, copy=False)
        if self.place < 0:
            self.place = next(self.places)
        first = self.count
        self.count += cycles.size
        self.occupied.append(cycles)
        if self.count >= _LIMIT:
            raise DchwError(
                f"node {self.name!r}: expected less than 2**31 firings; got {self.count:,}; run fewer layers or a "
                "smaller batch at a time"
            )
        self.layer.append((layer, cycles.size))
        return np.arange(first, self.count, dtype=np.int64)

    def does(self, layer: int, what: Work, amount: int, stream: Stream | None = None) -> None:
        """Note what firings of a layer do, as whoever appends them goes through it."""
        self.work[layer, what, stream] += int(amount)


@dataclass(eq=False, kw_only=True)
class MemoryBuilder:
    """The memory: what links that carry requests lead to and answers come from."""

    name: str
    unit: str


End = NodeBuilder | MemoryBuilder


@dataclass(eq=False, kw_only=True)
class LinkBuilder:
    """Items of one link so far, by the firing that gives and the one that takes each."""

    name: str
    source: End
    target: End
    depth: int
    latency: int
    initial: int
    given: list[npt.NDArray[np.int32]] = field(default_factory=list)
    taken: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def give(self, firings: npt.ArrayLike) -> None:
        """Append items given by these firings of the source."""
        self.given.append(np.atleast_1d(np.asarray(firings, dtype=np.int32)))

    def take(self, firings: npt.ArrayLike) -> None:
        """Append items taken by these firings of the target."""
        self.taken.append(np.atleast_1d(np.asarray(firings, dtype=np.int32)))


@dataclass(eq=False)
class PortBuilder:
    """Requests of one memory port so far."""

    name: str
    columns: dict[str, list[npt.NDArray[Any]]] = field(
        default_factory=lambda: {name: [] for name in ("address", "bursts", "is_write", "stream", "layer")}
    )

    def ask(self, address: Indices, bursts: npt.NDArray[np.int32], is_write: bool, stream: Any, layer: int) -> None:
        """Append requests."""
        n = address.size
        for name, value in (
            ("address", address),
            ("bursts", bursts),
            ("is_write", np.full(n, is_write)),
            ("stream", np.broadcast_to(np.asarray(stream, dtype=np.uint8), n)),
            ("layer", np.full(n, layer)),
        ):
            self.columns[name].append(np.asarray(value))

    def freeze(self) -> Requests:
        """All requests as arrays."""
        kinds = {"address": np.int64, "bursts": np.int32, "is_write": np.bool_, "stream": np.uint8, "layer": np.int32}
        return Requests(**{name: _joined(self.columns[name], kind) for name, kind in kinds.items()})


class ProgramBuilder:
    """Collects nodes, links and memory ports; names are unique.

    Nodes stand in the program in the order of their first firings, links and ports in that of their making.
    """

    def __init__(self, *, memory: str) -> None:
        """``memory``: the machine's unit that the memory node belongs to."""
        self.memory = MemoryBuilder(name="memory", unit=memory)
        self._nodes: dict[str, NodeBuilder] = {}
        self._links: dict[str, LinkBuilder] = {}
        self._ports: dict[str, PortBuilder] = {}
        self._places = itertools.count()

    def node(self, name: str, unit: str) -> NodeBuilder:
        """A new node; SimulationError where the name is taken."""
        if name in self._nodes or name == self.memory.name:
            raise SimulationError(f"node {name!r}: expected to be made once; got a second; keep the first one's handle")
        made = self._nodes[name] = NodeBuilder(name=name, unit=unit, places=self._places)
        return made

    def link(
        self, source: End, target: End, *, what: str, depth: int = UNBOUNDED, latency: int = 0, initial: int = 0
    ) -> LinkBuilder:
        """The link that carries ``what`` from one node to another, made when first asked for.

        Raises SimulationError where it was made with another depth, latency or number of initial items.
        """
        name = f"{source.name} -> {target.name} ({what})"
        made = self._links.get(name)
        if made is None:
            made = self._links[name] = LinkBuilder(
                name=name, source=source, target=target, depth=depth, latency=latency, initial=initial
            )
        known, asked = (made.depth, made.latency, made.initial), (depth, latency, initial)
        if known != asked:
            raise SimulationError(
                f"link {name!r}: expected depth, latency and initial items {known} as it was made; got {asked}; state "
                "them in one place"
            )
        return made

    def port(self, name: str) -> PortBuilder:
        """The memory port of that name, made when first asked for."""
        return self._ports.setdefault(name, PortBuilder(name))

    def freeze(self, *, clock_hz: int, layers: tuple[str, ...], memory: Any, notes: tuple[str, ...]) -> Program:
        """The finished program, without nodes and links that do nothing. Ends the builder: its lists move over."""
        one = _OneOfEqual()
        links = [made for link in self._links.values() if (made := _link(link, one)) is not None]
        firing = [
            FiringNode(
                name=node.name,
                unit=node.unit,
                occupied=one(_joined(node.occupied, np.int32)),
                layer=one(np.repeat(*np.array(node.layer, np.int32).T)),
            )
            for node in sorted(self._nodes.values(), key=lambda node: node.place)
            if node.count
        ]
        ports = tuple(port.freeze() for port in self._ports.values() if port.columns["address"])
        nodes: tuple[Any, ...] = tuple(firing)
        if ports:
            nodes = (*firing, MemoryNode(name=self.memory.name, unit=self.memory.unit, memory=memory, requests=ports))
        work: Counter[tuple[str, int, Work, Stream | None]] = Counter()
        for node in self._nodes.values():
            for (layer, what, stream), amount in node.work.items():
                work[node.unit, layer, what, stream] += amount
        return Program(clock_hz=clock_hz, layers=layers, nodes=nodes, links=tuple(links), notes=notes, work=dict(work))


def _link(link: LinkBuilder, one: _OneOfEqual) -> Link | None:
    given, taken = _joined(link.given, np.int32), _joined(link.taken, np.int32)
    source, target = link.source, link.target
    items = taken.size if isinstance(target, NodeBuilder) else given.size
    initial = min(link.initial, items)
    if link.initial:
        given = given[: items - initial]  # credits that nobody needs any more are not given back
    if isinstance(source, NodeBuilder) and given.size + initial != items:
        raise SimulationError(
            f"link {link.name!r}: expected {items} items to be given; got {given.size} and {initial} initial ones; "
            "this is a fault of the simulator, please report it"
        )
    if items == 0:
        return None
    return Link(
        name=link.name,
        source=source.name,
        target=target.name,
        items=items,
        depth=link.depth,
        latency=link.latency,
        initial=initial,
        given_by=one(_compact(given, source.count)) if isinstance(source, NodeBuilder) else None,
        taken_by=one(_compact(taken, target.count)) if isinstance(target, NodeBuilder) else None,
    )


class _OneOfEqual:
    """Equal lists as one array: most processing elements take the same items in the same firings."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], npt.NDArray[np.int32]] = {}

    def __call__(self, values: OptionalList) -> OptionalList:
        if values is None or not values.size:
            return values
        known = self._known.setdefault((values.size, int(values[0]), int(values[-1])), values)
        return known if known is values or np.array_equal(known, values) else values


def _joined(parts: list[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    # the parts are let go, so that a list is held once when it is finished
    joined = np.concatenate(parts).astype(kind, copy=False) if parts else np.empty(0, kind)
    parts.clear()
    return joined


def _compact(firings: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int32] | None:
    """Firing of each item; None where item k belongs to firing k throughout."""
    if firings.size == count and np.array_equal(firings, np.arange(count)):
        return None
    return firings
