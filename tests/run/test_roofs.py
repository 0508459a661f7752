"""Does no layer lie above a roof, on every preset, in every format, on every shipped LeNet?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dchw
from dchw.formats import STORAGE_FORMATS, Need
from dchw.graph.geometry import Geometry
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


@pytest.mark.parametrize("preset", preset_names())
def test_products_that_are_skipped_lift_no_layer_above_the_peak(preset: str) -> None:
    """Three quarters of the channels are dead: sparse weights let their columns be skipped, so that all products with a
    non-zero weight over the cycles would be more than there are multipliers."""
    rng = np.random.default_rng(0)
    weight = {"c": (rng.random((64, 64, 1, 1)) < 0.8) * rng.standard_normal((64, 64, 1, 1)).round(1)}
    geometry = {"c": Geometry(in_channels=64, out_channels=64, kernel=(1, 1), in_size=(16, 16))}
    image = rng.random((1, 64, 16, 16)).astype(np.float32)
    image[:, 16:] = 0
    arrays = {name: values.astype(np.float32) for name, values in weight.items()}
    network = dchw.compress(dchw.Network.from_arrays("dead", arrays, geometry=geometry, inputs={"c": image}))
    skipped = False
    for storage in ("shared", "bitmask", "huffman", "dense-fp16"):
        run = dchw.simulate(network, preset, storage)
        frame = roofs_frame(run)
        assert (frame["macs_per_cycle"] <= frame["attainable"] * ROUNDING).all()
        every = sum(work.multiplications for work in run.workload.works("c"))
        skipped = skipped or bool((frame["useful_macs"] < every / 2).all())
    assert skipped


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
