"""Does no layer lie above a roof, on every preset, in every format, on every shipped LeNet?"""

from __future__ import annotations

from pathlib import Path

import pytest

import dchw
from dchw.formats import STORAGE_FORMATS, Need
from dchw.machines.machine import preset_names
from dchw.run.roofs import machine_roofs, roofs_frame

MODELS = sorted((Path(__file__).parents[2] / "models").glob("lenet*.dchw"))
ROUNDING = 1 + 1e-9


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem == "lenet_5_frontier" else pytest.mark.slow, id=p.stem) for p in MODELS],
)
def test_no_point_lies_above_a_roof(path: Path, preset: str) -> None:
    results: dict[str, dchw.SimResult] = {}
    dchw.compare(dchw.load(path), preset, on_result=results.__setitem__)
    assert list(results) == list(STORAGE_FORMATS)
    for storage, result in results.items():
        frame = roofs_frame(result)
        above = frame[frame["macs_per_cycle"] > frame["attainable"] * ROUNDING]
        assert above.empty, (storage, above.to_dict("records"))
        decoded = Need.DECODER in STORAGE_FORMATS[storage].needs
        assert ("decode" in set(frame["roof"])) == decoded
        assert set(frame["roof"]) >= {"dram", "weight SRAM", "activation SRAM"}


def test_a_layer_that_a_resource_fills_lies_on_its_roof() -> None:
    result = dchw.simulate(dchw.load(MODELS[0]), "phone-lpddr5x", "dense-fp32")
    frame = roofs_frame(result).query("layer == 'ip1' and roof == 'dram'").iloc[0]
    assert frame["macs_per_cycle"] > 0.85 * frame["attainable"]


def test_the_roofs_of_a_machine_are_its_parameters() -> None:
    phone = dchw.machine("phone-lpddr5x")
    found = {roof.name: roof.per_cycle for roof in machine_roofs(phone)}
    assert found["decode"] == 32
    assert found["weight SRAM"] == 16 * 8
    assert found["activation SRAM"] == 8 * 16
    assert found["dram"] == pytest.approx(68.26, abs=0.01)
    twice = machine_roofs(phone.replace("huffman.units", 64))
    assert {roof.name: roof.per_cycle for roof in twice}["decode"] == 64
