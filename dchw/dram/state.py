"""From a standard and a controller to the arrays its kernels run on."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dchw.dram import records as at
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.sections import LEVELS, ROLES
from dchw.dram.standard import Standard, standard
from dchw.quantities import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_FIELD_OF_ROLE = dict(
    zip(
        ROLES,
        ("act", "act2", "pre", "prea", "rd", "wr", "rda", "wra", "refa", "refb", "sync_rd", "sync_wr"),
        strict=True,
    )
)


class State(NamedTuple):
    """A memory of one or more equal channels: records laid out by ``dchw.dram.records``."""

    fixed: Any  # recarray[1] of FIXED
    live: Any  # recarray[channel] of LIVE


def channel_state(
    source: str | Path | Standard | FixedMemory,
    controller: Controller | None = None,
    *,
    channels: int = 1,
    trace_length: int = 0,
    every_rule: bool = False,
) -> State:
    """The records of ``channels`` idle channels at clock 0.

    The first ``trace_length`` commands of each channel are kept (at most 65536). ``every_rule`` keeps the rules of
    commands that the controller never issues (they cost time only). Raises ConfigError where standard and controller
    do not fit each other.
    """
    if channels < 1:
        raise ConfigError(f"channels: expected at least 1; got {channels}")
    if not 0 <= trace_length <= at.TRACE_MAX:
        raise ConfigError(f"trace_length: expected 0 to {at.TRACE_MAX} commands; got {trace_length}")
    fixed = np.zeros(1, at.FIXED).view(np.recarray)
    if isinstance(source, FixedMemory):
        _fill_fixed_memory(fixed[0], source)
    else:
        std = standard(source)
        fixed[...] = _dram_record(std, std.settled(controller or Controller()), every_rule)
    fixed[0].trace_length = trace_length
    slots = int(fixed["room"].sum() + fixed["banks"][0])
    live = np.zeros(channels, at.LIVE)  # megabytes, most of which stay untouched
    for name in ("last_accept", "new_slot", "act2_slot", "sync_list", "first_accept"):
        live[name] = -1
    for name in ("history", "oldest", "newest", "oldest_hit", "oldest_other", "opened_for"):
        live[name] = -1
    live["wanted"] = at.FAR
    live["open_row"] = at.CLOSED
    live["plan_stale"] = 1
    live["next_refresh"] = fixed["refresh_every"][0]
    live["free"][:, :slots] = np.arange(slots - 1, -1, -1)
    live["n_free"] = slots
    return State(fixed, live.view(np.recarray))


@lru_cache(maxsize=64)
def _dram_record(std: Standard, options: Controller, every_rule: bool) -> npt.NDArray[np.void]:
    """The fixed record of a standard under a controller, worked out once; read-only."""
    record = np.zeros(1, at.FIXED).view(np.recarray)
    _fill_dram(record[0], std, options, every_rule)
    record.flags.writeable = False
    return record


def _fill_dram(f: Any, std: Standard, options: Controller, every_rule: bool) -> None:
    org, names = std.organisation, list(std.commands.clocks)
    if options.refresh == "refpb" and std.commands.refresh_bank is None:
        raise ConfigError(f"refresh and standard: {std.name} has no per-bank refresh; use 'refab' or 'noref'")
    for role, field in _FIELD_OF_ROLE.items():
        name = getattr(std.commands, role)
        f[field] = -1 if name is None else names.index(name)
    f.kind = at.DRAM
    f.none = -1
    f.whole_rank[[f.prea, f.refa]] = 1
    f.banks, f.ranks, f.banks_per_rank = org.ranks * org.banks, org.ranks, org.banks
    f.room[...] = options.read_queue, options.write_queue
    f.write_high = int(np.floor(options.write_high * options.write_queue))
    # draining ends with an empty queue at the latest: reads would wait for ever below that
    f.write_low = max(1, int(np.ceil(options.write_low * options.write_queue)))
    f.policy = ("open", "closed", "timeout").index(options.row_policy)
    f.row_timeout = options.row_timeout
    kinds = {"noref": at.NO_REFRESH, "refab": at.ALL_BANK, "refpb": at.PER_BANK}
    intervals = {"refab": "refresh_interval", "refpb": "bank_refresh_interval"}
    assert options.refresh is not None
    f.refresh = kinds[options.refresh]
    f.refresh_every = std.role_cycles(intervals[options.refresh]) if options.refresh in intervals else at.FAR
    for field in ("read_latency", "write_latency", "activate_window", "refresh_cycle", "bank_refresh_cycle"):
        f[field] = std.role_cycles(field)
    f.refreshed_banks = std.commands.refreshed_banks
    f.partner = org.banks // 2 if f.refreshed_banks > 1 else 0
    f.postamble = std.role_cycles("sync_postamble")
    f.burst = std.role_cycles("burst")
    f.others_up, f.others_down = options.others_share.as_integer_ratio()
    f.clocks[: len(names)] = list(std.commands.clocks.values())
    _fill_codes(f, std)
    _fill_nodes(f, std)
    _fill_rules(f, std, set(names) if every_rule else _issued(std, options))
    if std.commands.sync_read is not None:
        f.sync_gap = _sync_gap(std)


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


def _fill_codes(f: Any, std: Standard) -> None:
    codes = std.counted_codes
    if codes is None:
        return
    f.code_lines, f.code_rate, f.code_columns = codes.lines, codes.beats_per_clock, codes.columns_per_burst
    for number, name in enumerate(std.commands.clocks):
        code = codes.code(name)
        f.code_beats[number], f.code_ones[number], f.code_variable[number] = code.beats, code.ones, len(code.variable)
        for place, (of_address, of_code) in enumerate(code.variable):
            f.code_from[number, place], f.code_to[number, place] = of_address, of_code


def _fill_nodes(f: Any, std: Standard) -> None:
    org = std.organisation
    banks = org.ranks * org.banks
    f.node_banks[...] = banks, org.banks, org.banks_per_group, 1
    for level, width in enumerate(f.node_banks):
        f.node[:banks, level] = np.arange(banks) // width


class _Rule(NamedTuple):
    """What one command forbids to another; ``history`` is the window's place, -1 without one."""

    level: int
    following: int
    window: int
    sibling: bool
    history: int


def _fill_rules(f: Any, std: Standard, issued: set[str]) -> None:
    org, names = std.organisation, list(std.commands.clocks)
    alone = {"channel": True, "rank": org.ranks == 1, "bank_group": org.ranks * org.bank_groups == 1, "bank": False}
    windows = place = 0
    for number, preceding in enumerate(names):
        latencies: dict[_Rule, int] = {}
        for rule in std.constraints.rules:
            following = [name for name in rule.following if name in issued]
            if preceding not in rule.preceding or not following or (rule.sibling and alone[rule.level]):
                continue
            history = -1
            if rule.window > 1:
                history, windows = windows, windows + 1
            # a node without siblings is the channel: two rules for one pair become one
            level = 0 if alone[rule.level] else LEVELS.index(rule.level)
            for name in following:
                key = _Rule(level, names.index(name), rule.window, rule.sibling, history)
                latency = std.adjusted_latency(rule, preceding, name)
                latencies[key] = max(latency, latencies.get(key, latency))
        if place + len(latencies) > at.RULES_MAX or windows > at.WINDOWS_MAX or _longest(std) > at.WINDOW_MAX:
            raise ConfigError(
                f"constraints.rules: expected at most {at.RULES_MAX} pairs of commands, {at.WINDOWS_MAX} rules "
                f"with a window and windows up to {at.WINDOW_MAX}; {std.name} has more"
            )
        plain = {rule for rule in latencies if rule.window == 1 and not rule.sibling}
        channel = [rule for rule in latencies if rule in plain and rule.level == 0]
        below = [] if f.whole_rank[number] else [rule for rule in latencies if rule in plain and rule.level > 0]
        bank = [rule for rule in below if rule.level == LEVELS.index("bank")]
        node = [rule for rule in below if rule not in bank]
        wide = [rule for rule in latencies if rule not in {*channel, *below}]
        f.rule_first[number] = place
        f.rule_bank[number] = place + len(channel)
        f.rule_node[number] = f.rule_bank[number] + len(bank)
        f.rule_wide[number] = f.rule_node[number] + len(node)
        for key in (*channel, *bank, *node, *wide):
            for field, value in key._asdict().items():
                f[f"rule_{field}"][place] = value
            f.rule_latency[place] = latencies[key]
            place += 1
    f.rule_first[len(names) :] = place


def _longest(std: Standard) -> int:
    return max(rule.window for rule in std.constraints.rules)


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


def _fill_fixed_memory(f: Any, memory: FixedMemory) -> None:
    # service times are whole numbers of 1/unit clocks, so that rounding never accumulates
    unit = 1 << 20
    f.kind = at.FIXED_RATE
    f.banks = f.ranks = f.banks_per_rank = 1
    f.room[...] = memory.queue, memory.queue
    f.read_latency = memory.latency
    f.refresh_every = at.FAR
    f.service_unit = unit
    f.service = round(unit * memory.burst_size / (memory.bytes_per_cycle * (1 - memory.rest_of_chip)))
