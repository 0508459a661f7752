"""The bins of a standard are its rules in nanoseconds at their clocks; dual-bank refresh covers every bank."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest

from dchw.dram.options import Controller
from dchw.dram.replay import replay
from dchw.dram.standard import standard
from tests.dram.driving import MemorySystem

# SynDRAM 1.0, Tables 101 to 104 (the core timings of JESD209-6): ns, least clocks
CORE = {"nRCDr": (18, 2), "nRCDw": (8, 2), "nRAS": (20, 4), "nWTRS": (6.25, 6), "nWTRL": (12, 6), "nRRD": (3.75, 4)}
CORE |= {"nWTP": (12, 6), "nACU": (22, 0), "nWCK2DQO": (1.6, 0), "nRFC": (380, 0), "nRFCdb": (210, 0)}
CORE |= {"nDBR2DBR": (90, 0), "nDBR2ACT": (7.5, 0)}
# JESD209-5C core timings of bank-group mode
CORE_5C = {"nRCD": (18, 2), "nRP": (18, 2), "nRPab": (21, 2), "nRAS": (42, 3), "nWR": (34, 3), "nREFI": (3906, 0)}
CORE_5C |= {"nWTRS": (6.25, 4), "nWTRL": (12, 4), "nRRDS": (5, 2), "nRRDL": (5, 2), "nFAW": (20, 0)}


@pytest.mark.parametrize(("name", "rules"), [("LPDDR6-10667", CORE), ("LPDDR6-8533", CORE), ("LPDDR5X-8533", CORE_5C)])
def test_core_timings_are_the_rules_in_ns_at_the_clock_of_the_bin(name, rules):
    std = standard(name)
    for timing, (ns, least) in rules.items():
        assert std.timings[timing].cycles == max(least, ceil(ns * 1e6 / std.clock.period)), timing


@pytest.mark.parametrize("name", ["LPDDR6-10667", "LPDDR6-8533"])
def test_what_follows_from_other_timings_of_a_bin_does(name):
    """SynDRAM 1.0, Tables 82, 83, 90, 91 and 101."""
    std = standard(name)
    t = {timing: value.cycles for timing, value in std.timings.items()}
    ns = std.clock.period / 1e6
    assert t["nFAW"] == 4 * t["nRRD"]
    assert t["nRP"] == t["nACU"] + ceil(18 / ns)
    assert t["nRPab"] == t["nACU"] + ceil(21 / ns)
    assert t["nRTP"] == ceil(t["nCCDL"] + 1.25 / ns)
    assert t["nCCDL_L"] == 12 + t["nCCDL"]
    assert t["nRTP_L"] - t["nRTP"] == t["nBL_min_L"] - t["nBL_min"]
    assert t["nRC"] - t["nRAS"] == {"LPDDR6-10667": t["nRPab"], "LPDDR6-8533": t["nRP"]}[name]
    turn = t["nRL"] + t["nWCK2DQO"] + t["nRPST"] - t["nODTLon"] - t["nODTon_min"] + 1
    for gap, burst in (
        ("nRTW_S", "nBL_min"),
        ("nRTW_L", "nBL_max"),
        ("nRTW_S_L", "nBL_min_L"),
        ("nRTW_L_L", "nBL_max_L"),
    ):
        assert t[gap] == turn + t[burst]


def test_two_banks_at_a_time_every_bank_is_refreshed_in_a_round_of_eight():
    std = standard("LPDDR6-10667")
    memory = MemorySystem(std, Controller(refresh="refpb"), trace_length=64)
    memory.advance(0, 8 * std.timings["nREFIdb"].cycles + 100)
    refreshed = [bank for _, name, bank, *_ in memory.trace(0) if name == "REFdb"]
    assert refreshed == list(range(8))  # each with the bank eight further on: another bank group, the same bank
    assert sorted([*refreshed, *(bank + 8 for bank in refreshed)]) == list(range(std.organisation.banks))


def test_both_banks_of_a_refresh_are_closed_before_and_bound_after():
    std = standard("LPDDR6-10667")
    memory = MemorySystem(std, Controller(refresh="refpb"), mapping="robaracoch", trace_length=4096)
    size, far = std.organisation.row_size, std.timings["nREFIdb"].cycles - 200
    place = {memory.locate(row * size)[1]: row * size for row in range(std.organisation.banks)}
    for bank in (0, 8):
        assert memory.offer(far + bank, place[bank], False, bank)
    _until(memory, far + 400)
    for bank in (0, 8):
        assert memory.offer(far + 400 + bank, place[bank] + 32, False, bank + 1)
    _until(memory, far + 3000)
    trace = memory.trace(0)
    (at,) = [clock for clock, name, bank, *_ in trace if name == "REFdb" and bank == 0]
    for bank in (0, 8):
        assert any(name == "PREpb" and b == bank and clock < at for clock, name, b, *_ in trace)
        again = min(clock for clock, name, b, *_ in trace if name == "ACT1" and b == bank and clock > at)
        assert again >= at + std.timings["nRFCdb"].cycles


def _until(memory, clock):
    while memory.advance(0, clock) < clock:
        memory.completions(0)


def test_a_refresh_of_two_banks_costs_the_energy_of_two():
    places = (np.arange(20_000, dtype=np.int64) * 32, np.zeros(20_000, bool))
    run = replay(places, "LPDDR6-10667")
    (row,) = [row for row in run.energy if "per_bank" in str(row.event)]
    (all_banks,) = [r for r in replay(places, "LPDDR6-10667", refresh="refab").energy if "all_bank" in str(r.event)]
    rows = run.part.energy.refresh_row_cycles
    assert row.count == run.commands["REFdb"] > 0
    assert row.each.nominal / all_banks.each.nominal == pytest.approx(rows.per_bank / rows.all_bank)
    assert rows.per_bank == 2 * standard("LPDDR5X-8533").energy.refresh_row_cycles.per_bank
