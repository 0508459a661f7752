"""Puts a `Program` together piece by piece: firings are appended to nodes, items to links, in order.

Nodes and links are handles: whoever appends holds the node, and names are for people. A node is made once, and
a link's depth, latency and credits are stated wherever it is asked for and must agree. Indices of firings run on from
append to append, so what was appended so far never has to be looked at again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.program.flow import Flow
from dchw.program.layer_runs import LayerRuns
from dchw.program.open_figures import OpenFigure, settled
from dchw.program.program import UNBOUNDED, FiringNode, Link, MemoryNode, Program, Requests
from dchw.program.sheets import Sheets
from dchw.program.windows import Window
from dchw.quantities import DchwError, SimulationError
from dchw.vocabulary import Stream

_LIMIT = 2**31
_INT32 = np.dtype(np.int32)
Indices = npt.NDArray[np.int64]
Row = npt.NDArray[np.int32]
"""int32[n]"""
Place = tuple[int, int, int]
Firings = Indices | Row
"""Indices of firings: 32 bits hold them, 64 those that are still to be worked out."""


@dataclass(eq=False, kw_only=True, slots=True)
class NodeBuilder:
    """Firings of one node so far."""

    name: str
    unit: str
    place_of_next: Callable[[], Place]
    """Where the next node that begins to fire stands in the program."""
    place: Place | None = None
    """None before the first firing."""
    count: int = 0
    occupied: list[npt.NDArray[np.int32]] = field(default_factory=list)
    layers: list[tuple[int, int]] = field(default_factory=list)
    """(layer, firings) of every append."""

    def fire(self, occupied: npt.ArrayLike, layer: int) -> Indices:
        """Append firings that occupy so many cycles each; their indices.

        Raises DchwError where a firing would take 2**31 cycles or more: its counter would wrap.
        """
        cycles = np.asarray(occupied)
        if cycles.dtype != _INT32 and cycles.size and int(cycles.max()) >= _LIMIT:
            raise DchwError(
                f"node {self.name!r}: expected firings of less than 2**31 cycles; got {int(cycles.max()):,}; lower "
                "pe_array.tile or raise what the node works with at a time"
            )
        first = self.append(_row(cycles), layer)
        return np.arange(first, self.count, dtype=np.int64)

    def append(self, cycles: Row, layer: int) -> int:
        """As `fire`, for a row that is made already; the index of the first."""
        if self.place is None:
            self.place = self.place_of_next()
        first = self.count
        self.count += cycles.size
        if self.count >= _LIMIT:
            raise DchwError(
                f"node {self.name!r}: expected less than 2**31 firings; got {self.count:,}; run fewer layers or a "
                "smaller batch at a time"
            )
        self.occupied.append(cycles)
        self.layers.append((layer, cycles.size))
        return first

    def made(self, lists: _SharedLists) -> FiringNode:
        """The node with what was appended since it was last asked for."""
        occupied, layer = lists.one_of_equal(lists.end_to_end(self.occupied)), LayerRuns.joined(self.layers)
        self.layers.clear()
        return FiringNode(name=self.name, unit=self.unit, occupied=occupied, layer=layer)


@dataclass(eq=False, kw_only=True)
class MemoryBuilder:
    """The memory: what links that carry requests lead to and answers come from."""

    name: str
    unit: str


End = NodeBuilder | MemoryBuilder


@dataclass(eq=False, kw_only=True, slots=True)
class LinkBuilder:
    """Items of one link so far, by the firing that gives and the one that takes each."""

    name: str
    source: End
    target: End
    depth: int | OpenFigure
    latency: int | OpenFigure
    initial: int
    given: list[Row] = field(default_factory=list)
    taken: list[Row] = field(default_factory=list)
    spare: int = 0
    """Items given in windows that were cut off, beyond those taken there."""

    def give(self, firings: npt.ArrayLike) -> None:
        """Append items given by these firings of the source. The list is kept as it is, and links that are given one
        and the same share it."""
        self.given.append(_row(firings))

    def take(self, firings: npt.ArrayLike) -> None:
        """Append items taken by these firings of the target; kept as in `give`."""
        self.taken.append(_row(firings))


@dataclass(eq=False)
class PortBuilder:
    """Requests of one memory port so far."""

    name: str
    frozen: bool = False
    columns: dict[str, list[npt.NDArray[Any]]] = field(
        default_factory=lambda: {name: [] for name in ("address", "bursts", "is_write", "stream", "layer")}
    )

    def ask(self, address: Indices, bursts: npt.NDArray[np.int32], is_write: bool, stream: Any, layer: int) -> None:
        """Append requests."""
        assert not self.frozen, "all requests are known from the first window on"
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
        self.frozen = True
        kinds = {"address": np.int64, "bursts": np.int32, "is_write": np.bool_, "stream": np.uint8, "layer": np.int32}
        return Requests(**{name: _end_to_end(self.columns[name], kind) for name, kind in kinds.items()})


class ProgramBuilder:
    """Collects nodes, links and memory ports; names are unique.

    Nodes stand in the program in the order of their first firings, links and ports in that of their making.
    """

    def __init__(self, *, memory: str, machine: Any = None) -> None:
        """``memory``: the machine's unit that the memory node belongs to; ``machine``: gives open figures."""
        self._machine = machine
        self.memory = MemoryBuilder(name="memory", unit=memory)
        self._nodes: dict[str, NodeBuilder] = {}
        self._links: dict[tuple[str, str, str], LinkBuilder] = {}
        self._ports: dict[str, PortBuilder] = {}
        self._requests: tuple[Requests, ...] | None = None
        self._flows: list[Flow] = []
        self._places = itertools.count()
        self.sheets = Sheets()
        """Room for lists that are appended."""
        self.rank = (0, 0)
        """What is appended: nodes stand in the order of the rank in which they first fire."""

    def node(self, name: str, unit: str) -> NodeBuilder:
        """A new node; SimulationError where the name is taken."""
        if name in self._nodes or name == self.memory.name:
            raise SimulationError(f"node {name!r}: expected to be made once; got a second; keep the first one's handle")
        made = self._nodes[name] = NodeBuilder(name=name, unit=unit, place_of_next=self._place)
        return made

    def link(
        self,
        source: End,
        target: End,
        *,
        what: str,
        depth: int | OpenFigure = UNBOUNDED,
        latency: int | OpenFigure = 0,
        initial: int = 0,
    ) -> LinkBuilder:
        """The link that carries ``what`` from one node to another, made when first asked for.

        Raises SimulationError where it was made with another depth, latency or number of initial items.
        """
        made = self._links.get((source.name, target.name, what))
        if made is None:
            made = self._links[source.name, target.name, what] = LinkBuilder(
                name=link_name(source, target, what),
                source=source,
                target=target,
                depth=depth,
                latency=latency,
                initial=initial,
            )
        elif made.depth != depth or made.latency != latency or made.initial != initial:
            known, asked = (
                tuple(settled(figure, self._machine) for figure in one)
                for one in ((made.depth, made.latency, made.initial), (depth, latency, initial))
            )
            raise SimulationError(
                f"link {made.name!r}: expected depth, latency and initial items {known} as it was made; got {asked}; "
                "state them in one place"
            )
        return made

    def _place(self) -> Place:
        return (*self.rank, next(self._places))

    @property
    def open_links(self) -> dict[str, tuple[int | OpenFigure, int | OpenFigure]]:
        """Depth and latency of the links by name, where one of them follows from the machine."""
        figures = {link.name: (link.depth, link.latency) for link in self._links.values()}
        return {name: both for name, both in figures.items() if any(isinstance(one, OpenFigure) for one in both)}

    @property
    def firings(self) -> int:
        """Firings of all nodes so far."""
        return sum(node.count for node in self._nodes.values())

    def flow(self, layer: int, values: Stream) -> Flow:
        """What the firings of one more stage do, to be counted as they are made."""
        self._flows.append(Flow(layer=layer, values=values))
        return self._flows[-1]

    def port(self, name: str) -> PortBuilder:
        """The memory port of that name, made when first asked for."""
        return self._ports.setdefault(name, PortBuilder(name))

    def freeze(self, *, clock_hz: int, layers: tuple[str, ...], memory: Any, notes: tuple[str, ...]) -> Program:
        """The finished program, without nodes and links that do nothing. Ends the builder: its lists move over."""
        lists = _SharedLists(self._links.values(), self.sheets)
        links = [made for link in self._links.values() if (made := _link(link, lists, self._machine)) is not None]
        firing = [node.made(lists) for node in self._in_order()]
        ports = tuple(port.freeze() for port in self._ports.values() if port.columns["address"])
        nodes: tuple[Any, ...] = tuple(firing)
        if ports:
            nodes = (*firing, MemoryNode(name=self.memory.name, unit=self.memory.unit, memory=memory, requests=ports))
        return Program(
            clock_hz=clock_hz, layers=layers, nodes=nodes, links=tuple(links), notes=notes, flows=tuple(self._flows)
        )

    def window(
        self, *, clock_hz: int, layers: tuple[str, ...], memory: Any, coming: Mapping[str, str | None]
    ) -> Window:
        """What was appended since the last window; ``coming`` as `Window.coming`, and empty for the last one."""
        lists = _SharedLists(self._links.values(), self.sheets)
        waiting = [node for node in self._nodes.values() if node.place is None and node.name in coming]
        listed = {self.memory.name, *(node.name for node in (*self._in_order(), *waiting))}
        links = [
            _piece(link, lists, self._machine)
            for link in self._links.values()
            if link.source.name in listed and link.target.name in listed
        ]
        nodes: list[Any] = [node.made(lists) for node in (*self._in_order(), *waiting)]
        if self._ports and self._requests is None:
            self._requests = tuple(port.freeze() for port in self._ports.values())
        if self._requests is not None:
            nodes.append(
                MemoryNode(name=self.memory.name, unit=self.memory.unit, memory=memory, requests=self._requests)
            )
        piece = Program(
            clock_hz=clock_hz, layers=layers, nodes=tuple(nodes), links=tuple(links), flows=tuple(self._flows)
        )
        if not coming:
            self.sheets = Sheets()  # nothing more is appended
        surplus = (
            {} if coming else {link.name: link.initial + link.spare for link in self._links.values() if link.initial}
        )
        return Window(piece=piece, coming=coming, surplus=surplus)

    def _in_order(self) -> list[NodeBuilder]:
        firing = [(node.place, node) for node in self._nodes.values() if node.place is not None]
        return [node for _, node in sorted(firing, key=lambda one: one[0])]


def link_name(source: End, target: End, what: str) -> str:
    """The name of the link that carries ``what`` from one node to another."""
    return f"{source.name} -> {target.name} ({what})"


def _piece(link: LinkBuilder, lists: _SharedLists, machine: Any) -> Link:
    given, taken = lists.joined(link.given), lists.joined(link.taken)
    source, target = link.source, link.target
    link.spare += given.size - taken.size
    return Link(
        name=link.name,
        source=source.name,
        target=target.name,
        items=max(given.size, taken.size),
        depth=settled(link.depth, machine),
        latency=settled(link.latency, machine),
        initial=link.initial,
        given_by=given if isinstance(source, NodeBuilder) else None,
        taken_by=taken if isinstance(target, NodeBuilder) else None,
    )


def _link(link: LinkBuilder, lists: _SharedLists, machine: Any) -> Link | None:
    given, taken = lists.joined(link.given), lists.joined(link.taken)
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
        depth=settled(link.depth, machine),
        latency=settled(link.latency, machine),
        initial=initial,
        given_by=lists.compact(given, source.count) if isinstance(source, NodeBuilder) else None,
        taken_by=lists.compact(taken, target.count) if isinstance(target, NodeBuilder) else None,
    )


class _SharedLists:
    """Lists of a program: parts joined, and equal ones one array, because most processing elements take the same items
    in the same firings.

    Parts are let go as they are joined, so that a list is held once when it is finished; links that were given the
    same parts share what comes of them.
    """

    def __init__(self, links: Iterable[LinkBuilder], sheets: Sheets) -> None:
        # while others are to come that hold the same parts, nothing else gets their ids
        lists = [parts for link in links for parts in (link.given, link.taken)]
        self._keys = {id(parts): tuple(map(id, parts)) for parts in lists}
        self._uses = Counter(self._keys.values())
        self._shared: dict[tuple[int, ...], Row] = {}
        self._sheets = sheets
        self._known: dict[tuple[int, int, int], Row] = {}

    def joined(self, parts: list[Row]) -> Row:
        """The parts of a link's list one behind the other."""
        key = self._keys[id(parts)]
        self._uses[key] -= 1
        values = self._shared.pop(key, None)
        if values is None:
            values = self.one_of_equal(self.end_to_end(parts))
        parts.clear()
        if self._uses[key]:
            self._shared[key] = values
        return values

    def end_to_end(self, parts: list[Row]) -> Row:
        """Parts one behind the other."""
        return _end_to_end(parts, np.int32, self._sheets)

    def one_of_equal(self, values: Row) -> Row:
        """The first list that was equal to this one."""
        if not values.size:
            return values
        known = self._known.setdefault((values.size, values.item(0), values.item(-1)), values)
        return known if known is values or bool((known == values).all()) else values

    def compact(self, firings: Row, count: int) -> Row | None:
        """Firing of each item; None where item k belongs to firing k throughout."""
        if firings.size != count:
            return firings
        if count and (firings.item(0) != 0 or firings.item(-1) != count - 1):
            return firings
        return None if bool((firings == np.arange(count, dtype=np.int32)).all()) else firings


def _row(values: npt.ArrayLike) -> Row:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype == _INT32:
        return values
    row = np.asarray(values, dtype=np.int32)
    return row if row.ndim else row.reshape(1)


def _end_to_end(parts: list[npt.NDArray[Any]], kind: Any, sheets: Sheets | None = None) -> npt.NDArray[Any]:
    # the parts are let go, so that a list is held once when it is finished
    if len(parts) == 1:
        joined = parts[0]
    else:
        out = None if sheets is None else sheets.empty(sum(map(len, parts)))
        joined = np.concatenate([np.empty(0, kind), *parts], out=out)
    parts.clear()
    return joined.astype(kind, copy=False)
