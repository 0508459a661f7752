"""The comparison with Ramulator and DRAMPower: every run, and that a changed timing is noticed."""

from __future__ import annotations

import pytest

from dchw.tables import read_table
from dchw.validate import dram


@pytest.fixture(scope="module")
def checks():
    return dram.run()


def test_every_reference_run_agrees_exactly(checks):
    summary = checks[0].table
    assert int(summary["runs"].sum()) == len(read_table("dram_ramulator.csv")) == 83
    assert list(summary["runs_exact"]) == list(summary["runs"])
    assert all(check.passed for check in checks)


def test_energy_parts_agree_within_a_hundredth_of_a_percent(checks):
    energy = checks[2].table
    assert len(energy) == 20 * 9
    assert energy["error_percent"].max() < 0.01
    totals = energy[energy["part"] == "energy_core_total_pJ"]
    assert totals["computed_error_percent"].max() < 0.25


def test_one_clock_more_of_a_timing_breaks_the_limits(monkeypatch):
    """A planted fault: the read latency of one standard is a clock too long."""
    real = dram.standard
    monkeypatch.setattr(
        dram,
        "standard",
        lambda name: real(name).replace("timings.nCL.cycles", 18) if name == "LPDDR5-6400" else real(name),
    )
    row = next(
        r for r in read_table("dram_ramulator.csv") if r["config"].endswith("oneatatime") and "5-6400" in r["standard"]
    )
    result = dram._replay(row["standard"], row["config"], dram.reference_traces()[row["trace"]])
    assert abs(result.cycles - float(row["total_cycles"])) / float(row["total_cycles"]) > dram.CYCLES_LIMIT


def test_interface_energy_agrees_but_for_command_and_address_lines(checks):
    interface = checks[3].table
    assert len(interface) == 20
    assert interface["error_percent"].max() < 1e-5
    assert interface["left_pj_per_command"].between(3, 5).all()
    assert any("Not modelled: command and address lines" in note for note in checks[3].notes)
