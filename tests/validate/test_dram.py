"""The comparison with Ramulator and DRAMPower: every run, and that a changed timing is noticed."""

from __future__ import annotations

import pytest

from dchw.dram.standard import standard
from dchw.tables import read_table
from dchw.validate import dram, dram_energy
from dchw.validate.dram_runs import reference_replay, reference_traces


@pytest.fixture(scope="module")
def checks():
    return dram.run()


def test_every_reference_run_agrees_exactly(checks):
    summary = checks[0].table
    assert int(summary["runs"].sum()) == len(read_table("dram_ramulator.csv")) == 83
    assert list(summary["runs_exact"]) == list(summary["runs"])
    assert all(check.passed for check in checks)


def test_energy_parts_agree_within_a_hundredth_of_a_percent(checks):
    energy = checks[3].table
    assert len(energy) == 20 * 9
    assert energy["error_percent"].max() < 0.01
    totals = energy[energy["part"] == "energy_core_total_pJ"]
    assert totals["computed_error_percent"].max() < 0.25


def test_one_clock_more_of_a_timing_breaks_the_limits():
    """A planted fault: the read latency of one standard is a clock too long."""
    wrong = standard("LPDDR5-6400").replace("timings.nCL.cycles", 18)
    row = next(
        r for r in read_table("dram_ramulator.csv") if r["config"].endswith("oneatatime") and "5-6400" in r["standard"]
    )
    result = reference_replay(wrong, row["config"], reference_traces()[row["trace"]])
    assert abs(result.cycles - float(row["total_cycles"])) / float(row["total_cycles"]) > dram.CYCLES_LIMIT


def test_interface_energy_agrees_with_every_line_counted(checks):
    interface = checks[4].table
    assert len(interface) == 20 * 3
    driven = interface[interface["driven_by"] != "total"]
    assert driven["error_percent"].max() < 0.006
    totals = interface[interface["driven_by"] == "total"]
    assert totals["computed_error_percent"].max() < 0.25


def test_a_column_bit_forgotten_breaks_the_limit():
    """Planted faults: reads whose lowest column bit never moves, and reads with a wrong bit in their command."""
    row = next(
        r for r in read_table("dram_drampower.csv") if (r["standard"], r["trace"]) == ("LPDDR5-6400", "seq_read")
    )
    true = dram_energy.codes_as_read(dram_energy.by_edges("LPDDR5-6400"))
    published = sum(float(row[f"energy_interface_controller_{kind}_pJ"]) for kind in ("dynamic", "static"))

    def error(right: str, wrong: str) -> float:
        words = true.codes.words | {"RD": true.codes.words["RD"].replace(right, wrong)}
        on = true.model_copy(update={"codes": true.codes.model_copy(update={"words": words})})
        config = row["config"].removesuffix("-placeholder_currents")
        computed = dram_energy.sides(reference_replay(on, config, reference_traces()["seq_read"]))["controller"]
        return abs(computed - published) / published

    assert error("none", "none") < 1e-4
    assert error("C0", "L") > dram_energy.ENERGY_LIMIT
    assert error("H L L", "H H L") > dram_energy.ENERGY_LIMIT
