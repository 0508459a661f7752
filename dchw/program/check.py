"""Whether a program is well formed, and what was found out about its lists on the way.

Every list of firings is read once, by compiled loops: a program holds millions of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.program.program import (
    TIME_LIMIT,
    UNBOUNDED,
    Arbiter,
    FiringNode,
    IntArray,
    Link,
    MemoryNode,
    Program,
    Requests,
)
from dchw.quantities import SimulationError
from dchw.vocabulary import Stream

Ints32 = npt.NDArray[np.int32]
_LIMIT = 2**31
_INT32 = np.dtype(np.int32)


class NodeFacts(NamedTuple):
    """What the lists of a firing node say."""

    occupied: Ints32
    constant: int
    """Cycles that every firing is occupied; 0 where they differ or there is none."""
    spans: tuple[tuple[int, int, int], ...]
    """Of firings of one layer: end, layer, cycles occupied."""


class LinkFacts(NamedTuple):
    """The lists of a link; None: item k (given ones counted apart) belongs to firing k."""

    given_by: Ints32 | None
    taken_by: Ints32 | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """What `check` found out about a program."""

    nodes: Mapping[str, NodeFacts]
    """Firing nodes by name."""
    links: tuple[LinkFacts, ...]


def check(program: Program) -> Facts:
    """Check a program; every engine does before it runs.

    Raises SimulationError naming the node or link when names clash or are unknown, item counts of a link and of its
    two ends disagree, a list of firings decreases, a queue is shallower than what one firing moves at once, numbers
    are out of range, or times could reach 2**61.
    """
    if program.known is None:
        facts = _checked(program, _Once())
    else:  # the lists were read with the first program that has them
        once = program.known.of(_Once, _Once)
        facts = program.known.of(Facts, lambda: _checked(program, once))
        _check_figures(program, once)
    bound = _time_bound(program, facts)
    if bound >= TIME_LIMIT:
        raise _wrong("times", "at most 2**61 cycles if all its work were done in turn", f"up to {bound}")
    return facts


def _check_figures(program: Program, once: _Once) -> None:
    """Check of a program whose lists are good what it may have of its own: depths, latencies, memory, clock."""
    if program.clock_hz <= 0:
        raise _wrong("clock_hz", "a positive frequency", str(program.clock_hz))
    for link in program.links:
        if link.depth < 0 or link.latency < 0:
            raise _wrong(f"link {link.name!r}", "depth and latency of at least 0", f"{link.depth} and {link.latency}")
        if link.depth != UNBOUNDED:
            _check_list(link, program.node(link.source), link.given_by, "given", link.depth, once)
            _check_list(link, program.node(link.target), link.taken_by, "taken", link.depth + link.initial, once)
    for node in program.nodes:
        if not isinstance(node, FiringNode):
            _check_shared(program, node)


def _checked(program: Program, once: _Once) -> Facts:
    for what, names in (("nodes", [node.name for node in program.nodes]), ("links", [x.name for x in program.links])):
        if len(set(names)) != len(names):
            raise _wrong(what, "different names", f"{len(names) - len(set(names))} repeated")
    memories = sum(isinstance(node, MemoryNode) for node in program.nodes)
    if memories > 1:
        raise _wrong("nodes", "at most one memory node", str(memories))
    if program.clock_hz <= 0:
        raise _wrong("clock_hz", "a positive frequency", str(program.clock_hz))
    by_name = {node.name: node for node in program.nodes}
    links = []
    for link in program.links:
        for end in (link.source, link.target):
            if end not in by_name:
                raise _wrong(f"link {link.name!r}", "two existing nodes as its ends", repr(end))
        links.append(_check_link(link, by_name[link.source], by_name[link.target], once))
    nodes = {}
    for node in program.nodes:
        if isinstance(node, FiringNode):
            nodes[node.name] = _check_firings(node, len(program.layers))
        else:
            _check_shared(program, node)
    return Facts(nodes=nodes, links=tuple(links))


def check_piece(piece: Program) -> Facts:
    """Check the lists of a piece of a program (`dchw.program.windows`), or of what is left of several.

    Every firing and item of a list must be there, and one behind the other; that both ends of a link come to the same
    number of items shows in the whole run only.
    """
    by_name = {node.name: node for node in piece.nodes}
    once = _Once()
    links = []
    for link in piece.links:
        source, target = by_name[link.source], by_name[link.target]
        given_by = _check_list(link, source, link.given_by, "given", link.depth, once)
        taken_by = _check_list(link, target, link.taken_by, "taken", link.depth + link.initial, once)
        links.append(LinkFacts(given_by=given_by, taken_by=taken_by))
    nodes = {node.name: _check_firings(node, len(piece.layers)) for node in piece.nodes if isinstance(node, FiringNode)}
    return Facts(nodes=nodes, links=tuple(links))


def _time_bound(program: Program, facts: Facts) -> int:
    # a number of machine cycles that no run of the program can exceed; all memory work counted by its own limit
    total = 1 + sum((link.latency + 2) * link.items for link in program.links)
    for node in program.nodes:
        if isinstance(node, FiringNode):
            total += sum(cycles for _, _, cycles in facts.nodes[node.name].spans) + len(node.occupied)
        elif isinstance(node, Arbiter):
            length = node.blackout[2] if node.blackout else 0
            total += (node.occupied + length + 1) * sum(program.links[i].items for i in program.links_into(node.name))
        else:
            bursts = sum(int(asked.bursts.sum(dtype=np.int64)) for asked in node.requests)
            clocks = node.memory.clocks_bound(bursts)
            ratio = node.memory.clocks_per_cycle(program.clock_hz)
            total += int(clocks / ratio) * max(ratio.numerator, ratio.denominator)  # products must fit as well
    return total


def _wrong(where: str, expected: str, got: str) -> SimulationError:
    return SimulationError(f"program: {where}: expected {expected}; got {got}; correct how the program is built")


def plain(values: IntArray, where: str, what: str) -> Ints32:
    """A list as one contiguous row of int32, without a copy where it is one already."""
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise _wrong(where, f"{what} as a row of integers", f"{values.dtype} of {values.ndim} dimensions")
    if values.dtype == _INT32 and values.flags.c_contiguous and values.flags.aligned:
        return values
    if len(values) and (int(values.min()) < -_LIMIT or int(values.max()) >= _LIMIT):
        raise _wrong(where, f"{what} below 2**31", f"{values.min()} to {values.max()}")
    return np.ascontiguousarray(values, np.int32)


@kernel
def _figures(values: Any) -> tuple[int, int, int]:
    # the lowest, the highest and the total
    lowest = highest = values[0]
    total = np.int64(0)
    for place in range(values.size):
        value = values[place]
        lowest = value if value < lowest else lowest  # written so that it is vectorised, as the loop below
        highest = value if value > highest else highest
        total += value
    return lowest, highest, int(total)


@kernel
def _steps(values: Any) -> tuple[int, int]:
    # how often a list falls and how often it stays
    falls = stays = 0
    for place in range(1, values.size):
        if values[place] < values[place - 1]:
            falls += 1
        if values[place] == values[place - 1]:
            stays += 1
    return falls, stays


def counted(values: Ints32) -> Ints32 | range:
    """A row of numbers one behind another as their range, any other as it is."""
    first, last = values.item(0), values.item(-1)
    if last - first != values.size - 1 or _steps(values) != (0, 0):
        return values
    return range(first, last + 1)


def repeated(values: Ints32) -> Ints32:
    """A row of one number over and over without places of its own: of stride 0; any other as it is."""
    first = values.item(0)
    if values.item(-1) != first or values.item(values.size // 2) != first or _figures(values)[:2] != (first, first):
        return values
    return np.broadcast_to(np.int32(first), values.size)


class _Once:
    """Lists of items moved that were found good: many links share theirs."""

    def __init__(self) -> None:
        self.good: dict[tuple[int, int, int], tuple[IntArray, Ints32 | None]] = {}
        """By id of a list, firings of its node, and room: the list, so that nothing else gets its id, and what
        `_check_list` said."""


def _figures_of(occupied: Ints32, begin: int, end: int) -> tuple[int, int, int]:
    if occupied.strides == (0,):
        one = occupied.item(begin)
        return one, one, one * (end - begin)
    return _figures(occupied[begin:end])


def _check_firings(node: FiringNode, layers: int) -> NodeFacts:
    where = f"node {node.name!r}"
    repeated = node.occupied.strides == (0,)
    occupied = node.occupied if repeated else plain(node.occupied, where, "occupied")
    if len(node.layer) != len(occupied):
        raise _wrong(where, "one layer per firing", f"{len(node.layer)} layers for {len(occupied)} firings")
    if len(occupied) == 0:
        return NodeFacts(occupied=occupied, constant=0, spans=())
    figures = [_figures_of(occupied, begin, end) for _, begin, end in node.layer.spans()]
    lowest, highest = min(low for low, _, _ in figures), max(high for _, high, _ in figures)
    if lowest < 1:
        raise _wrong(where, "at least one cycle per firing", str(lowest))
    runs = node.layer.runs
    first, last = runs[0][0], runs[-1][0]
    if any(layer >= behind for (layer, _), (behind, _) in pairwise(runs)):
        raise _wrong(where, "layers in order", "a decreasing list")
    if first < 0 or last >= layers:
        raise _wrong(where, f"layers below {layers}", f"{first} to {last}")
    spans = [
        (end, layer, int(cycles)) for (layer, _, end), (_, _, cycles) in zip(node.layer.spans(), figures, strict=True)
    ]
    constant = int(lowest) if lowest == highest else 0
    return NodeFacts(occupied=occupied, constant=constant, spans=tuple(spans))


def _check_link(
    link: Link,
    source: FiringNode | Arbiter | MemoryNode,
    target: FiringNode | Arbiter | MemoryNode,
    once: _Once,
) -> LinkFacts:
    if not 0 <= link.initial <= link.items:
        raise _wrong(_named(link), "initial items among all items", f"{link.initial} of {link.items}")
    if link.depth < 0 or link.latency < 0:
        raise _wrong(_named(link), "depth and latency of at least 0", f"{link.depth} and {link.latency}")
    if link.items >= _LIMIT:
        raise _wrong(_named(link), "less than 2**31 items", str(link.items))
    given = link.items - link.initial
    given_by = _check_list(link, source, link.given_by, "given", link.depth, once)
    taken_by = _check_list(link, target, link.taken_by, "taken", link.depth + link.initial, once)
    if link.given_by is not None and len(link.given_by) != given:
        raise _wrong(_named(link), f"{given} items given by {source.name!r}", str(len(link.given_by)))
    if link.given_by is None and isinstance(source, FiringNode) and len(source.occupied) != given:
        raise _wrong(_named(link), f"{given} items given by {source.name!r}", str(len(source.occupied)))
    takes = link.items
    if isinstance(target, FiringNode):
        takes = len(target.occupied) if link.taken_by is None else len(link.taken_by)
    if not given <= takes <= link.items:
        raise _wrong(_named(link), f"{given} to {link.items} items taken by {target.name!r}", str(takes))
    return LinkFacts(given_by=given_by, taken_by=taken_by)


def _named(link: Link) -> str:
    return f"link {link.name!r}"


def _check_list(
    link: Link, end: FiringNode | Arbiter | MemoryNode, listed: IntArray | None, what: str, room: int, once: _Once
) -> Ints32 | None:
    # ``room``: most items of a link with a limit that one firing can move
    if listed is None:
        return None
    firings = len(end.occupied) if isinstance(end, FiringNode) else -1
    key = id(listed), firings, room if link.depth != UNBOUNDED else -1
    if key in once.good:
        return once.good[key][1]
    where = _named(link)
    if not isinstance(end, FiringNode):
        raise _wrong(where, f"no list of items {what}, because {end.name!r} does not fire", "one")
    by = plain(listed, where, f"items {what}")
    falls, stays = _steps(by)
    if falls:
        raise _wrong(where, f"items {what} in order", "a decreasing list")
    first, last = (by.item(0), by.item(-1)) if len(by) else (0, 0)
    if len(by) and not (first >= 0 and last < firings):
        raise _wrong(where, f"items {what} by firings below {firings} of {end.name!r}", f"{first} to {last}")
    if link.depth != UNBOUNDED and stays and len(by) > room and bool((by[room:] == by[:-room]).any()):
        most = int(np.bincount(by).max())
        raise _wrong(where, f"a depth of at least the items {what} at once", f"{most} items for depth {link.depth}")
    whole = stays == 0 and len(by) == firings
    once.good[key] = listed, None if whole else by
    return once.good[key][1]


def _check_shared(program: Program, node: Arbiter | MemoryNode) -> None:
    into = [program.links[index] for index in program.links_into(node.name)]
    out_of = [program.links[index] for index in program.links_out_of(node.name)]
    where = f"{type(node).__name__.lower()} {node.name!r}"
    if len(into) != len(out_of):
        raise _wrong(where, "as many in-links as out-links", f"{len(into)} and {len(out_of)}")
    for one, other in zip(into, out_of, strict=True):
        if one.items != other.items or other.initial:
            raise _wrong(
                where,
                f"every item of {one.name!r} to pass to {other.name!r}",
                f"{one.items} items in, {other.items - other.initial} out",
            )
    if isinstance(node, Arbiter):
        _check_arbiter(node, where)
        return
    if len(into) != len(node.requests):
        raise _wrong(where, "a request list per request link", f"{len(node.requests)} lists for {len(into)} links")
    for link, answer, asked in zip(into, out_of, node.requests, strict=True):
        _check_port(node, f"{where}, port {link.name!r}", link, answer, asked, len(program.layers))


def _check_arbiter(node: Arbiter, where: str) -> None:
    if node.ports < 1 or node.occupied < 1:
        raise _wrong(where, "at least one port held for at least one cycle", f"{node.ports} and {node.occupied}")
    if node.blackout is not None:
        period, start, length = node.blackout
        if not (start >= 0 and length >= 1 and start + length <= period and length < period):
            raise _wrong(where, "a blackout inside its period", f"period {period}, start {start}, length {length}")


def _check_port(node: MemoryNode, where: str, link: Link, answer: Link, asked: Requests, layers: int) -> None:
    sizes = {len(getattr(asked, name)) for name in Requests.__dataclass_fields__}
    if sizes != {link.items}:
        raise _wrong(where, f"{link.items} rows in every column", ", ".join(map(str, sorted(sizes))))
    if answer.depth != UNBOUNDED:
        raise _wrong(where, "an unbounded answer link (credits bound what is outstanding)", f"depth {answer.depth}")
    if link.initial:
        raise _wrong(where, "no initial requests", str(link.initial))
    if link.items == 0:
        return
    if int(asked.bursts.min()) < 1:
        raise _wrong(where, "at least one burst per request", str(asked.bursts.min()))
    burst = node.memory.burst_bytes
    if int(asked.address.min()) < 0 or (asked.address % burst).any():
        raise _wrong(where, f"addresses that are multiples of {burst} bytes, from 0", "others")
    if int(asked.stream.max()) >= len(Stream):
        raise _wrong(where, f"streams below {len(Stream)}", str(asked.stream.max()))
    if int(asked.layer.min()) < 0 or int(asked.layer.max()) >= layers:
        raise _wrong(where, f"layers below {layers}", f"{asked.layer.min()} to {asked.layer.max()}")
