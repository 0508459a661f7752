"""Each timing rule of each standard: the command is illegal one clock before its time and legal at it."""

from __future__ import annotations

from functools import cache

import pytest

from dchw.config import build
from dchw.dram.device import earliest, issue
from dchw.dram.standard import Standard, standard, standard_names
from dchw.dram.state import channel_state
from tests.oracles.dram import Device

START = 20_000
RULES = [(name, number) for name in standard_names() for number in range(len(standard(name).constraints.rules))]


@cache
def _two_ranks(name: str) -> Standard:
    return standard(name).replace("organisation.ranks", 2)


def _banks(std, rule) -> tuple[int, int]:
    """Two banks that share a node of the rule's level and, where possible, of no lower one."""
    org = std.organisation
    if rule.sibling:
        return 0, org.banks
    other = {"channel": org.banks, "rank": min(org.banks_per_group, org.banks - 1), "bank_group": 1, "bank": 0}
    return 0, other[rule.level]


@pytest.mark.parametrize(("name", "number"), RULES)
def test_illegal_one_clock_earlier_and_legal_at_its_time(name, number):
    std = _two_ranks(name)
    rule, names = std.constraints.rules[number], list(std.commands.clocks)
    first, second = _banks(std, rule)
    for preceding in rule.preceding:
        state, device = channel_state(std, every_rule=True), Device(std)
        f, m = state.fixed[0], state.live[0]
        for _ in range(rule.window):  # all at one clock, so that a window's own distance decides
            issue(f, m, names.index(preceding), first, -1, -1, START)
            device.give(preceding, first, -1, START)
        for following in rule.following:
            at_rule = START + std.adjusted_latency(rule, preceding, following)
            legal = max(earliest(f, m, names.index(following), second), m.bus_free)
            assert legal >= at_rule
            assert device.broken(following, second, legal) == []
            before = device.broken(following, second, legal - 1)
            assert before
            if legal == at_rule:
                assert any(f"({rule.latency})" in fault or "bus" in fault for fault in before)


def test_a_window_binds_where_it_is_all_that_the_first_command_forbids():
    """No rule stands before it in the lists that kernels read."""
    alone = standard("LPDDR5-6400").dump()
    rules = alone["constraints"]["rules"]
    alone["constraints"]["rules"] = [rule for rule in rules if "ACT1" not in rule["preceding"] or rule["window"] > 1]
    std = build(Standard, alone, where="alone")
    names, (rule,) = list(std.commands.clocks), [rule for rule in std.constraints.rules if rule.window > 1]
    state = channel_state(std, every_rule=True)
    f, m = state.fixed[0], state.live[0]
    assert names.index("ACT1") == f.rule_wide[0] == f.rule_history[f.rule_wide[0]] == 0
    for bank in range(rule.window):
        issue(f, m, 0, bank, -1, -1, START)
    assert earliest(f, m, 0, rule.window) == START + std.adjusted_latency(rule, "ACT1", "ACT1")


def test_most_rules_decide_the_time_of_some_pair():
    """The test above would say little if other rules always came later."""
    deciding = set()
    for name, number in RULES:
        std = _two_ranks(name)
        rule = std.constraints.rules[number]
        first, second = _banks(std, rule)
        for preceding in rule.preceding:
            device = Device(std)
            for _ in range(rule.window):
                device.give(preceding, first, -1, START)
            for following in rule.following:
                at_rule = START + std.adjusted_latency(rule, preceding, following)
                if device.broken(following, second, at_rule) == []:
                    deciding.add((name, number))
    assert len(deciding) > 0.85 * len(RULES)
