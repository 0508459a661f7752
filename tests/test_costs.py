"""Does every joule have a row, does every total equal its rows, and what does a missing row do?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

import dchw
from dchw.costs import CostReport, CostRow, Work, accounting, check_complete, composing, per_frame, unit_costs
from dchw.costs.cost_report import KEYS
from dchw.dram.idle import idle_mw
from dchw.dram.standard import standard
from dchw.formats import storage_format
from dchw.machines.units.unit import UnitCosts
from dchw.quantities import DchwError, SimulationError
from dchw.run.sim_result import SimResult
from dchw.run.simulation import simulate
from dchw.technology import array_wires, logic, scaling, wires
from dchw.technology.figure import Confidence, Figure, spread
from dchw.vocabulary import Event
from tests.reports.runs import comparison, tiny_network

FACES = dchw.Machine.faces()
FORMATS = ("dense-fp32", "dense-fp16", "dense-int8", "csr", "relative", "shared", "huffman")


@cache
def costs_of(storage: str) -> Mapping[str, UnitCosts]:
    return unit_costs(comparison().machine, storage)


def check(result: SimResult, report: CostReport) -> None:
    workload = result.workload
    check_complete(report, result.counts, costs_of(workload.storage), result.timing, workload.machine.dram)


@pytest.mark.parametrize("storage", FORMATS)
@pytest.mark.parametrize("key", KEYS)
def test_sums_by_every_key_add_up_to_the_total(storage: str, key: str) -> None:
    report = comparison().results[storage].costs
    assert math.fsum(report.by(key).values()) == pytest.approx(report.energy_pj, rel=1e-12)
    assert report.energy_pj == pytest.approx(sum(row.count * row.each.nominal for row in report.rows), rel=1e-12)


@pytest.mark.parametrize("storage", FORMATS)
def test_every_row_is_inside_its_range_and_names_a_source(storage: str) -> None:
    report = comparison().results[storage].costs
    low, high = report.energy_range_pj
    assert low < report.energy_pj < high
    assert all(row.low_pj <= row.energy_pj <= row.high_pj and row.each.source for row in report.rows)


@pytest.mark.parametrize("storage", ["dense-int8", "huffman"])
def test_an_account_without_one_of_its_rows_fails(storage: str) -> None:
    result = comparison().results[storage]
    check(result, result.costs)
    for missing in result.costs.rows:
        if missing.count == 0:
            continue
        rows = tuple(row for row in result.costs.rows if row is not missing)
        with pytest.raises(SimulationError, match=r"costs: expected (rows for|a row for)"):
            check(result, replace(result.costs, rows=rows))


def test_a_missing_row_is_named() -> None:
    result = comparison().results["huffman"]
    rows = tuple(row for row in result.costs.rows if (row.unit, row.layer, row.event) != ("pe_array", "fc0", "mac"))
    macs = sum(c.count for c in result.counts if (c.unit, c.layer, c.event) == ("pe_array", "fc0", Event.MAC))
    with pytest.raises(SimulationError) as caught:
        check(result, replace(result.costs, rows=rows))
    assert str(caught.value) == (
        f"costs: expected rows for {macs:,} mac of pe_array fc0; got 0; this is a fault of the simulator, please "
        "report it"
    )


def test_a_row_with_a_smaller_count_fails_too() -> None:
    result = comparison().results["huffman"]
    first = next(row for row in result.costs.rows if row.event == Event.SYMBOL_DECODE)
    rows = tuple(replace(row, count=row.count - 1) if row is first else row for row in result.costs.rows)
    with pytest.raises(SimulationError, match="symbol_decode of huffman"):
        check(result, replace(result.costs, rows=rows))


def test_an_area_that_is_left_out_fails() -> None:
    result = comparison().results["huffman"]
    with pytest.raises(SimulationError, match="expected an area for"):
        check(result, replace(result.costs, area=result.costs.area[1:]))


def test_an_event_without_an_energy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from dchw.costs import accounting

    real = accounting.unit_costs

    def without_macs(machine: dchw.machines.machine.Machine, storage: str) -> dict[str, object]:
        costs = dict(real(machine, storage))
        left = {event: figure for event, figure in costs["pe_array"].energy_pj.items() if event != Event.MAC}
        return {**costs, "pe_array": replace(costs["pe_array"], energy_pj=left)}

    monkeypatch.setattr(accounting, "unit_costs", without_macs)
    with pytest.raises(SimulationError, match="expected an energy for mac in pe_array; got none"):
        simulate(tiny_network(), "phone-lpddr5x", "dense-int8")


def test_controller_and_phy_are_left_out_or_stated_and_the_scope_says_which() -> None:
    net = tiny_network()
    spread = {"low": 1, "nominal": 2, "high": 3}
    phone = dchw.machine("phone-lpddr5x")
    plain, stated = (
        dchw.simulate(net, machine) for machine in (phone, phone.replace("dram.controller_and_phy", spread))
    )
    rows = [row for row in stated.costs.rows if row.event == "controller_and_phy"]
    bits = 8 * int(stated.timing.memory.size_bytes.sum()) if stated.timing.memory else 0
    assert math.fsum(row.count for row in rows) == bits > 0
    assert math.fsum(row.energy_pj for row in rows) == pytest.approx(2 * bits)
    assert stated.energy_pj - plain.energy_pj == pytest.approx(2 * bits)
    assert {row.each.confidence for row in rows} == {Confidence.ASSUMED}
    assert plain.costs.scope.endswith("without controller and PHY")
    assert stated.costs.scope.endswith("with controller and PHY, assumed 1 / 2 / 3 pJ per bit")
    cut = replace(stated.costs, rows=tuple(row for row in stated.costs.rows if row is not rows[0]))
    machine = stated.workload.machine
    with pytest.raises(SimulationError, match="controller_and_phy"):
        check_complete(cut, stated.counts, unit_costs(machine, "huffman"), stated.timing, machine.dram)


def test_clocks_at_work_and_idle_cover_the_whole_run() -> None:
    result = comparison().results["huffman"]
    for unit in ("pe_array", "huffman", "dma"):
        counts = {row.event: row.count for row in result.costs.rows if row.unit == unit}
        assert counts["clock"] + counts["idle_clock"] == pytest.approx(result.cycles)
        assert counts["leakage"] == pytest.approx(result.seconds)


def test_idle_cycles_cost_the_ungated_share() -> None:
    rows = {row.event: row for row in comparison().results["huffman"].costs.rows if row.unit == "pe_array"}
    share = comparison().machine.silicon.ungated_share
    assert rows["idle_clock"].each.nominal == pytest.approx(share * rows["clock"].each.nominal)
    assert rows["idle_clock"].each.low == 0
    assert rows["idle_clock"].each.confidence is Confidence.ASSUMED


def report_of(*rows: CostRow) -> CostReport:
    work = Work(inferences=2, macs=8, weights=4)
    return CostReport(rows=rows, area=(), scope="none", seconds=1e-6, work=work)


def row(unit: str, event: str, count: float, low: float, nominal: float, high: float) -> CostRow:
    each = Figure(nominal, low, high, "pJ", f"source of {unit} {event}", Confidence.PUBLISHED)
    each = each.because(f"range of {unit}")
    return CostRow(unit=unit, face=FACES[unit], event=event, layer="", stream="", count=count, each=each)


def test_averages_by_hand() -> None:
    report = report_of(row("dram", "dram_read", 10, 1, 2, 4), row("pe_array", "mac", 4, 5, 5, 5))
    assert report.energy_pj == 40  # 10 x 2 + 4 x 5
    assert report.energy_range_pj == (30, 60)
    assert report.energy_per_inference_pj == 20
    assert report.energy_per_mac_pj == 5
    assert report.energy_per_weight_pj == 5  # 20 pJ over 4 weights
    assert report.power_mw == pytest.approx(40e-12 / 1e-6 * 1e3)
    assert report.energy_delay_js == pytest.approx(40e-12 * 1e-6)
    assert report.by("stage") == {"fetch": 20, "multiply": 20}


def test_sensitivity_by_hand() -> None:
    report = report_of(row("dram", "dram_read", 10, 1, 2, 4), row("pe_array", "mac", 4, 4, 5, 5))
    first, second = report.sensitivity()
    assert (first.name, first.total_low_pj, first.total_high_pj) == ("range of dram", 30, 60)
    assert (second.name, second.total_low_pj, second.total_high_pj) == ("range of pe_array", 36, 40)
    assert (first.energy_pj, first.swing_pj) == (20, 30)


@pytest.mark.parametrize("storage", FORMATS)
def test_every_range_has_a_cause_and_every_cause_stays_inside_the_range(storage: str) -> None:
    report = comparison().results[storage].costs
    assert [row for row in report.rows if row.low_pj < row.high_pj and not row.each.moves] == []
    found = report.sensitivity()
    low, high = report.energy_range_pj
    names = [a.name for a in found]
    assert len(set(names)) == len(names)
    for assumption in found:
        assert assumption.total_low_pj <= report.energy_pj * (1 + 1e-12)
        assert assumption.total_high_pj >= report.energy_pj * (1 - 1e-12)
        if assumption not in report.choices:
            assert assumption.total_low_pj >= low * (1 - 1e-12)
            assert assumption.total_high_pj <= high * (1 + 1e-12)
    assert [a.swing_pj for a in found] == sorted((a.swing_pj for a in found), reverse=True)


def test_node_scaling_is_an_assumption_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the run priced again with that one factor at the end of its range."""
    run, machine = comparison().results["huffman"], comparison().machine
    name = f"node scaling of energy to {machine.silicon.node_nm:g} nm"
    found = {a.name: a for a in run.costs.sensitivity()}[name]
    nominal = unit_costs(machine, "huffman")
    genuine = scaling.inverter_factor

    def at_the_high_end(quantity: scaling.Quantity, from_nm: float, to_nm: float) -> Figure:
        factor = genuine(quantity, from_nm, to_nm)
        return replace(factor, nominal=factor.high) if quantity is scaling.Quantity.ENERGY else factor

    monkeypatch.setattr(scaling, "inverter_factor", at_the_high_end)
    monkeypatch.setattr(wires, "inverter_factor", at_the_high_end)
    form = storage_format("huffman")
    # the same content under other scaling: not from the caches, and not into them
    for module, kept in ((composing, "_composed"), (logic, "_block"), (array_wires, "_published")):
        monkeypatch.setattr(module, kept, getattr(module, kept).__wrapped__)
    moved = accounting._costs_of.__wrapped__(machine, form.needs, form.positions)
    difference = 0.0
    for row in run.costs.rows:
        if row.unit != "dram" and row.event in nominal[row.unit].energy_pj:
            before, after = nominal[row.unit].energy_pj[Event(row.event)], moved[row.unit].energy_pj[Event(row.event)]
            difference += row.count * (after.nominal - before.nominal)
        elif row.event in ("clock", "idle_clock"):
            clocks = nominal[row.unit].clock_pj, moved[row.unit].clock_pj
            assert clocks[0] is not None
            assert clocks[1] is not None
            difference += row.energy_pj * (clocks[1].nominal / clocks[0].nominal - 1)
    assert difference > 0
    assert found.total_high_pj - run.costs.energy_pj == pytest.approx(difference)


def test_choices_of_silicon_are_the_same_run_priced_on_it() -> None:
    run, machine = comparison().results["huffman"], comparison().machine
    assert len(run.costs.choices) == len(machine.silicon.alternatives()) == 3
    family = next(a for a in run.costs.choices if "logic family" in a.name)
    other = machine.model_copy(update={"silicon": machine.silicon.model_copy(update={"logic": "aladdin-40nm"})})
    again = simulate(comparison().network, other, "huffman").costs
    totals = sorted((run.costs.energy_pj, again.energy_pj))
    assert [family.total_low_pj, family.total_high_pj] == pytest.approx(totals)


def test_a_frame_is_the_run_and_what_idles_after_it() -> None:
    result, machine = comparison().results["huffman"], comparison().machine
    frame = per_frame(result.costs, 30, machine)
    idle = 1 / 30 - result.seconds
    leakage_mw = sum(cost.leakage_mw.nominal for cost in unit_costs(machine, "huffman").values())
    dram_mw = idle_mw(machine.dram.part, "self-refresh").nominal * machine.dram.channels
    assert frame.idle_pj == pytest.approx((leakage_mw + dram_mw) * idle * 1e9)
    assert frame.energy_pj == pytest.approx(result.energy_pj + frame.idle_pj)
    assert frame.power_mw == pytest.approx(frame.energy_pj * 1e-12 * 30 * 1e3)
    assert frame.to_frame()["energy_pj"].sum() == pytest.approx(frame.energy_pj)
    low, high = frame.energy_range_pj
    assert low < frame.energy_pj < high


def test_idle_dram_from_its_currents() -> None:
    # one 16-bit LPDDR4 channel: IDD6 over the rails, and IDD2P + IDD5AB - IDD2N
    self_refresh = 0.3 * 1.8 + 0.5 * 1.1 + 0.1 * 1.1
    power_down = (1.2 + 2.5 - 2) * 1.8 + (3 + 30 - 27) * 1.1 + 0.75 * 1.1
    assert idle_mw(standard("LPDDR4-3200"), "self-refresh").nominal == pytest.approx(self_refresh)
    assert idle_mw(standard("LPDDR4-3200"), "power-down").nominal == pytest.approx(power_down)
    stand_in = idle_mw(standard("LPDDR5X-8533"), "self-refresh")
    assert stand_in.nominal == pytest.approx(self_refresh)
    assert stand_in.confidence is Confidence.ASSUMED
    assert "in place of LPDDR5X-8533" in stand_in.source


@pytest.mark.parametrize(
    ("fps", "idle", "message"),
    [
        (0.0, "self-refresh", "frame rate: expected a number above 0; got 0.0; give frames per second"),
        (math.nan, "self-refresh", "frame rate: expected a number above 0; got nan; give frames per second"),
        (30.0, "off", "idle DRAM: expected self-refresh or power-down; got 'off'; choose one"),
    ],
)
def test_senseless_frames_are_errors(fps: float, idle: str, message: str) -> None:
    with pytest.raises(DchwError) as caught:
        per_frame(comparison().results["huffman"].costs, fps, comparison().machine, idle)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_a_run_longer_than_its_frame_is_an_error() -> None:
    report = replace(report_of(row("pe_array", "leakage", 1, 1, 1, 1)), seconds=0.1)
    with pytest.raises(DchwError) as caught:
        per_frame(report, 30, comparison().machine)
    assert str(caught.value) == (
        "frame rate 30: expected a run within 66.67 ms; got 100 ms; lower the frame rate or choose a faster machine"
    )


def test_a_clock_that_a_unit_cannot_meet_is_a_warning_that_names_it() -> None:
    fast = dchw.machine("eie-64pe-45nm").replace("clock", "4 GHz")
    warnings = simulate(tiny_network(), fast, "shared").costs.warnings
    assert any(text.startswith("pe_array: its slowest path takes") for text in warnings)


def test_ranges_of_figures_reach_the_total() -> None:
    each = spread(2.0, 0.5, 3.0, "pJ", "a table", Confidence.PUBLISHED)
    one = CostRow(unit="dma", face=FACES["dma"], event="dma_request", layer="", stream="", count=7, each=each)
    assert report_of(one).energy_range_pj == (7.0, 42.0)
