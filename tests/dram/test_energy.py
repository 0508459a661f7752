"""DRAM energy: published per-command figures, the assumed set and its split, scope and totals."""

from __future__ import annotations

import numpy as np
import pytest

from dchw.dram.currents import SignalEdges
from dchw.dram.energy import (
    BACKGROUND_CLOSED,
    BACKGROUND_OPEN,
    CLOCK_IO,
    READ_IO,
    WRITE_IO,
    energy_each,
    scope,
    total_pj,
)
from dchw.dram.options import FixedMemory
from dchw.dram.replay import replay
from dchw.dram.standard import standard, standard_names
from dchw.technology.figure import Confidence
from dchw.vocabulary import Event


def test_lpddr4_commands_from_its_currents():
    """By hand, mW x ns: ACT (1.8 x 1.25 + 1.1 x 15) 42.5, PRE (1.8 x 1.5 + 1.1 x 18) 18.125, RD 1.1 x 245 x 5, ..."""
    each = {event: figure.nominal for event, figure in energy_each(standard("LPDDR4-3200")).items()}
    assert each[Event.ROW_ACTIVATE] == pytest.approx(18.75 * 42.5)
    assert each[Event.ROW_PRECHARGE] == pytest.approx(22.5 * 18.125)
    assert each[Event.DRAM_READ] == pytest.approx(1.1 * 245 * 5)
    assert each[Event.DRAM_WRITE] == pytest.approx(1.1 * 180 * 5)
    assert each[Event.REFRESH_ALL_BANK] == pytest.approx((1.8 * 7.75 + 1.1 * 60) * 280)
    assert each[Event.REFRESH_PER_BANK] == pytest.approx(1524.47, rel=1e-5)
    assert each[READ_IO] == pytest.approx(1.1 * 149.25 * 5)
    assert each[WRITE_IO] == pytest.approx(1.1 * 54.25 * 5)
    assert each[BACKGROUND_CLOSED] == pytest.approx(33.3e9)
    assert each[BACKGROUND_OPEN] == pytest.approx(37.05e9)


@pytest.mark.parametrize("name", standard_names())
def test_one_bank_costs_less_to_refresh_than_all(name):
    each = energy_each(standard(name))
    assert 0 < each[Event.REFRESH_PER_BANK].nominal < each[Event.REFRESH_ALL_BANK].nominal


@pytest.mark.parametrize(
    ("name", "low", "nominal", "high"),
    [("LPDDR5-6400", 3.5, 5, 7), ("LPDDR5X-8533", 2.8, 4, 5.6), ("LPDDR6-10667", 2.8, 4, 5.6)],
)
def test_a_stream_at_peak_costs_what_is_assumed(name, low, nominal, high):
    std = standard(name)
    each = energy_each(std)
    row_bits = std.organisation.row_size * 8
    seconds = std.organisation.row_size / std.peak_bytes_per_second
    for want, end in ((low, "low"), (nominal, "nominal"), (high, "high")):
        value = {event: getattr(figure, end) for event, figure in each.items()}
        row = value[Event.ROW_ACTIVATE] + value[Event.ROW_PRECHARGE]
        bursts = std.organisation.columns * (value[Event.DRAM_READ] + value[READ_IO])
        assert (row + bursts + seconds * value[BACKGROUND_OPEN]) / row_bits == pytest.approx(want)
    assert all(figure.confidence is Confidence.ASSUMED for figure in each.values())


def test_the_assumed_split_is_how_lpddr4_currents_divide_a_stream():
    std, model = standard("LPDDR4-3200"), standard("LPDDR5-6400").energy
    each = {event: figure.nominal for event, figure in energy_each(std).items()}
    bursts = std.organisation.columns
    parts = {
        "activate": each[Event.ROW_ACTIVATE],
        "precharge": each[Event.ROW_PRECHARGE],
        "column": bursts * each[Event.DRAM_READ],
        "io": bursts * each[READ_IO],
        "background": each[BACKGROUND_OPEN] * std.organisation.row_size / std.peak_bytes_per_second,
    }
    for name, part in parts.items():
        assert getattr(model.split, name) == pytest.approx(part / sum(parts.values()), abs=2e-4)
    row = each[Event.ROW_ACTIVATE] + each[Event.ROW_PRECHARGE]
    assert model.refresh_row_cycles.all_bank == pytest.approx(each[Event.REFRESH_ALL_BANK] / row, rel=0.01)
    assert model.refresh_row_cycles.per_bank == pytest.approx(each[Event.REFRESH_PER_BANK] / row, rel=0.01)


def test_rows_add_up_and_bank_state_times_cover_the_run():
    result = replay((np.arange(4096) * 32, np.arange(4096) % 5 == 0), "LPDDR4-3200", channels=2)
    rows = {row.event: row for row in result.energy}
    assert result.energy_pj == pytest.approx(sum(row.count * row.each.nominal for row in result.energy))
    assert total_pj(result.energy) == result.energy_pj
    seconds = rows[BACKGROUND_OPEN].count + rows[BACKGROUND_CLOSED].count
    assert seconds == pytest.approx(2 * result.last_clock * 625e-12)
    assert rows[Event.DRAM_READ].count + rows[Event.DRAM_WRITE].count == 4096
    assert rows[Event.ROW_ACTIVATE].count == result.commands["ACT"]


def test_an_interface_given_by_its_edges():
    """By hand, 16 beats on LPDDR4-3200: 16 lines change at half of them, 4 strobes at all; half of these edges rise."""
    edges = SignalEdges(
        voltage="1.1 V", pj_per_edge=2, resistance_ohm=50, data_lines=16, read_strobe_lines=4, write_strobe_lines=0,
        clock_lines=2, beats_per_clock=2,
    )  # fmt: skip
    std = standard("LPDDR4-3200")
    std = std.model_copy(update={"energy": std.energy.model_copy(update={"io": edges})})
    each = {event: figure.nominal for event, figure in energy_each(std).items()}
    high = 1.1**2 / 50 * 1e3  # pJ per ns
    assert each[READ_IO] == pytest.approx(2 * (16 * 4 + 4 * 8) + (8 + 2) * 5 * high)
    assert each[WRITE_IO] == pytest.approx(2 * 16 * 4 + 8 * 5 * high)
    assert each[CLOCK_IO] == pytest.approx(2 * (1.6e9 * 2 + 0.5e9 * high))
    trace = (np.arange(256) * 32, np.arange(256) % 4 == 0)
    for ranks in (1, 2):
        result = replay(trace, std.replace("organisation.ranks", ranks))
        rows = {row.event: row for row in result.energy}
        assert (rows[READ_IO].count, rows[WRITE_IO].count) == (192, 64)
        assert rows[CLOCK_IO].energy_pj == pytest.approx(each[CLOCK_IO] * result.last_clock * 625e-12)
    assert "command and address lines from counted edges" in scope(std)  # `tests.dram.test_lines` has those
    always_still = edges.replace("toggling", 0.0).replace("high", 0.0).replace("read_strobe_lines", 0)
    std = std.model_copy(update={"energy": std.energy.model_copy(update={"io": always_still})})
    assert energy_each(std)[READ_IO].nominal == 0


def test_a_file_may_give_either_form_of_interface():
    std = standard("LPDDR4-3200")
    edges = {
        "voltage": "1.1 V", "pj_per_edge": 2, "resistance_ohm": 50, "data_lines": 16, "read_strobe_lines": 4,
        "write_strobe_lines": 4, "clock_lines": 2, "beats_per_clock": 2,
    }  # fmt: skip
    assert isinstance(std.replace("energy.io", edges).energy.io, SignalEdges)
    assert std.energy.io.IDD4RQ > 0


def test_the_scope_is_said():
    assert scope(standard("LPDDR5-6400")) == (
        "LPDDR5-6400 device, I/O and background: assumed 3.5 / 5 / 7 pJ per bit at streaming peak, no public "
        "currents; without controller and PHY"
    )
    assert "from published currents, with I/O rail" in scope(standard("LPDDR4-3200"))
    fixed = FixedMemory(clock="1 GHz", bytes_per_cycle=8, latency=10)
    assert replay((np.arange(8) * 32, np.zeros(8, bool)), fixed).energy_pj == 0
    assert scope(fixed) == "fixed memory: no DRAM energy is counted"
