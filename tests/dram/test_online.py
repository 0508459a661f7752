"""The online interface: how a run is split into calls must not show, and nothing may depend on the future."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.dram.controller import advance, completions, offer, pending, take_completion
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.state import channel_state
from tests.dram.driving import MemorySystem, request_lists, run_kernels, setups

_QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@_QUICK
@given(st.data())
def test_splitting_a_run_into_calls_changes_nothing(data):
    std, options = data.draw(setups())
    asked = data.draw(request_lists(std.organisation.ranks * std.organisation.banks, most=40))
    whole, done = run_kernels(std, options, asked)

    steps = iter(data.draw(st.lists(st.sampled_from([1, 1, 2, 7, 100]), min_size=1, max_size=30)) * 1000)
    split = MemorySystem(std, options, trace_length=1 << 16)
    found, clock = [], 0
    for tag, r in enumerate(asked):
        clock += r.gap
        while True:
            while split.state.live[0].clock < clock:
                reached = split.advance(0, min(clock, split.state.live[0].clock + next(steps)))
                assert reached <= clock
                found += split.completions(0)
            if offer(split.state, 0, clock, r.bank, r.row, r.column, r.is_write, tag):
                break
            clock += 1
    end = int(whole.state.live[0].clock)
    while split.state.live[0].clock < end:
        split.advance(0, min(end, split.state.live[0].clock + next(steps)))
        found += split.completions(0)
    found += split.completions(0)
    assert found == done
    assert split.trace(0) == whole.trace(0)
    for name in ("reads", "writes", "hits", "occupancy", "latency_sum", "precharged"):
        np.testing.assert_array_equal(split.state.live[0][name], whole.state.live[0][name], err_msg=name)


def test_a_completion_is_known_no_later_than_it_happens():
    memory = MemorySystem("LPDDR5-6400")
    assert memory.offer(0, 0, False, 5)
    reached = memory.advance(0, 1000)
    # ACT-1 at 1, ACT-2 at 2, RD due at 1 + nRCD = 16, behind CAS: 17; data end nCL + nBL_min = 19 clocks later
    assert (reached, memory.completions(0)) == (17, [(5, 36)])
    assert memory.advance(0, 1000) == 1000


def test_one_request_per_clock_and_a_full_queue_gets_room_when_a_row_is_opened_for_a_request():
    memory = MemorySystem("LPDDR4-3200", Controller(read_queue=2, refresh="noref"))
    assert memory.offer(0, 0, False, 0)
    assert not memory.offer(0, 2048, False, 1)  # the same clock
    assert memory.offer(1, 2048, False, 1)
    # the first activate was at clock 1: its request has left the queue, so two more fit
    assert memory.offer(2, 4096, False, 2)
    assert not memory.offer(3, 6144, False, 3)
    room = memory.advance(0, 1000)
    # nRRD = 16 after the activate at 1
    assert room == 17
    assert memory.offer(17, 6144, False, 3)


def test_a_waiting_write_answers_reads_and_absorbs_writes():
    memory = MemorySystem("LPDDR4-3200", Controller(refresh="noref"))
    assert memory.offer(0, 64, True, 1)
    assert memory.offer(1, 64, False, 2)
    assert memory.offer(2, 64, True, 3)
    assert memory.completions(0) == [(2, 2), (3, 3)]
    while memory.pending(0):
        memory.advance(0, 1000)
    # WR = ACT at 1 + nRCD; the write completes when it issues
    assert memory.completions(0) == [(1, 30)]
    assert int(memory.state.live[0].forwarded) == int(memory.state.live[0].merged) == 1


def test_writes_drain_above_the_high_mark_and_stop_below_the_low_one():
    options = Controller(write_queue=10, write_high=0.5, write_low=0.2, refresh="noref")
    memory = MemorySystem("LPDDR4-3200", options, trace_length=1000)
    clock = 0
    for tag in range(6):  # reads keep the read queue filled meanwhile
        assert memory.offer(clock, 64 * 1024 * tag, False, 100 + tag)
        assert memory.offer(clock + 1, 2048 + 32 * tag, True, tag)
        clock += 2
    while memory.pending(0):
        memory.advance(0, 10_000)
    columns = [name for _, name, *_ in memory.trace(0) if name in ("RD", "WR")]
    first = columns.index("WR")
    assert "RD" in columns[first:]
    # more than 5 waited when draining began; it went on until fewer than 2 were left
    assert columns[first : first + 4] == ["WR"] * 4


def test_offers_cannot_go_back_in_time():
    memory = MemorySystem("LPDDR5-6400")
    memory.advance(0, 100)
    with pytest.raises(ValueError, match="has passed"):
        memory.offer(99, 0, False, 0)


def test_idle_time_costs_only_its_refreshes():
    state = channel_state("LPDDR5-6400", Controller(refresh="noref"))
    assert advance(state, 0, 10**15) == 10**15
    for refresh, interval in (("refab", 3125), ("refpb", 391)):
        state = channel_state("LPDDR5-6400", Controller(refresh=refresh))
        assert advance(state, 0, interval * 40 + 3) == interval * 40 + 3
        assert int(state.live[0].counts.sum()) == 40


def test_fixed_memory_serves_at_its_rate():
    """Bursts of 32 bytes at 5 bytes per clock begin every 6.4 clocks, rounded up but never drifting."""
    memory = MemorySystem(FixedMemory(clock="1 GHz", bytes_per_cycle=5, latency=100, queue=4))
    assert [memory.offer(t, 32 * t, t == 2, t) for t in range(6)] == [True] * 5 + [False]
    while memory.pending(0):
        memory.advance(0, 1000)
    ends = [-(-(10 + 64 * (k + 1)) // 10) for k in range(5)]
    assert memory.completions(0) == [(t, end + (0 if t == 2 else 100)) for t, end in enumerate(ends)]


def test_kernels_can_be_driven_without_the_wrapper():
    state = channel_state("LPDDR5-6400", channels=2)
    assert offer(state, 1, 0, 3, 9, 1, False, 77)
    while pending(state, 1):
        advance(state, 1, 1000)
    assert completions(state, 1) == 1
    assert completions(state, 0) == 0
    assert take_completion(state, 1)[0] == 77


def test_the_rest_of_the_chip_takes_its_share():
    def clocks(share: float) -> int:
        options = Controller(refresh="noref", rest_of_chip=share)
        memory = MemorySystem("LPDDR4-3200", options)
        clock = 0
        for tag in range(600):
            while not memory.offer(clock, 32 * tag, False, tag):
                clock = max(clock + 1, memory.advance(0, clock + 1))
            memory.completions(0)
        while memory.pending(0):
            clock = memory.advance(0, clock + 1000)
        return clock

    alone = clocks(0.0)
    for share in (0.1, 0.25, 0.5, 0.9):
        assert clocks(share) * (1 - share) == pytest.approx(alone, rel=0.02)
