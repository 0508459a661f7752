"""From a standard and a controller to the arrays its kernels run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dchw.dram import layout as at
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.standard import LEVELS, ROLES, Rule, Standard, standard
from dchw.quantities import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_ROLE_PLACES = (
    at.ACT,
    at.ACT2,
    at.PRE,
    at.PREA,
    at.RD,
    at.WR,
    at.RDA,
    at.WRA,
    at.REFA,
    at.REFB,
    at.SYNC_RD,
    at.SYNC_WR,
)


class State(NamedTuple):
    """A memory of one or more equal channels: int64 arrays laid out by ``dchw.dram.layout``."""

    fixed: Ints
    live: Ints  # [channel, place]


def table(state: State, channel: int, place: int, *shape: int) -> Ints:
    """A view of a table of one channel, for reading results."""
    size = int(np.prod(shape))
    return state.live[channel, place : place + size].reshape(shape)


def channel_state(
    source: str | Path | Standard | FixedMemory,
    controller: Controller | None = None,
    *,
    channels: int = 1,
    trace_length: int = 0,
    every_rule: bool = False,
) -> State:
    """The arrays of ``channels`` idle channels at clock 0.

    The first ``trace_length`` commands of each channel are kept. ``every_rule`` keeps the rules of commands that the
    controller never issues (they cost time only). Raises ConfigError where standard and controller do not fit.
    """
    if channels < 1:
        raise ConfigError(f"channels: expected at least 1; got {channels}")
    fixed = np.zeros(at.FIXED_SIZE, np.int64)
    if isinstance(source, FixedMemory):
        _fill_fixed_memory(fixed, source)
    else:
        _fill_dram(fixed, standard(source), controller or Controller(), every_rule)
    live = np.zeros((channels, at.TRACE + at.TRACE_SIZE * trace_length), np.int64)
    live[:, [at.LAST_ACCEPT, at.NEW_SLOT, at.ACT2_SLOT, at.SYNC_LIST, at.FIRST_ACCEPT]] = -1
    live[:, at.PLAN_STALE] = 1
    live[:, at.LATENCY_MIN] = at.FAR
    live[:, at.NEXT_REFRESH] = fixed[at.REFRESH_EVERY]
    live[:, at.HISTORY : at.OPEN_ROW] = -1
    live[:, at.OPEN_ROW : at.OPEN_ROW + at.BANKS_MAX] = at.CLOSED
    slots = int(fixed[at.READ_QUEUE] + fixed[at.WRITE_QUEUE] + fixed[at.BANKS])
    live[:, at.FREE : at.FREE + slots] = at.SLOTS + at.SLOT_SIZE * np.arange(slots - 1, -1, -1)
    live[:, at.N_FREE] = slots
    return State(fixed, live)


def _fill_dram(fixed: Ints, std: Standard, options: Controller, every_rule: bool) -> None:
    org, names = std.organisation, list(std.commands.clocks)
    if options.refresh == "refpb" and std.commands.refresh_bank is None:
        raise ConfigError(f"refresh and standard: {std.name} has no per-bank refresh; use 'refab' or 'noref'")
    for role, place in zip(ROLES, _ROLE_PLACES, strict=True):
        name = getattr(std.commands, role)
        fixed[place] = -1 if name is None else names.index(name)
    refresh_every = {
        "noref": at.FAR,
        "refab": std.role_cycles("refresh_interval"),
        "refpb": std.role_cycles("bank_refresh_interval"),
    }
    numbers = {
        at.KIND: at.DRAM,
        at.BANKS: org.ranks * org.banks,
        at.RANKS: org.ranks,
        at.BANKS_PER_RANK: org.banks,
        at.READ_QUEUE: options.read_queue,
        at.WRITE_QUEUE: options.write_queue,
        at.WRITE_HIGH: int(np.floor(options.write_high * options.write_queue)),
        at.WRITE_LOW: int(np.ceil(options.write_low * options.write_queue)),
        at.POLICY: ("open", "closed", "timeout").index(options.row_policy),
        at.ROW_TIMEOUT: options.row_timeout,
        at.REFRESH: ("noref", "refab", "refpb").index(options.refresh),
        at.REFRESH_EVERY: refresh_every[options.refresh],
        at.READ_LATENCY: std.role_cycles("read_latency"),
        at.WRITE_LATENCY: std.role_cycles("write_latency"),
        at.POSTAMBLE: std.role_cycles("sync_postamble"),
        at.ACTIVATE_WINDOW: std.role_cycles("activate_window"),
        at.REFRESH_CYCLE: std.role_cycles("refresh_cycle"),
        at.BANK_REFRESH_CYCLE: std.role_cycles("bank_refresh_cycle"),
        at.SHARE_PERIOD: options.share_period,
        at.SHARE_BUSY: options.busy_clocks,
    }
    for place, value in numbers.items():
        fixed[place] = value
    for number, name in enumerate(names):
        fixed[at.CLOCKS + number] = std.commands.clocks[name]
    _fill_nodes(fixed, std)
    _fill_rules(fixed, std, set(names) if every_rule else _issued(std, options))
    if std.commands.sync_read is not None:
        fixed[at.SYNC_GAP] = _sync_gap(std)


def _issued(std: Standard, options: Controller) -> set[str]:
    """Commands the controller can issue under these options."""
    have = std.commands
    names = {
        have.activate,
        have.activate_second,
        have.precharge,
        have.read,
        have.write,
        have.sync_read,
        have.sync_write,
    }
    if options.row_policy == "closed":
        names |= {have.read_precharge, have.write_precharge}
    if options.refresh == "refab":
        names |= {have.refresh_all, have.precharge_all}
    if options.refresh == "refpb":
        names |= {have.refresh_bank}
    return {name for name in names if name is not None}


def _fill_nodes(fixed: Ints, std: Standard) -> None:
    # numbering: the channel, then ranks, bank groups, banks
    org = std.organisation
    counts = (1, org.ranks, org.ranks * org.bank_groups, org.ranks * org.banks)
    first = [sum(counts[:level]) for level in range(5)]
    for bank in range(counts[3]):
        above = (0, first[1] + bank // org.banks, first[2] + bank // org.banks_per_group, first[3] + bank)
        fixed[at.NODE + 4 * bank : at.NODE + 4 * bank + 4] = above
    for level, count in enumerate(counts):
        for node in range(first[level], first[level + 1]):
            fixed[at.SIBLINGS + 2 * node : at.SIBLINGS + 2 * node + 2] = (first[level], count)


def _fill_rules(fixed: Ints, std: Standard, issued: set[str]) -> None:
    org, names = std.organisation, list(std.commands.clocks)
    alone = {"channel": True, "rank": org.ranks == 1, "bank_group": org.ranks * org.bank_groups == 1, "bank": False}
    windows = place = 0
    for number, preceding in enumerate(names):
        fixed[at.RULE_FIRST + number] = place
        for rule in std.constraints.rules:
            if preceding not in rule.preceding or (rule.sibling and alone[rule.level]):
                continue
            history = -1
            following = [name for name in rule.following if name in issued]
            if rule.window > 1 and following:
                history, windows = windows, windows + 1
            for name in following:
                if place == at.RULES_MAX or windows > at.WINDOWS_MAX or rule.window > at.WINDOW_MAX:
                    raise ConfigError(
                        f"constraints.rules: expected at most {at.RULES_MAX} pairs of commands, {at.WINDOWS_MAX} rules "
                        f"with a window and windows up to {at.WINDOW_MAX}; {std.name} has more"
                    )
                row = at.RULES + place * at.RULE_SIZE
                fixed[row : row + at.RULE_SIZE] = _rule_row(std, rule, preceding, name, history)
                place += 1
    fixed[at.RULE_FIRST + len(names)] = place


def _rule_row(std: Standard, rule: Rule, preceding: str, following: str, history: int) -> tuple[int, ...]:
    return (
        LEVELS.index(rule.level),
        list(std.commands.clocks).index(following),
        std.adjusted_latency(rule, preceding, following),
        rule.window,
        int(rule.sibling),
        history,
    )


def _sync_gap(std: Standard) -> int:
    """Clocks from a clock synchronisation to the access it is for."""
    have = std.commands
    gap = 1
    for sync, access in ((have.sync_read, have.read), (have.sync_write, have.write)):
        assert sync is not None
        gap = max(gap, have.clocks[sync])
        for rule in std.constraints.rules:
            if sync in rule.preceding and access in rule.following and not rule.sibling:
                gap = max(gap, std.adjusted_latency(rule, sync, access))
    return gap


def _fill_fixed_memory(fixed: Ints, memory: FixedMemory) -> None:
    # service times are whole numbers of 1/unit clocks, so that rounding never accumulates
    unit = 1 << 20
    rate = memory.bytes_per_cycle * (1 - memory.rest_of_chip)
    numbers = {
        at.KIND: at.FIXED,
        at.BANKS: 1,
        at.RANKS: 1,
        at.BANKS_PER_RANK: 1,
        at.READ_QUEUE: memory.queue,
        at.WRITE_QUEUE: memory.queue,
        at.READ_LATENCY: memory.latency,
        at.REFRESH_EVERY: at.FAR,
        at.SERVICE_UNIT: unit,
        at.SERVICE: round(unit * memory.burst_size / rate),
    }
    for place, value in numbers.items():
        fixed[place] = value
