"""A unit that only this file knows: its own class, one field of a machine, one line of wiring, and it is everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import ClassVar

import pytest

import dchw
from dchw.config import Positive, build
from dchw.costs import unit_costs
from dchw.formats import Need
from dchw.machines.units.pe_array import PeArray
from dchw.machines.units.unit import Count, Direction, Port, Setting, Unit, UnitCosts
from dchw.program.flow import Flow
from dchw.quantities import SimulationError
from dchw.reports import page_rows
from dchw.reports.report_tables import build_tables
from dchw.run.sim_result import SimResult
from dchw.technology.building_blocks import Parts
from tests.reports.runs import tiny_network


class Checksum(Unit):
    """Adds every code that passes from decoding to the codebook, and changes nothing."""

    label: ClassVar[str] = "checksum"
    category: ClassVar[str] = "decode"
    stage: ClassVar[str] = "decode"
    works_with: ClassVar[type[Unit]] = PeArray

    bits: Positive = 16

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Codes in, the same codes out."""
        return {"codes": Port(direction=Direction.IN, bits=8), "checked": Port(direction=Direction.OUT, bits=8)}

    def involved(self, setting: Setting) -> bool:
        return Need.CODEBOOK in setting.needs

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        if self.involved(setting):
            yield Count(event="checksum_add", count=flow.entries)

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts:
        adder, register = parts.logic.add(self.bits), parts.logic.register(self.bits)
        block = parts.structure(
            {"add": adder.energy_pj + register.energy_pj},
            blocks=(adder, register),
            path=(adder.delay_ns,),
            register_bits=self.bits,
        )
        return UnitCosts(
            energy_pj={"checksum_add": block.energy_pj["add"]},
            leakage_mw=block.leakage_mw,
            area_mm2=block.area_mm2,
            clock_pj=block.clock_pj,
            delay_ns=block.delay_ns,
        )


class Checked(dchw.Machine):
    checksum: Checksum


def checked() -> Checked:
    return build(Checked, {**dchw.machine("phone-lpddr5x").dump(), "checksum": {"bits": 16}}, where="checked")


@cache
def run(storage: str) -> SimResult:
    return dchw.simulate(tiny_network(), checked(), storage)


def test_its_events_clock_leakage_and_area_appear() -> None:
    result = run("huffman")
    rows = {(row.layer, row.event): row for row in result.costs.rows if row.unit == "checksum"}
    assert {event for _, event in rows} == {"checksum_add", "clock", "idle_clock", "leakage"}
    added = sum(row.count for (_, event), row in rows.items() if event == "checksum_add")
    assert added == sum(row.count for row in result.costs.rows if row.event == "codebook_lookup") > 0
    assert rows["", "clock"].count == next(
        row.count for row in result.costs.rows if (row.unit, row.event) == ("pe_array", "clock")
    )
    assert [row.unit for row in result.costs.area][-1] == "checksum"
    assert {row.category for row in rows.values()} == {"decode", "clock", "leakage"}


def test_nothing_else_moves() -> None:
    with_it, without = run("huffman"), dchw.simulate(tiny_network(), "phone-lpddr5x", "huffman")
    assert with_it.cycles == without.cycles
    extra = sum(row.energy_pj for row in with_it.costs.rows if row.unit == "checksum")
    assert with_it.energy_pj - extra == pytest.approx(without.energy_pj, rel=1e-12)


def test_a_format_that_does_not_use_it_does_not_count_it() -> None:
    assert all(row.unit != "checksum" for row in run("dense-int8").costs.rows)
    assert "checksum" not in unit_costs(checked(), "dense-int8")


def test_reports_show_it() -> None:
    network, storages = tiny_network(), ["dense-int8", "huffman"]
    results: dict[str, SimResult] = {}
    frame = dchw.compare(network, checked(), storages=storages, on_result=results.__setitem__)
    tables = build_tables(network, checked(), results, frame)
    rows = {row["unit"]: row for row in page_rows.unit_rows(tables)}
    assert list(rows)[-1] == "checksum"
    assert rows["checksum"]["stage"] == "decode"
    assert rows["checksum"]["before"]["energy"] == "–"
    assert rows["checksum"]["after"]["area"] != "–"


def test_an_event_that_its_costs_do_not_list_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checksum, "counts", lambda *_: iter([Count(event="checksum_ad", count=1)]))
    with pytest.raises(SimulationError, match="expected an energy for checksum_ad in checksum; got none"):
        dchw.simulate(tiny_network(), checked(), "huffman")
