"""The reference engine: one SimPy process per node, written to be read next to the rules of `dchw.program.program`.

SimPy's clock ticks twice per cycle. Firing nodes take and give on even ticks; arbiters and the memory decide on odd
ones, when everything visible in their cycle is known. What a process announces carries the cycle from which it is
visible, later than now; so the order of processes within a tick cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from dchw.engines import memory as mem
from dchw.engines.deadlock import deadlock_error
from dchw.engines.result import ArbiterTimes, IntArray, LinkFill, NodeTimes, Timing
from dchw.program.check import check
from dchw.program.layer_runs import LayerRuns
from dchw.program.program import UNBOUNDED, Arbiter, FiringNode, Link, MemoryNode, Policy, Program
from dchw.program.windows import Window, Windowed
from dchw.quantities import SimulationError

Process = Generator[simpy.Event, Any, None]
PROGRESS_EVERY = 10_000


def run(
    program: Program | Windowed,
    *,
    record: bool = False,
    window: tuple[int, int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    order: Sequence[int] | None = None,
) -> Timing:
    """Run a program by its rules.

    ``record`` keeps every start and finish, those inside ``window`` (first cycle, end) if given. ``on_progress`` is
    called with firings done and, as far as is known, in all. A program in windows is run window by window, one whose
    times are recorded in one piece. ``order`` is the order in which processes are created; it cannot
    change the result. Raises SimulationError for a malformed program and for a deadlock (T9).
    """
    if isinstance(program, Windowed):
        timing = None if record else _Run(program, program.windows(), on_progress).result()
        if timing is not None:
            return timing
        program = program.whole()
    check(program)
    made = _Run(program, iter([Window(piece=program, coming={})]), on_progress)
    timing = made.result(window or (0, 2**62) if record else None, order)
    if timing is None:
        raise made.deadlock(program)
    return timing


class _Queue:
    """A link at run time (T5). Everything is announced with the cycle from which it is visible."""

    def __init__(self, env: simpy.Environment, index: int, link: Link) -> None:
        self.env, self.index, self.link = env, index, link
        self.expected = link.initial  # items that are known to come
        self.surplus = 0  # of those given, how many are no part of the run
        self.visible = [0] * link.initial  # of every item there has been
        self.held_from: list[int] = []  # of every item given in the run
        self.free_from: list[int] = []  # of the slots of those taken
        self.taken = 0
        self.changed = env.event()

    def _announce(self) -> None:
        self.changed.succeed()
        self.changed = self.env.event()

    def put(self, cycle: int, visible: int) -> None:
        """An item whose slot is held from ``cycle``."""
        self.held_from.append(cycle)
        self.visible.append(visible)
        self._announce()

    def take(self, cycle: int) -> None:
        if self.taken >= self.link.initial:
            self.free_from.append(cycle + 1)
        self.taken += 1
        self._announce()

    def item(self, ahead: int = 0) -> int | None:
        """Visible time of the head item, or of one behind it; None if it has not been given."""
        place = self.taken + ahead
        return self.visible[place] if place < len(self.visible) else None

    def slot(self, ahead: int = 0) -> int | None:
        """Visible time of the slot that the next given item needs, or one after it; None while it is held."""
        place = len(self.held_from) + ahead - self.link.depth
        if self.link.depth == UNBOUNDED or place < 0:
            return 0
        return self.free_from[place] if place < len(self.free_from) else None

    def fill(self) -> LinkFill:
        held_from = np.array(self.held_from[: len(self.held_from) - self.surplus], np.int64)
        freed = np.searchsorted(np.array(self.free_from, np.int64), held_from, side="right")
        held = np.arange(1, len(held_from) + 1) - freed
        return LinkFill(peak=int(held.max(initial=0)), items=len(self.visible) - self.surplus)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """Firings of a node that one window appends, and how many items each moves on each of the node's links."""

    occupied: list[int]
    takes: list[tuple[_Queue, list[int]]]
    gives: list[tuple[_Queue, list[int]]]


class _Run:
    def __init__(
        self,
        program: Program | Windowed,
        windows: Iterator[Window],
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.program, self.windows, self.on_progress = program, windows, on_progress
        self.env = simpy.Environment()
        self.queues: dict[str, _Queue] = {}
        self.parts: dict[str, list[_Part]] = {}  # of each firing node, those still to be done
        self.occupied: dict[str, list[IntArray]] = {}
        self.layer: dict[str, LayerRuns] = {}
        self.log: dict[str, list[tuple[int, int, int, int, int]]] = {}
        self.started: dict[str, int] = {}
        self.grants: dict[str, list[list[int]]] = {}
        self.waited: dict[str, int] = {}
        self.firings, self.done, self.latest_answer = 0, 0, 0
        self.more = True
        self._append()
        self.memory = mem.memory_state(self.piece)

    def _append(self) -> None:
        """Take the next window in."""
        window = next(self.windows)
        self.piece, self.more = window.piece, bool(window.coming)
        for index, link in enumerate(self.piece.links):
            if link.name not in self.queues:
                self.queues[link.name] = _Queue(self.env, index, link)
            self.queues[link.name].surplus = window.surplus.get(link.name, 0)
        for node in self.piece.nodes:
            if isinstance(node, FiringNode):
                self._append_firings(node)
        for name in window.coming:
            self.parts.setdefault(name, [])

    def _append_firings(self, node: FiringNode) -> None:
        begun, count = sum(map(len, self.occupied.setdefault(node.name, []))), len(node.occupied)
        takes = [(queue, _by_firing(link.taken_by, begun, count)) for queue, link in self._into(node.name)]
        gives = [(queue, _by_firing(link.given_by, begun, count)) for queue, link in self._out_of(node.name)]
        for queue, counts in gives:
            queue.expected += sum(counts)
        self.parts.setdefault(node.name, [])
        if count:
            self.parts[node.name].append(_Part(occupied=node.occupied.tolist(), takes=takes, gives=gives))
        self.occupied[node.name].append(node.occupied)
        self.layer[node.name] = self.layer.get(node.name, LayerRuns()).then(node.layer)
        self.log.setdefault(node.name, [])
        self.started.setdefault(node.name, 0)
        self.firings += count

    def _into(self, name: str) -> list[tuple[_Queue, Link]]:
        links = [self.piece.links[index] for index in self.piece.links_into(name)]
        return [(self.queues[link.name], link) for link in links]

    def _out_of(self, name: str) -> list[tuple[_Queue, Link]]:
        links = [self.piece.links[index] for index in self.piece.links_out_of(name)]
        return [(self.queues[link.name], link) for link in links]

    def result(self, window: tuple[int, int] | None = None, order: Sequence[int] | None = None) -> Timing | None:
        """The times of the run; None where it came to a standstill before its end."""
        nodes = self.piece.nodes
        listed = [nodes[at] for at in order or range(len(nodes))]
        for node in listed:
            if not isinstance(node, FiringNode):
                self.env.process(self._choosing(node))
            else:
                self.env.process(self._firing(node.name))
        for name in self.parts.keys() - {node.name for node in nodes}:
            self.env.process(self._firing(name))
        self.env.run()
        finished = self.done == self.firings and not self.more
        return self._timing(window) if finished and not any(self._open(node) for node in listed) else None

    def deadlock(self, program: Program) -> SimulationError:
        """The error of a run of a whole program that came to a standstill (T9)."""
        finished = {name: len(log) for name, log in self.log.items()}
        queues = [self.queues[link.name] for link in program.links]
        return deadlock_error(
            program, finished, self.started, [len(q.visible) for q in queues], [q.taken for q in queues]
        )

    def _choosing(self, node: Arbiter | MemoryNode) -> Process:
        into = [queue for queue, _ in self._into(node.name)]
        out_of = [queue for queue, _ in self._out_of(node.name)]
        if isinstance(node, Arbiter):
            return self._arbiter(node, into, out_of)
        return self._memory(node, into, out_of)

    def _open(self, node: FiringNode | Arbiter | MemoryNode) -> bool:
        """Whether an arbiter or the memory has items to pass, or may get some."""
        if isinstance(node, FiringNode):
            return False
        passed = zip(self._into(node.name), self._out_of(node.name), strict=True)
        return self.more or any(len(other.visible) < one.expected for (one, _), (other, _) in passed)

    def _firing(self, name: str) -> Process:
        finish = 0
        while self.parts[name] or self.more:
            if not self.parts[name]:
                self._append()
                continue
            part = self.parts[name].pop(0)
            for firing, occupied in enumerate(part.occupied):
                start, waited_for = finish, -1
                for queue, counts in part.takes:
                    for ahead in range(counts[firing]):
                        while (visible := queue.item(ahead)) is None:
                            yield queue.changed
                        if visible > start:
                            start, waited_for = visible, queue.index
                yield self.env.timeout(2 * start - self.env.now)  # T3
                for queue, counts in part.takes:
                    for _ in range(counts[firing]):
                        queue.take(start)
                self.started[name] += 1
                handover, stalled_by = start + occupied - 1, -1
                for queue, counts in part.gives:
                    for ahead in range(counts[firing]):
                        while (visible := queue.slot(ahead)) is None:
                            yield queue.changed
                        if visible > handover:
                            handover, stalled_by = visible, queue.index
                yield self.env.timeout(2 * handover - self.env.now)  # T4
                finish = handover + 1
                for queue, counts in part.gives:
                    for _ in range(counts[firing]):
                        queue.put(handover, finish + queue.link.latency)
                self.log[name].append((start, finish, handover - (start + occupied - 1), waited_for, stalled_by))
                self._progress()

    def _progress(self) -> None:
        self.done += 1
        if self.on_progress is not None and (self.done % PROGRESS_EVERY == 0 or self.done == self.firings):
            self.on_progress(self.done, self.firings)

    def _arbiter(self, node: Arbiter, into: list[_Queue], out_of: list[_Queue]) -> Process:
        channels = len(into)
        free_from = [0] * node.ports
        granted_last = channels - 1
        grants: list[list[int]] = [[] for _ in into]
        self.grants[node.name], self.waited[node.name] = grants, 0
        while self._open(node):
            ready = {}  # channel: the cycle in which it becomes eligible, where that is known
            for channel in range(channels):
                item, slot = into[channel].item(), out_of[channel].slot()
                if item is not None and slot is not None:
                    ready[channel] = max(item, slot)
            if not ready:
                yield self.env.any_of([queue.changed for queue in (*into, *out_of)])
                continue
            cycle = _after_blackout(node, max(min(ready.values()), min(free_from), self.env.now // 2))
            if self.env.now < 2 * cycle + 1:
                wake = self.env.timeout(2 * cycle + 1 - self.env.now)
                yield self.env.any_of([wake, *(queue.changed for queue in (*into, *out_of))])
                continue
            eligible = [channel for channel, at in ready.items() if at <= cycle]
            winner = _winner(node.policy, eligible, granted_last, channels, into)
            self.waited[node.name] += cycle - (into[winner].item() or 0)
            into[winner].take(cycle)
            out_of[winner].put(cycle, cycle + node.occupied + out_of[winner].link.latency)
            free_from[free_from.index(min(free_from))] = cycle + node.occupied
            grants[winner].append(cycle)
            granted_last = winner

    def _memory(self, memory: MemoryNode, into: list[_Queue], out_of: list[_Queue]) -> Process:
        state = self.memory
        node, ports = state.node, state.port
        while self._open(memory):
            for port, queue in enumerate(into):
                visible = queue.item()
                if visible is not None and ports[port].ready == mem.FAR:
                    mem.request_visible(state, port, visible)
            clock = int(mem.next_clock(state))
            changed = [queue.changed for queue in into]
            if clock == mem.FAR:
                yield self.env.any_of(changed)
                continue
            tick = 2 * int(mem.cycle_during(node, clock)) + 1
            if self.env.now < tick:
                yield self.env.any_of([self.env.timeout(tick - self.env.now), *changed])
                continue
            mem.step(state, clock + 1)
            for row, asked, answers in zip(ports, into, out_of, strict=True):
                for number in range(row.released, row.head):
                    asked.take(int(mem.cycle_of(node, state.request[row.first + number].accepted_at)))
                for number in range(row.delivered, row.answered):
                    cycle = int(mem.cycle_of(node, state.request[row.first + number].answered_at))
                    visible = cycle + 1 + answers.link.latency
                    answers.put(cycle, visible)
                    self.latest_answer = max(self.latest_answer, visible)
                row.released, row.delivered = row.head, row.answered

    def _timing(self, window: tuple[int, int] | None) -> Timing:
        columns = {name: np.array(log, np.int64).reshape(-1, 5) for name, log in self.log.items()}
        cycles = max([self.latest_answer, *(int(c[-1, 1]) for c in columns.values() if len(c))])  # T10
        layers = len(self.piece.layers)
        first, last = np.full(layers, 2**62), np.full(layers, -1)
        nodes = {}
        for name in (node.name for node in self.piece.nodes if isinstance(node, FiringNode)):
            occupied, layer = np.concatenate(self.occupied[name]), self.layer[name].listed()
            nodes[name] = _node_times(occupied, layer, columns[name], cycles, layers, window)
            np.minimum.at(first, layer, columns[name][:, 0])
            np.maximum.at(last, layer, columns[name][:, 1])
        arbiters = {
            name: ArbiterTimes(
                grants=sum(map(len, grants)),
                waited=self.waited[name],
                grant=None if window is None else tuple(_inside(times, window) for times in grants),
                before=None if window is None else tuple(sum(cycle < window[0] for cycle in times) for times in grants),
            )
            for name, grants in self.grants.items()
        }
        fills = {name: queue.fill() for name, queue in self.queues.items()}
        windowed = isinstance(self.program, Windowed)  # nodes and links that came to nothing are no part of the program
        return Timing(
            cycles=cycles,
            nodes={name: times for name, times in nodes.items() if times.firings or not windowed},
            links={name: fill for name, fill in fills.items() if fill.items or not windowed},
            layer_start=np.where(last < 0, -1, first),
            layer_finish=last,
            arbiters=arbiters,
            memory=mem.memory_times(self.piece, self.memory, cycles),
            program=self.program,
            window=window,
        )


def _by_firing(by: Any, begun: int, firings: int) -> list[int]:
    # how many items each firing from ``begun`` on moves
    if by is None:
        return [1] * firings
    return np.bincount(by - begun, minlength=firings).tolist()  # type: ignore[no-any-return]


def _after_blackout(node: Arbiter, cycle: int) -> int:
    if node.blackout is None:
        return cycle
    period, start, length = node.blackout
    into = cycle % period - start
    return cycle + length - into if 0 <= into < length else cycle


def _winner(policy: Policy, eligible: list[int], last: int, channels: int, into: list[_Queue]) -> int:
    if policy is Policy.FIXED:
        return min(eligible)
    if policy is Policy.ROUND_ROBIN:
        return min(eligible, key=lambda channel: (channel - last - 1) % channels)
    return min(eligible, key=lambda channel: (into[channel].item(), channel))


def _inside(times: list[int], window: tuple[int, int]) -> IntArray:
    cycles = np.array(times, np.int64)
    return cycles[(cycles >= window[0]) & (cycles < window[1])]


def _node_times(
    occupied: IntArray, layer: IntArray, log: IntArray, cycles: int, layers: int, window: tuple[int, int] | None
) -> NodeTimes:
    start, finish, stall = log[:, 0], log[:, 1], log[:, 2]
    idle = start - np.concatenate([[0], finish[:-1]]) if len(log) else start
    by_layer = np.zeros((layers, 3), np.int64)
    for column, values in enumerate((occupied, stall, idle)):
        np.add.at(by_layer[:, column], layer, values)
    busy, stalled, waited = (int(total) for total in by_layer.sum(axis=0))
    trailing = cycles - int(finish[-1]) if len(log) else cycles
    common: dict[str, Any] = {
        "busy": busy, "stall": stalled, "idle": waited + trailing, "firings": len(log), "by_layer": by_layer
    }  # fmt: skip
    if window is None:
        return NodeTimes(**common)
    shown = np.flatnonzero((finish > window[0]) & (start < window[1]))
    kept = log[shown]
    return NodeTimes(
        **common,
        first=int((finish <= window[0]).sum()),
        start=kept[:, 0],
        finish=kept[:, 1],
        waited_for=kept[:, 3].astype(np.int32),
        stalled_by=kept[:, 4].astype(np.int32),
    )
