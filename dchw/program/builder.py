"""Puts a `Program` together piece by piece: firings are appended to nodes, items to links, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dchw.program.program import UNBOUNDED, FiringNode, Link, MemoryNode, Program, Requests

Indices = npt.NDArray[np.int64]
OptionalList = TypeVar("OptionalList", npt.NDArray[np.int32], npt.NDArray[np.int32] | None)


@dataclass(eq=False)
class NodeBuilder:
    """Firings of one node so far."""

    name: str
    unit: str
    count: int = 0
    occupied: list[npt.NDArray[np.int32]] = field(default_factory=list)
    layer: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def fire(self, occupied: npt.ArrayLike, layer: int) -> Indices:
        """Append firings that occupy so many cycles each; their indices."""
        cycles = np.atleast_1d(np.asarray(occupied, dtype=np.int32))
        first = self.count
        self.count += cycles.size
        self.occupied.append(cycles)
        self.layer.append(np.full(cycles.size, layer, np.int32))
        return np.arange(first, self.count, dtype=np.int64)


@dataclass(eq=False)
class LinkBuilder:
    """Items of one link so far, by the firing that gives and the one that takes each."""

    name: str
    source: str
    target: str
    depth: int = UNBOUNDED
    latency: int = 0
    initial: int = 0
    given: list[Indices] = field(default_factory=list)
    taken: list[Indices] = field(default_factory=list)

    def give(self, firings: npt.ArrayLike) -> None:
        """Append items given by these firings of the source."""
        self.given.append(np.atleast_1d(np.asarray(firings, dtype=np.int64)))

    def take(self, firings: npt.ArrayLike) -> None:
        """Append items taken by these firings of the target."""
        self.taken.append(np.atleast_1d(np.asarray(firings, dtype=np.int64)))


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
    """Collects nodes, links and memory ports; names are unique, order is order of creation."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeBuilder] = {}
        self.links: dict[str, LinkBuilder] = {}
        self.ports: dict[str, PortBuilder] = {}

    def node(self, name: str, unit: str) -> NodeBuilder:
        """The node of that name, made when first asked for."""
        return self.nodes.setdefault(name, NodeBuilder(name, unit))

    def link(
        self, source: str, target: str, *, what: str, depth: int = UNBOUNDED, latency: int = 0, initial: int = 0
    ) -> LinkBuilder:
        """The link that carries ``what`` from one node to another, made when first asked for."""
        name = f"{source} -> {target} ({what})"
        made = LinkBuilder(name, source, target, depth, latency, initial)
        return self.links.setdefault(name, made)

    def port(self, name: str) -> PortBuilder:
        """The memory port of that name."""
        return self.ports.setdefault(name, PortBuilder(name))

    def freeze(self, *, clock_hz: int, layers: tuple[str, ...], memory: Any, notes: tuple[str, ...]) -> Program:
        """The finished program, without nodes and links that do nothing."""
        one = _OneOfEqual()
        links = [made for link in self.links.values() if (made := self._link(link, one)) is not None]
        firing = [
            FiringNode(
                name=node.name,
                unit=node.unit,
                occupied=one(_joined(node.occupied, np.int32)),
                layer=one(_joined(node.layer, np.int32)),
            )
            for node in self.nodes.values()
            if node.count
        ]
        ports = tuple(port.freeze() for port in self.ports.values() if port.columns["address"])
        nodes: tuple[Any, ...] = tuple(firing)
        if ports:
            nodes = (*firing, MemoryNode(name="memory", unit="dram", memory=memory, requests=ports))
        return Program(clock_hz=clock_hz, layers=layers, nodes=nodes, links=tuple(links), notes=notes)

    def _link(self, link: LinkBuilder, one: _OneOfEqual) -> Link | None:
        given, taken = _joined(link.given, np.int32), _joined(link.taken, np.int32)
        to_memory, from_memory = link.target == "memory", link.source == "memory"
        items = given.size if to_memory else taken.size
        initial = min(link.initial, items)
        if link.initial:
            given = given[: items - initial]  # credits that nobody needs any more are not given back
        assert from_memory or given.size + initial == items, f"{link.name}: {given.size} + {initial} items for {items}"
        if items == 0:
            return None
        return Link(
            name=link.name,
            source=link.source,
            target=link.target,
            items=items,
            depth=link.depth,
            latency=link.latency,
            initial=initial,
            given_by=None if from_memory else one(_compact(given, self.nodes[link.source].count)),
            taken_by=None if to_memory else one(_compact(taken, self.nodes[link.target].count)),
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
    return np.concatenate(parts).astype(kind) if parts else np.empty(0, kind)


def _compact(firings: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int32] | None:
    """Firing of each item; None where item k belongs to firing k throughout."""
    if firings.size == count and np.array_equal(firings, np.arange(count)):
        return None
    return firings
