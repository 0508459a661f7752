"""The rules of time, cycle by cycle: looks at every node in every cycle and knows nothing but the rules' text.

Slow on purpose. The memory is the fixed one, written from its description: a queue per channel, one burst begun per
clock when the bus is free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

from dchw.program.program import Arbiter, FiringNode, Policy, Program


class StuckError(Exception):
    """Nothing happened for longer than anything can take."""


@dataclass
class Queue:
    """A link: when each item can be seen, when each slot can be used again."""

    items: list[int]
    depth: int
    initial: int
    slots: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    taken: int = 0
    peak: int = 0

    def seen(self, count: int, cycle: int) -> bool:
        wanted = self.items[self.taken : self.taken + count]
        return len(wanted) == count and all(time <= cycle for time in wanted)

    def last_item(self, count: int) -> int:
        return max(self.items[self.taken : self.taken + count], default=0)

    def slot_times(self, count: int) -> list[int] | None:
        if self.depth == 0:
            return []
        need = [len(self.held) + k - self.depth for k in range(count)]
        if any(n >= len(self.slots) for n in need):
            return None
        return [self.slots[n] for n in need if n >= 0]

    def room(self, count: int, cycle: int) -> bool:
        times = self.slot_times(count)
        return times is not None and all(time <= cycle for time in times)

    def take(self, count: int, cycle: int) -> None:
        for _ in range(count):
            if self.taken >= self.initial:
                self.slots.append(cycle + 1)
            self.taken += 1

    def give(self, count: int, cycle: int, visible: int) -> None:
        self.held += [cycle] * count
        self.items += [visible] * count

    def look(self, cycle: int) -> None:
        fill = sum(time <= cycle for time in self.held) - sum(time <= cycle for time in self.slots)
        self.peak = max(self.peak, fill)


class Machine:
    """All nodes of a program; ``run`` gives the log of every firing and grant."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.queues = [Queue([0] * link.initial, link.depth, link.initial) for link in program.links]
        self.log: dict[str, list[tuple[int, int, int, int]]] = {}
        self.state: dict[str, dict] = {}
        self.grants: dict[str, list[list[int]]] = {}
        self.answers: list[list[int]] = []
        for node in program.nodes:
            into, out = program.links_into(node.name), program.links_out_of(node.name)
            if isinstance(node, FiringNode):
                self.log[node.name] = []
                self.state[node.name] = {"i": 0, "finish": 0, "start": None, "in": into, "out": out}
            elif isinstance(node, Arbiter):
                self.grants[node.name] = [[] for _ in into]
                self.state[node.name] = {"ports": [0] * node.ports, "last": len(into) - 1, "in": into, "out": out}
            else:
                memory = node.memory
                self.answers = [[] for _ in into]
                self.state[node.name] = {
                    "in": into, "out": out, "clock": 0, "turn": None, "last": len(into) - 1, "burst": 0,
                    "ratio": memory.clocks_per_cycle(program.clock_hz), "head": [0] * len(into),
                    "queue": [[] for _ in range(memory.channels)], "bus": [Fraction(0)] * memory.channels,
                    "complete": {}, "done": [[] for _ in into],
                }  # fmt: skip

    def run(self) -> int:
        """Cycles of the whole run; raises StuckError on a deadlock."""
        cycle, quiet, patience = 0, 0, self._patience()
        while not self._over():
            happened = False
            for node in self.program.nodes:
                if isinstance(node, FiringNode):
                    happened |= self._fire(node, cycle)
                elif isinstance(node, Arbiter):
                    happened |= self._arbitrate(node, cycle)
                else:
                    happened |= self._serve(node, cycle)
            quiet = 0 if happened else quiet + 1
            if quiet > patience:
                raise StuckError
            cycle += 1
        finishes = [log[-1][1] for log in self.log.values() if log]
        answers = [time for port in self.answers for time in port]
        total = max([0, *finishes, *answers])
        for look_at in range(total + 2):
            for queue in self.queues:
                queue.look(look_at)
        return total

    def _patience(self) -> int:
        longest = 10
        for node in self.program.nodes:
            if isinstance(node, FiringNode):
                longest += max(node.occupied.tolist(), default=0)
            elif isinstance(node, Arbiter):
                longest += node.occupied + (node.blackout[0] if node.blackout else 0)
            else:
                slow = 1 / node.memory.clocks_per_cycle(self.program.clock_hz)
                bursts = sum(int(requests.bursts.sum()) for requests in node.requests)
                longest += ceil((node.memory.clocks_bound(bursts) + 10) * slow)
        return longest + sum(link.latency for link in self.program.links)

    def _over(self) -> bool:
        fired = all(
            len(self.log[node.name]) == len(node.occupied)
            for node in self.program.nodes
            if isinstance(node, FiringNode)
        )
        return fired and all(
            len(q.items) == link.items for q, link in zip(self.queues, self.program.links, strict=True)
        )

    def _moves(self, link: int, firing: int, side: str) -> int:
        by = getattr(self.program.links[link], side)
        return 1 if by is None else by.tolist().count(firing)

    def _fire(self, node: FiringNode, cycle: int) -> bool:
        me = self.state[node.name]
        if me["i"] == len(node.occupied) or cycle < me["finish"]:
            return False
        firing, happened = me["i"], False
        if me["start"] is None:
            wants = [(link, self._moves(link, firing, "taken_by")) for link in me["in"]]
            if not all(self.queues[link].seen(count, cycle) for link, count in wants):
                return False
            me["waited"] = -1
            late = max([0, *(self.queues[link].last_item(count) for link, count in wants)])
            if late > me["finish"]:
                me["waited"] = next(link for link, count in wants if self.queues[link].last_item(count) == late)
            for link, count in wants:
                self.queues[link].take(count, cycle)
            me["start"], happened = cycle, True
        ready = me["start"] + int(node.occupied[firing]) - 1
        gives = [(link, self._moves(link, firing, "given_by")) for link in me["out"]]
        if cycle >= ready and all(self.queues[link].room(count, cycle) for link, count in gives):
            stalled = -1
            if cycle > ready:
                stalled = next(
                    link for link, count in gives if max(self.queues[link].slot_times(count) or [0]) == cycle
                )
            for link, count in gives:
                self.queues[link].give(count, cycle, cycle + 1 + self.program.links[link].latency)
            self.log[node.name].append((me["start"], cycle + 1, me["waited"], stalled))
            me["i"], me["finish"], me["start"], happened = firing + 1, cycle + 1, None, True
        return happened

    def _arbitrate(self, node: Arbiter, cycle: int) -> bool:
        me, happened = self.state[node.name], False
        if node.blackout is not None:
            period, start, length = node.blackout
            if cycle % period in range(start, start + length):
                return False
        while any(free <= cycle for free in me["ports"]):
            eligible = [
                channel
                for channel, (one, other) in enumerate(zip(me["in"], me["out"], strict=True))
                if self.queues[one].seen(1, cycle) and self.queues[other].room(1, cycle)
            ]
            if not eligible:
                break
            if node.policy is Policy.FIXED:
                winner = eligible[0]
            elif node.policy is Policy.ROUND_ROBIN:
                winner = next((c for c in eligible if c > me["last"]), eligible[0])
            else:
                winner = min(eligible, key=lambda c: self.queues[me["in"][c]].last_item(1))
            one, other = me["in"][winner], me["out"][winner]
            self.queues[one].take(1, cycle)
            self.queues[other].give(1, cycle, cycle + node.occupied + self.program.links[other].latency)
            port = next(p for p, free in enumerate(me["ports"]) if free <= cycle)
            me["ports"][port] = cycle + node.occupied
            me["last"], happened = winner, True
            self.grants[node.name][winner].append(cycle)
        return happened

    def _serve(self, node, cycle: int) -> bool:
        me, happened = self.state[node.name], False
        while floor(me["clock"] / me["ratio"]) <= cycle:
            happened |= self._memory_clock(node, me)
            me["clock"] += 1
        return happened

    def _memory_clock(self, node, me) -> bool:
        clock, ratio, ports, memory = me["clock"], me["ratio"], len(me["in"]), node.memory
        happened = self._transfer(memory.fixed, me, clock)
        for port in range(ports):
            happened |= self._answer(node, me, port)
        if me["turn"] is None:
            for step in range(1, ports + 1):
                port = (me["last"] + step) % ports
                queue = self.queues[me["in"][port]]
                if me["head"][port] < len(queue.items) and ceil(queue.items[me["head"][port]] * ratio) <= clock:
                    me["turn"], me["burst"] = port, 0
                    break
        if me["turn"] is None:
            return happened
        port = me["turn"]
        asked, number, used = node.requests[port], me["head"][port], set()
        while me["burst"] < asked.bursts[number]:
            lane = (int(asked.address[number]) // memory.burst_bytes + me["burst"]) % memory.channels
            if lane in used or len(me["queue"][lane]) == memory.fixed.queue:
                return True
            used.add(lane)
            me["queue"][lane].append((port, number, bool(asked.is_write[number]), clock))
            me["burst"] += 1
        self.queues[me["in"][port]].take(1, ceil(clock / ratio))
        me["head"][port], me["last"], me["turn"] = number + 1, port, None
        return True

    def _transfer(self, fixed, me, clock: int) -> bool:
        # a channel begins at most one burst per clock, when its bus is free and the burst was accepted before;
        # a burst that waited follows the one before without a gap, also inside a clock
        exact = Fraction(fixed.burst_size) / Fraction(fixed.bytes_per_cycle * (1 - fixed.rest_of_chip))
        burst_clocks = Fraction(round(exact * 2**20), 2**20)
        happened = False
        for lane, queue in enumerate(me["queue"]):
            if queue and ceil(me["bus"][lane]) <= clock:
                port, number, is_write, accepted = queue.pop(0)
                me["bus"][lane] = max(me["bus"][lane], Fraction(accepted + 1)) + burst_clocks
                done = ceil(me["bus"][lane]) + (0 if is_write else fixed.latency)
                me["complete"].setdefault((port, number), []).append(done)
                happened = True
        return happened

    def _answer(self, node, me, port: int) -> bool:
        number = len(me["done"][port])
        if number == len(node.requests[port].bursts):
            return False
        complete = me["complete"].get((port, number), [])
        if len(complete) < node.requests[port].bursts[number]:
            return False
        done = max([*complete, *me["done"][port]])
        me["done"][port].append(done)
        out, ratio = me["out"][port], me["ratio"]
        visible = ceil(done / ratio) + 1 + self.program.links[out].latency
        self.queues[out].give(1, ceil(done / ratio), visible)
        self.answers[port].append(visible)
        return self._answer(node, me, port) or True
