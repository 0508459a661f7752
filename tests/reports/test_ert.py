"""Do the reference tables hold the machine's own figures in the form their readers expect?"""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

import dchw
from dchw.costs import unit_costs
from dchw.quantities import DchwError
from dchw.reports.ert import area_table, energy_table, write_table


@pytest.mark.parametrize("storage", ["dense-int8", "huffman"])
def test_energies_are_those_of_the_account(storage: str) -> None:
    machine = dchw.machine("eie-64pe-45nm")
    costs = unit_costs(machine, storage)
    table = energy_table(machine, storage)["ERT"]
    assert table["version"] == "0.4"
    assert [entry["name"] for entry in table["tables"]] == [f"chip.{unit}[1..1]" for unit in costs]
    for entry, cost in zip(table["tables"], costs.values(), strict=True):
        actions = {action["name"]: action for action in entry["actions"]}
        for event, figure in cost.energy_pj.items():
            assert actions[event.value]["energy"] == pytest.approx(figure.nominal)
        # 1 mW over one cycle of 800 MHz is 1.25 pJ
        assert actions["leak"]["energy"] == pytest.approx(cost.leakage_mw.nominal * 1.25)
        assert actions["leak"]["arguments"] == {"global_cycle_seconds": 1.25e-9}
        assert ("clock" in actions) == (cost.clock_pj is not None)


def test_areas_are_in_square_micrometres() -> None:
    machine = dchw.machine("eie-64pe-45nm")
    total = sum(cost.area_mm2.nominal for cost in unit_costs(machine, "huffman").values())
    table = area_table(machine)["ART"]
    assert sum(entry["area"] for entry in table["tables"]) == pytest.approx(total * 1e6)


def test_what_is_written_is_plain_yaml(tmp_path: Path) -> None:
    machine = dchw.machine("eie-64pe-45nm")
    for name, table in (("ert.yaml", energy_table(machine)), ("art.yaml", area_table(machine))):
        write_table(table, tmp_path / name)
        assert YAML(typ="safe").load(tmp_path / name) == table
    with pytest.raises(DchwError, match="cannot be written"):
        write_table(area_table(machine), tmp_path / "ert.yaml" / "art.yaml")
