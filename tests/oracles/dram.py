"""A memory controller that looks at every clock, and a checker of command traces; slow, plain, sharing no kernels.

Both decide legality from the rules of a standard and the list of commands so far, never from tables of ready times.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import floor

from dchw.dram.options import Controller
from dchw.dram.standard import Standard

LEVELS = ("channel", "rank", "bank_group", "bank")

Command = tuple[int, str, int, int, int]
"""Clock, name, bank, row, column (-1 where none)."""


class Device:
    """What is known of a channel from the commands it was given: clocks by command and node, open rows."""

    def __init__(self, std: Standard) -> None:
        self.std = std
        org = std.organisation
        self.banks = org.ranks * org.banks
        self.bus_free = 0
        self.row = [None] * self.banks
        self.activating: tuple[int, int] | None = None  # bank, last clock of the second part
        self.given: dict[tuple[str, str, int], list[int]] = defaultdict(list)
        self.window = std.role_cycles("activate_window")
        size = {"channel": self.banks, "rank": org.banks, "bank_group": org.banks_per_group, "bank": 1}
        self.node = {level: [bank // size[level] for bank in range(self.banks)] for level in LEVELS}
        self.rules = defaultdict(list)
        for rule in std.constraints.rules:
            for following in rule.following:
                for preceding in rule.preceding:
                    self.rules[following].append((rule, preceding, std.adjusted_latency(rule, preceding, following)))

    def targets(self, command: str, bank: int) -> list[int]:
        """Banks a command goes to; all-bank commands are given with any bank of their rank."""
        have = self.std.commands
        if command in (have.precharge_all, have.refresh_all):
            per_rank = self.std.organisation.banks
            return list(range(bank // per_rank * per_rank, (bank // per_rank + 1) * per_rank))
        if command == have.refresh_bank and have.refreshed_banks == 2:
            return [bank, bank + self.std.organisation.banks // 2]
        return [bank]

    def broken(self, command: str, bank: int, clock: int) -> list[str]:
        """Rules that forbid a command at a clock; empty if it is legal in time."""
        out = [] if clock >= self.bus_free else [f"{command}@{clock}: command bus held until {self.bus_free}"]
        for rule, preceding, latency in self.rules[command]:
            node_of = self.node[rule.level]
            for mine in {node_of[target] for target in self.targets(command, bank)}:
                for node in sorted(set(node_of) - {mine}) if rule.sibling else [mine]:
                    before = self.given[rule.level, preceding, node]
                    if len(before) >= rule.window and clock < before[-rule.window] + latency:
                        out.append(
                            f"{command}@{clock}: {latency} clocks ({rule.latency}) after {preceding}@"
                            f"{before[-rule.window]} at {rule.level} {node}"
                        )
        return out

    def give(self, command: str, bank: int, row: int, clock: int) -> None:
        have = self.std.commands
        self.bus_free = clock + have.clocks[command]
        for level in LEVELS:
            for node in {self.node[level][target] for target in self.targets(command, bank)}:
                self.given[level, command, node].append(clock)
        if command == have.activate:
            if have.activate_second is None:
                self.row[bank] = row
            else:
                self.activating = (bank, clock + self.window)
        elif command == have.activate_second:
            self.row[bank] = row
            self.activating = None
        elif command in (have.precharge, have.precharge_all, have.read_precharge, have.write_precharge):
            for target in self.targets(command, bank):
                self.row[target] = None


def faults(std: Standard, trace: list[Command]) -> list[str]:
    """Everything wrong with a command trace: each rule between each pair of commands, bus, rows, clock synchronisation.

    Only the ``window``-th last preceding command is compared, which all earlier ones imply.
    """
    device, have = Device(std), std.commands
    reads, writes = (have.read, have.read_precharge), (have.write, have.write_precharge)
    latencies = std.role_cycles("read_latency"), std.role_cycles("write_latency")
    postamble = std.role_cycles("sync_postamble")
    sync, expiry = None, 0
    out = []
    for clock, command, bank, row, _ in trace:
        out += device.broken(command, bank, clock)
        where = f"{command}@{clock} bank {bank}"
        closed = [device.row[target] is None for target in device.targets(command, bank)]
        if device.activating is not None:
            if clock > device.activating[1]:
                out.append(f"{where}: the second part of an activation is late")
            if device.activating[0] in device.targets(command, bank) and command != have.activate_second:
                out.append(f"{where}: between the two parts of an activation")
        elif command == have.activate_second:
            out.append(f"{where}: no first part")
        if command in (have.activate, have.refresh_all, have.refresh_bank) and not all(closed):
            out.append(f"{where}: a row is open")
        if command in (*reads, *writes):
            if device.row[bank] != row:
                out.append(f"{where}: row {row} is not open")
            if have.sync_read is not None:
                if sync is None and clock >= expiry:
                    out.append(f"{where}: the data clock has stopped")
                if sync is not None and sync != (bank, command in reads):
                    out.append(f"{where}: the data clock was started for another access")
                lasting = latencies[command in writes]
                expiry = max(expiry, clock + lasting + postamble)
                sync = None
        elif sync is not None:
            out.append(f"{where}: between clock synchronisation and access")
        if command in (have.sync_read, have.sync_write) and command is not None:
            sync = (bank, _reads_next(std, trace, clock))
        device.give(command, bank, row, clock)
    return out


def _reads_next(std: Standard, trace: list[Command], clock: int) -> bool:
    later = next((c for t, c, *_ in trace if t > clock), std.commands.read)
    return later in (std.commands.read, std.commands.read_precharge)


def line_activity(std: Standard, trace: list[Command], clocks: int) -> tuple[int, int]:
    """Rising edges of all command and address lines, and beats that they are high, up to a clock.

    Every line's level is written down for every beat of the run, from the words of the standard's file.
    """
    codes, org = std.codes, std.organisation
    beats = clocks * codes.beats_per_clock
    lines = len(codes.words[std.commands.read].split("|")[0].split())
    levels = [[0] * lines for _ in range(beats)]
    for clock, command, bank, row, column in trace:
        group, in_group = divmod(bank % org.banks, org.banks_per_group)
        value = {"R": row, "C": column * codes.columns_per_burst, "BA": in_group, "BG": group}
        for number, beat in enumerate(codes.words[command].split("|")):
            at = clock * codes.beats_per_clock + number
            if at < beats:
                for line, token in enumerate(beat.split()):
                    name = token.rstrip("0123456789")
                    levels[at][line] = (
                        int(token == "H") if name in ("H", "L", "V") else value[name] >> int(token[len(name) :]) & 1
                    )
    before = [[0] * lines, *levels]
    rises = sum(
        now > then for one, other in zip(before, levels, strict=False) for then, now in zip(one, other, strict=True)
    )
    return rises, sum(map(sum, levels))


@dataclass
class Request:
    bank: int
    row: int
    column: int
    is_write: bool
    tag: int
    arrived: int
    counted: bool = False


@dataclass
class SlowController:
    """One channel, clock by clock."""

    std: Standard
    options: Controller = field(default_factory=Controller)

    def __post_init__(self) -> None:
        self.device = Device(self.std)
        self.options = self.std.settled(self.options)
        roles = ("read_latency", "write_latency", "sync_postamble", "refresh_interval", "bank_refresh_interval")
        self.cycles = {role: self.std.role_cycles(role) for role in roles}
        self.gap = self._sync_gap() if self.std.commands.sync_read is not None else 0
        self.burst = self.std.role_cycles("burst")
        self.clock = 0
        self.queues: dict[bool, list[Request]] = {False: [], True: []}
        self.opened: list[Request] = []
        self.activating: Request | None = None
        self.announced: Request | None = None
        self.write_mode = False
        self.expiry = 0
        self.maintenance: list[int] = []
        self.turn = 0
        self.last_accept = -1
        self.last_use = [0] * self.device.banks
        self.trace: list[Command] = []
        self.completions: list[tuple[int, int]] = []
        self.hits = self.misses = self.conflicts = 0

    # what the outside does

    def offer(self, bank: int, row: int, column: int, is_write: bool, tag: int) -> bool:
        if self.last_accept == self.clock:
            return False
        new = Request(bank, row, column, is_write, tag, self.clock)
        waiting = [r for r in [*self.queues[True], *self.opened, *filter(None, [self.activating])] if r.is_write]
        if any((r.bank, r.row, r.column) == (bank, row, column) for r in waiting):
            self.completions.append((tag, self.clock + 1))
        else:
            room = self.options.write_queue if is_write else self.options.read_queue
            if len(self.queues[is_write]) >= room:
                return False
            self.queues[is_write].append(new)
        self.last_accept = self.clock
        return True

    @property
    def pending(self) -> int:
        return sum(map(len, self.queues.values())) + len(self.opened) + (self.activating is not None)

    # one clock

    def tick(self) -> None:
        self.clock += 1
        self._refresh_due()
        have = self.std.commands
        if self.announced is not None:
            if self._legal(self._access(self.announced), self.announced.bank):
                request, self.announced = self.announced, None
                self._column(request)
            return
        normal = self._choose()
        if self.activating is not None:
            late = normal is not None and self.clock + self._held(normal) > self.device.activating[1]
            if normal is None or late:
                if self._legal(have.activate_second, self.activating.bank):
                    self._give(have.activate_second, self.activating.bank, self.activating.row)
                    self.opened.append(self.activating)
                    self.activating = None
                return
        if normal is not None:
            self._do(*normal)
        elif self.options.row_policy == "timeout":
            self._close_unused()

    def _refresh_due(self) -> None:
        kinds = {"refab": "refresh_interval", "refpb": "bank_refresh_interval"}
        if self.options.refresh == "noref" or self.clock % self.cycles[kinds[self.options.refresh]]:
            return
        org = self.std.organisation
        for rank in range(org.ranks):
            self.maintenance.append(rank * org.banks + (self.turn if self.options.refresh == "refpb" else 0))
        self.turn = (self.turn + 1) % (org.banks // self.std.commands.refreshed_banks)

    def _choose(self) -> tuple[str, int, Request | None] | None:
        for request in sorted(self.opened, key=lambda r: r.arrived):
            if self._may_access(request):
                return (self._access(request), request.bank, request)
        if self.maintenance:
            return self._maintain()
        if self.activating is not None and self.clock >= self.device.activating[1]:
            return None
        reads, writes = len(self.queues[False]), len(self.queues[True])
        if not self.write_mode and (writes > self.options.write_high * self.options.write_queue or reads == 0):
            self.write_mode = True
        elif self.write_mode and writes < self.options.write_low * self.options.write_queue and reads > 0:
            self.write_mode = False
        for request in self.queues[self.write_mode]:
            command = self._needs(request)
            if command == self._access(request):
                if self._may_access(request):
                    return (command, request.bank, request)
            elif command is not None and self._legal(command, request.bank):
                return (command, request.bank, request)
        return None

    def _maintain(self) -> tuple[str, int, Request | None] | None:
        have, bank = self.std.commands, self.maintenance[0]
        whole = self.options.refresh == "refab"
        banks = self.device.targets(have.refresh_all if whole else have.refresh_bank, bank)
        taken = [r.bank for r in [*self.opened, *filter(None, [self.activating])]]
        if any(b in taken for b in banks):
            return None
        command = have.refresh_all if whole else have.refresh_bank
        still_open = [b for b in banks if self.device.row[b] is not None]
        if still_open:
            command, bank = (have.precharge_all, bank) if whole else (have.precharge, still_open[0])
        return (command, bank, None) if self._legal(command, bank) else None

    def _needs(self, request: Request) -> str | None:
        have, bank = self.std.commands, request.bank
        if self.activating is not None and self.activating.bank == bank:
            return None
        if self.device.row[bank] == request.row:
            return self._access(request)
        if self.device.row[bank] is None:
            return have.activate if self.activating is None else None
        return None if any(r.bank == bank for r in self.opened) else have.precharge

    def _access(self, request: Request) -> str:
        return self.std.commands.write if request.is_write else self.std.commands.read

    def _legal(self, command: str, bank: int) -> bool:
        return not self.device.broken(command, bank, self.clock)

    def _needs_sync(self) -> bool:
        return self.std.commands.sync_read is not None and self.clock >= self.expiry

    def _sync_gap(self) -> int:
        have = self.std.commands
        gaps = [have.clocks[have.sync_read]]
        for rule in self.std.constraints.rules:
            for sync, access in ((have.sync_read, have.read), (have.sync_write, have.write)):
                if sync in rule.preceding and access in rule.following:
                    gaps.append(self.std.adjusted_latency(rule, sync, access))
        return max(1, *gaps)

    def _may_access(self, request: Request) -> bool:
        at = self.clock + (self.gap if self._needs_sync() else 0)
        slot, share = at // self.burst, self.options.others_share
        ours = floor((slot + 1) * share) == floor(slot * share)
        return ours and self._legal(self._access(request), request.bank)

    def _held(self, normal: tuple[str, int, Request | None]) -> int:
        command, _, request = normal
        held = self.std.commands.clocks[command]
        if request is not None and command == self._access(request) and self._needs_sync():
            held += self.gap
        return held

    # doing it

    def _give(self, command: str, bank: int, row: int, column: int = -1) -> None:
        self.device.give(command, bank, row, self.clock)
        self.trace.append((self.clock, command, bank, row, column))

    def _do(self, command: str, bank: int, request: Request | None) -> None:
        have = self.std.commands
        if request is None:
            self._give(command, bank, -1)
            if command in (have.refresh_all, have.refresh_bank):
                self.maintenance.pop(0)
            return
        if command == self._access(request):
            if self._needs_sync():
                self._give(have.sync_write if request.is_write else have.sync_read, bank, request.row)
                self.announced = request
            else:
                self._column(request)
            return
        self._count(request, command)
        self._give(command, bank, request.row)
        if command == have.activate:
            self.queues[request.is_write].remove(request)
            self.last_use[bank] = self.clock
            if have.activate_second is None:
                self.opened.append(request)
            else:
                self.activating = request

    def _count(self, request: Request, command: str) -> None:
        if not request.counted:
            request.counted = True
            have = self.std.commands
            self.misses += command == have.activate
            self.conflicts += command == have.precharge
            self.hits += command not in (have.activate, have.precharge)

    def _column(self, request: Request) -> None:
        have = self.std.commands
        command = self._access(request)
        self._count(request, command)
        if request in self.opened:
            self.opened.remove(request)
        else:
            self.queues[request.is_write].remove(request)
        waiting = [*self.queues[False], *self.queues[True], *self.opened]
        closing = have.write_precharge if request.is_write else have.read_precharge
        if self.options.row_policy == "closed" and closing is not None:
            wanted = any(r.bank == request.bank and r.row == request.row for r in waiting)
            taken = any(r.bank == request.bank for r in self.opened)
            if not wanted and not taken and self._legal(closing, request.bank):
                command = closing
        self._give(command, request.bank, request.row, request.column)
        if command != closing:
            self.last_use[request.bank] = self.clock
        lasting = self.cycles["write_latency" if request.is_write else "read_latency"]
        self.expiry = max(self.expiry, self.clock + lasting + self.cycles["sync_postamble"])
        done = self.clock if request.is_write else self.clock + lasting
        self.completions.append((request.tag, done))

    def _close_unused(self) -> None:
        waiting = [*self.queues[False], *self.queues[True], *self.opened]
        for bank in range(self.device.banks):
            row = self.device.row[bank]
            taken = any(r.bank == bank for r in [*self.opened, *filter(None, [self.activating])])
            if row is None or taken or any(r.bank == bank and r.row == row for r in waiting):
                continue
            unused = self.clock >= self.last_use[bank] + self.options.row_timeout
            if unused and self._legal(self.std.commands.precharge, bank):
                self._give(self.std.commands.precharge, bank, -1)
                return
