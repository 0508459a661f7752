"""The reference engine: one SimPy process per node, written to be read next to the rules of `dchw.program.program`.

SimPy's clock ticks twice per cycle. Firing nodes take and give on even ticks; arbiters and the memory decide on odd
ones, when everything visible in their cycle is known. What a process announces carries the cycle from which it is
visible, later than now; so the order of processes within a tick cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np
import simpy

from dchw.engines import memory as mem
from dchw.engines.deadlock import deadlock_error
from dchw.engines.result import ArbiterTimes, IntArray, LinkFill, NodeTimes, Timing
from dchw.program.check import check
from dchw.program.program import UNBOUNDED, Arbiter, FiringNode, Link, MemoryNode, Policy, Program

Process = Generator[simpy.Event, Any, None]
PROGRESS_EVERY = 10_000


def run(
    program: Program,
    *,
    record: bool = False,
    window: tuple[int, int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    order: Sequence[int] | None = None,
) -> Timing:
    """Run a program by its rules.

    ``record`` keeps every start and finish, those inside ``window`` (first cycle, end) if given. ``on_progress`` is
    called with firings done and firings in all. ``order`` is the order in which processes are created; it cannot
    change the result. Raises SimulationError for a malformed program and for a deadlock (T9).
    """
    check(program)
    return _Run(program, on_progress).result(record, window, order or range(len(program.nodes)))


class _Queue:
    """A link at run time (T5). Everything is announced with the cycle from which it is visible."""

    def __init__(self, env: simpy.Environment, index: int, link: Link) -> None:
        self.env, self.index, self.link = env, index, link
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
        freed = np.searchsorted(np.array(self.free_from, np.int64), np.array(self.held_from, np.int64), side="right")
        held = np.arange(1, len(self.held_from) + 1) - freed
        return LinkFill(peak=int(held.max(initial=0)), items=len(self.visible))


class _Run:
    def __init__(self, program: Program, on_progress: Callable[[int, int], None] | None) -> None:
        self.program, self.on_progress = program, on_progress
        self.env = simpy.Environment()
        self.queues = [_Queue(self.env, index, link) for index, link in enumerate(program.links)]
        firing = [node for node in program.nodes if isinstance(node, FiringNode)]
        self.log: dict[str, list[tuple[int, int, int, int, int]]] = {node.name: [] for node in firing}
        self.started = dict.fromkeys(self.log, 0)
        self.grants: dict[str, list[list[int]]] = {}
        self.waited: dict[str, int] = {}
        self.firings, self.done, self.latest_answer = sum(len(node.occupied) for node in firing), 0, 0
        self.memory = mem.memory_state(program)

    def result(self, record: bool, window: tuple[int, int] | None, order: Iterable[int]) -> Timing:
        processes = [self.env.process(self._process(self.program.nodes[index])) for index in order]
        self.env.run()
        if any(process.is_alive for process in processes):
            finished = {name: len(log) for name, log in self.log.items()}
            given, taken = [len(q.visible) for q in self.queues], [q.taken for q in self.queues]
            raise deadlock_error(self.program, finished, self.started, given, taken)
        return self._timing(window or (0, 2**62) if record else None)

    def _process(self, node: FiringNode | Arbiter | MemoryNode) -> Process:
        into = [self.queues[index] for index in self.program.links_into(node.name)]
        out_of = [self.queues[index] for index in self.program.links_out_of(node.name)]
        if isinstance(node, FiringNode):
            return self._firing(node, into, out_of)
        if isinstance(node, Arbiter):
            return self._arbiter(node, into, out_of)
        return self._memory(into, out_of)

    def _firing(self, node: FiringNode, into: list[_Queue], out_of: list[_Queue]) -> Process:
        takes = [_by_firing(queue.link.taken_by, len(node.occupied)) for queue in into]
        gives = [_by_firing(queue.link.given_by, len(node.occupied)) for queue in out_of]
        finish = 0
        for firing, occupied in enumerate(node.occupied.tolist()):
            start, waited_for = finish, -1
            for queue, counts in zip(into, takes, strict=True):
                for ahead in range(counts[firing]):
                    while (visible := queue.item(ahead)) is None:
                        yield queue.changed
                    if visible > start:
                        start, waited_for = visible, queue.index
            yield self.env.timeout(2 * start - self.env.now)  # T3
            for queue, counts in zip(into, takes, strict=True):
                for _ in range(counts[firing]):
                    queue.take(start)
            self.started[node.name] += 1
            handover, stalled_by = start + occupied - 1, -1
            for queue, counts in zip(out_of, gives, strict=True):
                for ahead in range(counts[firing]):
                    while (visible := queue.slot(ahead)) is None:
                        yield queue.changed
                    if visible > handover:
                        handover, stalled_by = visible, queue.index
            yield self.env.timeout(2 * handover - self.env.now)  # T4
            finish = handover + 1
            for queue, counts in zip(out_of, gives, strict=True):
                for _ in range(counts[firing]):
                    queue.put(handover, finish + queue.link.latency)
            self.log[node.name].append((start, finish, handover - (start + occupied - 1), waited_for, stalled_by))
            self.done += 1
            if self.on_progress is not None and (self.done % PROGRESS_EVERY == 0 or self.done == self.firings):
                self.on_progress(self.done, self.firings)

    def _arbiter(self, node: Arbiter, into: list[_Queue], out_of: list[_Queue]) -> Process:
        channels = len(into)
        free_from = [0] * node.ports
        granted_last = channels - 1
        grants: list[list[int]] = [[] for _ in into]
        self.grants[node.name], self.waited[node.name] = grants, 0
        left = sum(queue.link.items for queue in into)
        while left:
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
            left -= 1

    def _memory(self, into: list[_Queue], out_of: list[_Queue]) -> Process:
        state = self.memory
        reg, ports = state.reg, state.port
        left = sum(queue.link.items for queue in out_of)
        while left:
            for port, queue in enumerate(into):
                visible = queue.item()
                if visible is not None and ports[port, mem.READY] == mem.FAR:
                    mem.request_visible(state, port, visible)
            clock = int(mem.next_clock(state))
            changed = [queue.changed for queue in into]
            if clock == mem.FAR:
                yield self.env.any_of(changed)
                continue
            tick = 2 * int(mem.cycle_during(reg, clock)) + 1
            if self.env.now < tick:
                yield self.env.any_of([self.env.timeout(tick - self.env.now), *changed])
                continue
            mem.step(state, clock + 1)
            for row, asked, answers in zip(ports, into, out_of, strict=True):
                for number in range(row[mem.RELEASED], row[mem.HEAD]):
                    asked.take(int(mem.cycle_of(reg, state.request[row[mem.FIRST] + number, mem.ACCEPTED_AT])))
                for number in range(row[mem.DELIVERED], row[mem.ANSWERED]):
                    cycle = int(mem.cycle_of(reg, state.request[row[mem.FIRST] + number, mem.ANSWERED_AT]))
                    visible = cycle + 1 + answers.link.latency
                    answers.put(cycle, visible)
                    self.latest_answer = max(self.latest_answer, visible)
                    left -= 1
                row[mem.RELEASED], row[mem.DELIVERED] = row[mem.HEAD], row[mem.ANSWERED]

    def _timing(self, window: tuple[int, int] | None) -> Timing:
        columns = {name: np.array(log, np.int64).reshape(-1, 5) for name, log in self.log.items()}
        cycles = max([self.latest_answer, *(int(c[-1, 1]) for c in columns.values() if len(c))])  # T10
        layers = len(self.program.layers)
        first, last = np.full(layers, 2**62), np.full(layers, -1)
        nodes = {}
        for node in self.program.nodes:
            if isinstance(node, FiringNode):
                nodes[node.name] = _node_times(node, columns[node.name], cycles, layers, window)
                np.minimum.at(first, node.layer, columns[node.name][:, 0])
                np.maximum.at(last, node.layer, columns[node.name][:, 1])
        arbiters = {
            node.name: ArbiterTimes(
                grants=sum(map(len, self.grants[node.name])),
                waited=self.waited[node.name],
                grant=None if window is None else tuple(_inside(times, window) for times in self.grants[node.name]),
                before=None
                if window is None
                else tuple(sum(cycle < window[0] for cycle in times) for times in self.grants[node.name]),
            )
            for node in self.program.nodes
            if isinstance(node, Arbiter)
        }
        return Timing(
            cycles=cycles,
            nodes=nodes,
            links={queue.link.name: queue.fill() for queue in self.queues},
            layer_start=np.where(last < 0, -1, first),
            layer_finish=last,
            arbiters=arbiters,
            memory=mem.memory_times(self.program, self.memory, cycles),
            program=self.program,
            window=window,
        )


def _by_firing(by: Any, firings: int) -> list[int]:
    # how many items each firing moves
    if by is None:
        return [1] * firings
    return np.bincount(by, minlength=firings).tolist()  # type: ignore[no-any-return]


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


def _node_times(node: FiringNode, log: IntArray, cycles: int, layers: int, window: tuple[int, int] | None) -> NodeTimes:
    start, finish, stall = log[:, 0], log[:, 1], log[:, 2]
    idle = start - np.concatenate([[0], finish[:-1]]) if len(log) else start
    by_layer = np.zeros((layers, 3), np.int64)
    for column, values in enumerate((node.occupied, stall, idle)):
        np.add.at(by_layer[:, column], node.layer, values)
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
