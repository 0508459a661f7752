"""A run in windows: tables of a few pieces of a program at a time, and what is carried from one set to the next.

A piece is laid out as if it were a program (`dchw.engines.fast.flatten`), with the firings and items that are left of
the pieces before; then clocks, queues, arbiters and the memory are set to where they were. Nothing of that can show,
because the order in which nodes are evaluated does not (`dchw.engines.fast`), and because the kernels stop (``MORE``)
before anything is decided while a node has come to its last known firing and `Window.coming` has more of it to come:
what it would do is not known, and a decision could depend on it.

Firings of a set of tables count from the first that is left, and items as `dchw.engines.fast.carried_queues` says. The
lists of a piece are let go as soon as what is left of them lies in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dchw.engines.fast import firings
from dchw.engines.fast.carried_queues import CarriedQueues
from dchw.engines.fast.flat_lists import FlatLists, Pieces, Row
from dchw.engines.fast.flatten import flatten, kinds
from dchw.engines.fast.program_tables import Tables
from dchw.engines.memory import MemoryState, memory_state, memory_times
from dchw.engines.named_rows import Rows
from dchw.engines.result import ArbiterTimes, IntArray, NodeTimes, Timing
from dchw.program.check import Facts, check_piece, plain, repeated
from dchw.program.layer_runs import LayerRuns
from dchw.program.program import FiringNode, Program
from dchw.program.windows import Window, Windowed
from dchw.quantities import SimulationError


def run_windows(
    program: Windowed, *, calls: int, on_progress: Callable[[int, int], None] | None = None
) -> Timing | None:
    """Run a program window by window; None where it came to a standstill with firings left.

    ``calls``: firings between two calls of ``on_progress``, which is told firings done and, about, in all.
    """
    run = _CarriedRun(program)
    windows = program.windows()
    run.append(next(windows))
    while True:
        tables = run.tables()
        while (state := firings.advance(tables, run.memory, calls)) == firings.PAUSED:
            if on_progress is not None:
                on_progress(int(tables.run.done), max(run.known, program.expected))
        run.settle(tables)
        if state != firings.MORE:
            break
        run.append_until_wanted(windows)
    if not run.finished():
        return None
    timing = run.timing()
    if on_progress is not None:
        on_progress(run.known, run.known)
    return timing


@dataclass(eq=False)
class _Node:
    """A firing node so far; counters of `dchw.engines.fast.program_tables.NodeRow` that are carried."""

    by_layer: IntArray
    """int64[layers, 3]: cycles busy, stalled and idle."""
    occupied: Pieces = field(default_factory=Pieces)
    """Of the firings that are left, from number ``begun`` on."""
    layer: LayerRuns = field(default_factory=LayerRuns)
    begun: int = 0
    finish: int = 0
    started: int = 0
    start: int = 0
    waited_for: int = -1

    @property
    def known(self) -> int:
        """Firings of the pieces so far."""
        return self.begun + self.occupied.size


class _CarriedRun:
    """A run between two sets of tables."""

    def __init__(self, program: Windowed) -> None:
        self._program = program
        self._layers = len(program.layers)
        self._nodes: dict[str, _Node] = {}
        self._queues = CarriedQueues()
        self._arbiters: dict[str, Any] = {}
        self._ports: IntArray | None = None
        self._memory: MemoryState | None = None
        self._carried: dict[str, int] = {}
        self._room: Row | None = None
        self._first = np.full(self._layers, 2**62)
        self._last = np.full(self._layers, -1)
        self.known = 0
        """Firings of all pieces so far."""

    @property
    def memory(self) -> MemoryState:
        """The memory of the run, which the pieces share."""
        return memory_state(self._piece) if self._memory is None else self._memory

    def append(self, window: Window) -> None:
        """Take a window in."""
        piece = window.piece
        for node in piece.nodes:
            if isinstance(node, FiringNode):
                self._append_firings(node)
        self._queues.append(piece.links)
        if self._memory is None and piece.memory is not None:
            self._memory = memory_state(piece)
        self._piece = piece
        self._coming, self._surplus = window.coming, window.surplus

    def append_until_wanted(self, windows: Iterator[Window]) -> None:
        """Take windows in until no node that can go on has come to its last known firing, or none is left."""
        while self._coming:
            said = {
                name: (link, self._nodes[name].known if name in self._nodes else 0)
                for name, link in self._coming.items()
                if link is not None
            }
            window = next(windows)
            _check_promises(said, window)
            self.append(window)
            if not self._wanted():
                return

    def _wanted(self) -> bool:
        for name, link in self._coming.items():
            node = self._nodes.get(name)
            if (node is None or node.occupied.size == 0) and (link is None or self._queues.waits(link)):
                return True
        return False

    def _append_firings(self, node: FiringNode) -> None:
        mine = self._nodes.get(node.name)
        if mine is None:
            mine = self._nodes[node.name] = _Node(by_layer=np.zeros((self._layers, 3), np.int64))
        if len(node.occupied):
            mine.occupied.append(repeated(plain(node.occupied, f"node {node.name!r}", "occupied")))
            mine.layer = mine.layer.then(node.layer)
            self.known += len(node.occupied)

    def tables(self) -> Tables:
        """What is left of the pieces so far as tables, in the state of the run."""
        links, queues = self._piece.links, self._queues
        firing = {name: (node.begun, node.occupied.size) for name, node in self._nodes.items()}
        wanted = [(self._nodes[item.name].occupied, 0, -1) for item in kinds(self._piece)[0]]
        lists, rows = FlatLists.joined([*wanted, *queues.wanted(links, firing)], queues.most_given(links), self._room)
        self._room, joined = lists.row, iter(rows)
        nodes = tuple(
            self._left(item, next(joined)) if isinstance(item, FiringNode) else item for item in self._piece.nodes
        )
        left = replace(self._piece, nodes=nodes, links=queues.left(links, firing, joined))
        self._piece = left  # the lists of the pieces are let go
        self._facts: Facts = check_piece(left)
        tables = flatten(left, self._facts, lists=lists, without_slot=queues.without_slot(links))
        self._set(left, tables)
        return tables

    def _left(self, item: FiringNode, occupied: Row | None) -> FiringNode:
        assert occupied is not None, "cycles are no numbers of firings"
        node = self._nodes[item.name]
        node.occupied = node.occupied.at(occupied, 0)
        return FiringNode(name=item.name, unit=item.unit, occupied=occupied, layer=node.layer)

    def _set(self, left: Program, tables: Tables) -> None:
        """Set tables in their initial state to the state of the run."""
        firing, arbiters = kinds(left)
        numbers = {link.name: number for number, link in enumerate(left.links)}
        for number, item in enumerate(firing):
            node, row = self._nodes[item.name], tables.node[number]
            row.finish, row.started, row.start, row.waited_for = node.finish, node.started, node.start, node.waited_for
            awaits = self._coming.get(item.name)
            row.coming = item.name in self._coming and (awaits is None or awaits in numbers)
            row.awaits = -1 if awaits is None or awaits not in numbers else numbers[awaits]
        self._queues.set(left.links, tables, self._surplus)
        for number, arbiter in enumerate(arbiters):
            for name, value in self._arbiters.get(arbiter.name, {}).items():
                setattr(tables.arbiter[number], name, value)
        if self._ports is not None:
            tables.port_free[:] = self._ports
        for name, value in self._carried.items():
            setattr(tables.run, name, value)
        tables.run.unfinished = bool(self._coming)
        tables.run.exhausted = int((tables.node["count"] == 0).sum())

    def settle(self, tables: Tables) -> None:
        """Carry over what the tables came to."""
        firing, arbiters = kinds(self._piece)
        copies: dict[tuple[int, int], Row] = {}
        rows = _columns(tables.node, "next", "finish", "started", "start", "waited_for")
        spans = _columns(tables.span, "start", "finish", "stall", "idle")
        for item, (done, *times) in zip(firing, rows, strict=True):
            node = self._nodes[item.name]
            self._settle_spans(node, self._facts.nodes[item.name].spans, item.occupied, done, spans)
            if len(item.occupied):
                node.occupied = node.occupied.behind(done, copies)
                node.layer = node.layer.part(done, len(item.occupied))
            node.begun += done
            node.finish, node.started, node.start, node.waited_for = times
        self._queues.settle(self._piece.links, tables, copies)
        for number, arbiter in enumerate(arbiters):
            chosen = tables.arbiter[number]
            self._arbiters[arbiter.name] = {name: int(getattr(chosen, name)) for name in ("last", "grants", "waited")}
        self._ports = tables.port_free
        names = ("done", "latest_answer", "in_runs", "with_forks")
        self._carried = {name: int(getattr(tables.run, name)) for name in names}

    def _settle_spans(
        self,
        node: _Node,
        spans: Sequence[tuple[int, int, int]],
        occupied: Row,
        done: int,
        rows: Iterator[tuple[int, ...]],
    ) -> None:
        begin = 0
        for (end, layer, cycles), (start, finish, stall, idle) in zip(spans, rows, strict=False):
            left = int(occupied[max(begin, done) : end].sum(dtype=np.int64)) if done < end else 0
            node.by_layer[layer] += cycles - left, stall, idle
            if start >= 0:
                self._first[layer] = min(self._first[layer], start)
            self._last[layer] = max(self._last[layer], finish if finish > 0 else -1)
            begin = end

    def finished(self) -> bool:
        """Whether every firing is done and every item is where it belongs."""
        memory = self._memory
        answered = memory is None or bool((memory.port["answered"] == memory.port["count"]).all())
        shared = [link for link in self._piece.links if not isinstance(self._piece.node(link.target), FiringNode)]
        return (
            answered and all(node.occupied.size == 0 for node in self._nodes.values()) and self._queues.passed(shared)
        )

    def timing(self) -> Timing:
        """The outcome of the whole run."""
        piece = self._piece
        firing, arbiters = kinds(piece)
        cycles = max(self._carried["latest_answer"], *(node.finish for node in self._nodes.values()))
        nodes = {}
        for item in firing:
            node = self._nodes[item.name]
            if node.known:
                busy, stall, idle = (int(total) for total in node.by_layer.sum(axis=0))
                nodes[item.name] = NodeTimes(
                    busy=busy,
                    stall=stall,
                    idle=idle + cycles - node.finish,
                    firings=node.known,
                    by_layer=node.by_layer,
                )
        return Timing(
            cycles=cycles,
            nodes=nodes,
            links=self._queues.fills(piece.links, self._surplus),
            layer_start=np.where(self._last < 0, -1, self._first),
            layer_finish=self._last,
            arbiters={
                item.name: ArbiterTimes(
                    grants=self._arbiters[item.name]["grants"], waited=self._arbiters[item.name]["waited"]
                )
                for item in arbiters
            },
            memory=None if self._memory is None else memory_times(piece, self._memory, cycles),
            program=self._program,
        )


def _columns(table: Rows[Any], *names: str) -> Iterator[tuple[int, ...]]:
    """Fields of row after row: much faster than asking every record for them."""
    return zip(*(table[name].tolist() for name in names), strict=True)


def _check_promises(said: dict[str, tuple[str, int]], window: Window) -> None:
    """Check that what fires again takes an item of the link that was named for it; ``said`` gives that link and the
    number of the firing by node."""
    links = {link.name: link for link in window.piece.links}
    for node in window.piece.nodes:
        if isinstance(node, FiringNode) and node.occupied.size and node.name in said:
            name, firing = said[node.name]
            taken_by = links[name].taken_by if name in links else None
            if taken_by is None or not taken_by.size or int(taken_by[0]) != firing:
                raise SimulationError(
                    f"window: expected firing {firing} of node {node.name!r} to take an item of link {name!r}, as was "
                    "said before; got none; this is a fault of the simulator, please report it"
                )
