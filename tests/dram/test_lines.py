"""Command and address lines: codes as data, edges and levels command by command, and what a file may get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.dram import lines
from dchw.dram.codes import CommandCodes
from dchw.dram.controller import advance
from dchw.dram.currents import SignalEdges
from dchw.dram.energy import COMMAND_EDGES, COMMAND_LEVELS, activity, energy_rows, scope
from dchw.dram.lines import account_lines, drive
from dchw.dram.replay import replay
from dchw.dram.standard import Standard, standard, standard_names
from dchw.dram.state import channel_state
from dchw.quantities import ConfigError
from dchw.validate.dram_energy import by_edges
from tests.dram.driving import request_lists, run_kernels, setups
from tests.oracles.dram import line_activity
from tests.planting import in_plain_python

WITH_CODES = [name for name in standard_names() if standard(name).codes is not None]
_SLOW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def counted(std: Standard) -> Standard:
    """A standard whose command and address lines are counted."""
    like = by_edges("LPDDR4-3200").energy
    return std.model_copy(update={"energy": like})


def on_the_lines(std: Standard, commands, clocks: int) -> tuple[int, int]:
    """Edges and high beats of commands (clock, name, bank, row, column) put straight onto idle lines."""
    state = channel_state(counted(std))
    f, m = state.fixed[0], state.live[0]
    for clock, name, bank, row, column in commands:
        drive(f, m, list(std.commands.clocks).index(name), bank, row, column, clock)
    account_lines(f, m, clocks)
    return int(m.line_rises), int(m.line_highs)


def test_codes_on_the_lines_of_lpddr4_by_hand():
    """RD of bank 5, burst 3 (column address 48: C4 and C5) and PRE of bank 2.

    RD: 010000 101000 010010 001100, so 1, 2, 2, 2 lines are high and all of them rise. PRE: 000010 010000, twice one.
    """
    std = standard("LPDDR4-3200")
    read, precharge = (10, "RD", 5, 7, 3), (20, "PREpb", 2, -1, -1)
    assert on_the_lines(std, [read], 14) == (1 + 2 + 2 + 2, 7)
    assert on_the_lines(std, [read], 12) == (3, 3)  # as far as its second beat
    assert on_the_lines(std, [read, precharge], 22) == (7 + 2, 9)
    # back to back the last beat of RD (001100) is followed by the first of PRE (000010)
    assert on_the_lines(std, [read, (14, "PREpb", 2, -1, -1)], 16) == (7 + 2, 9)


def test_lines_that_stay_high_between_two_commands_do_not_rise_again():
    std = standard("LPDDR5-6400")
    first, second = (5, "ACT1", 0, 0, -1), (6, "ACT2", 0, 0x7F, -1)
    assert on_the_lines(std, [first], 10) == (3, 3)
    # 1110000 0000000 | 1100000 1111111: in beat four lines 0 and 1 are high already
    assert on_the_lines(std, [first, second], 10) == (3 + 2 + 5, 3 + 2 + 7)
    # a command that comes before the other is through cuts it off
    assert on_the_lines(standard("LPDDR4-3200"), [(0, "RD", 7, 0, 0), (1, "RD", 0, 0, 0)], 2) == (1, 2)


@_SLOW
@given(st.data())
def test_edges_and_levels_equal_those_of_every_beat(data):
    std, options = data.draw(setups())
    if std.codes is None:
        std = standard("LPDDR5-6400").replace("organisation.ranks", std.organisation.ranks)
    std = counted(std)
    asked = data.draw(request_lists(std.organisation.ranks * std.organisation.banks))
    memory, _ = run_kernels(std, options, asked)
    clocks = int(memory.state.live[0].clock) + data.draw(st.integers(0, 3))
    advance(memory.state, 0, clocks)
    done = activity(std, memory.state, clocks)
    rises, highs = line_activity(std, memory.trace(0), clocks)
    assert done.command_rises == rises > 0
    assert done.command_high_seconds == pytest.approx(highs / std.codes.beats_per_clock * std.period_ns * 1e-9)
    assert activity(std, memory.state, clocks) == done  # asking again changes nothing


FAULTS = {
    "idle lines hold their level": ("m.line_level = 0", "pass"),
    "levels of the beat before": ("m.line_highs += _ones(level)", "m.line_highs += _ones(m.line_level)"),
    "falling edges": ("_ones(level & ~m.line_level)", "_ones(m.line_level & ~level)"),
    "a beat lost": ("m.word_beats > 0 and", "m.word_beats > 1 and"),
    "row bits from the column": ("max(row, 0) << at.ROW_AT", "max(column, 0) << at.ROW_AT"),
    "bank for bank group": ("bank % f.banks_per_rank // per_group", "bank % per_group"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    space = in_plain_python(lines, *FAULTS[fault])
    std = standard("LPDDR5-6400")
    commands = [
        (3, "ACT1", 6, 0x5A5, -1),
        (4, "ACT2", 6, 0x5A5, -1),
        (20, "RD", 6, 0x5A5, 21),
        (40, "PREpb", 6, -1, -1),
    ]
    expected = line_activity(std, commands, 60)
    assert on_the_lines(std, commands, 60) == expected
    for name in ("drive", "account_lines"):
        monkeypatch.setitem(globals(), name, space[name])
    assert on_the_lines(std, commands, 60) != expected


@pytest.mark.parametrize("name", WITH_CODES)
def test_energy_rows_and_scope(name):
    trace = (np.arange(512) * 32, np.arange(512) % 4 == 0)
    std = by_edges(name)
    result = replay(trace, std, keep_commands=4096)
    rows = {row.event: row for row in result.energy}
    commands = [tuple(row) for row in result.command_trace().itertuples(index=False)]
    rises, highs = line_activity(std, commands, result.last_clock)
    assert rows[COMMAND_EDGES].energy_pj == pytest.approx(rises * 1.0)
    volts = std.energy.io.voltage
    seconds = highs / std.codes.beats_per_clock * std.period_ns * 1e-9
    assert rows[COMMAND_LEVELS].energy_pj == pytest.approx(seconds * volts**2 / 1e6 * 1e12)
    assert "command and address lines from counted edges" in scope(std)
    bare = std.model_copy(update={"codes": None})
    assert "without command and address lines" in scope(bare)
    assert COMMAND_EDGES not in {row.event for row in replay(trace, bare).energy}


def test_lines_are_not_counted_where_the_energy_does_not_ask_for_it():
    std = standard("LPDDR4-3200")
    assert std.codes is not None
    assert std.counted_codes is None
    state = replay((np.arange(64) * 32, np.zeros(64, bool)), std).state
    assert int(state.live[0].line_rises) == 0
    assert COMMAND_EDGES not in {row.event for row in energy_rows(std, activity(std, state, 1000))}


def test_a_word_that_does_not_fit_is_named():
    std = standard("LPDDR5-6400")
    words = std.codes.words

    def error(path: str, value: object) -> str:
        with pytest.raises(ConfigError) as caught:
            std.replace(path, value)
        return str(caught.value)

    assert "words.RD: expected H, L, V, C0 to C15, BA0 to BA7" in error(
        "codes.words.RD", words["RD"].replace("C0", "Q0")
    )
    assert "got 'R30'" in error("codes.words.ACT1", words["ACT1"].replace("R17", "R30"))
    assert "words.RD: expected 7 lines in every beat, as in other beats; got 7, 6" in error(
        "codes.words.RD", words["RD"].removesuffix(" L")
    )
    assert "codes.words.RD and commands.clocks.RD: 1 beats, 2 per clock, are not 1 clocks" in error(
        "codes.words.RD", words["RD"].split(" |")[0]
    )
    fewer = {name: word for name, word in words.items() if name != "WRA"}
    assert "codes.words and commands.clocks: expected the same commands; 'WRA' is in one only" in error(
        "codes.words", fewer
    )
    assert "codes.words.ACT1 and organisation: no line carries R14" in error(
        "codes.words.ACT1", words["ACT1"].replace("R14", "V")
    )
    assert "codes.words.WR and organisation: no line carries BG1" in error(
        "codes.words.WR", words["WR"].replace("BG1", "V")
    )
    assert "columns_per_burst: expected a power of two; got 3" in error("codes.columns_per_burst", 3)
    assert "no entry 'nowhere'" in error("codes.source", "nowhere")
    with pytest.raises(ConfigError, match="at most 62 bits"):
        CommandCodes(beats_per_clock=1, columns_per_burst=1, words={"X": " | ".join(["L"] * 63)}, source="none")


def test_edges_alone_do_not_need_codes():
    assert isinstance(counted(standard("LPDDR6-10667")).energy.io, SignalEdges)
    assert counted(standard("LPDDR6-10667")).counted_codes is None
