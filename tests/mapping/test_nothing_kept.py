"""Does a part of a layer that keeps no weight run, and leave what comes behind it in order?

Found by random machines: chunks without a byte have no blocks to fetch, and no room that could be given back.
"""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.compression.compressed import CompressedNetwork
from dchw.engines.difference import first_difference
from dchw.formats import STORAGE_FORMATS
from dchw.graph import forward
from dchw.graph.network import Network
from dchw.lowering.lower import lower
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.mapping.workload import map_network
from dchw.program.builder import Indices, NodeBuilder
from dchw.quantities import SimulationError
from dchw.run.simulation import run_program
from tests.mapping.layers import small_machine

POSITIONS = [name for name, form in STORAGE_FORMATS.items() if form.positions]


def network(batch: int) -> CompressedNetwork:
    """A layer whose middle rows are gone, one of which nothing is left, and a whole one behind them."""
    rng = np.random.default_rng(0)
    holed = rng.normal(size=(48, 6))
    holed[8:40] = 0.0
    weights = {"holed": holed, "gone": np.zeros((8, 12)), "whole": rng.normal(size=(4, 48))}
    inputs = {name: rng.random((batch, matrix.shape[1])) for name, matrix in weights.items()}
    biases = {name: rng.normal(size=len(matrix)) for name, matrix in weights.items()}
    net = Network.from_arrays("holes", weights, inputs=inputs, biases=biases)
    return dchw.compress(net, dchw.Recipe(codebook_bits=4, index_bits=3))


def machine(placement: str) -> Machine:
    """One that works 16 rows at a time and two examples at once, so that a part is nothing but the rows gone."""
    return small_machine(
        huffman__placement=placement, huffman__chunk_entries=16, pe_array__accumulators=4, pe_array__tile=2
    )


@pytest.mark.parametrize("storage", POSITIONS)
@pytest.mark.parametrize("placement", ["use", "load"])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("warm", [False, True])
def test_engines_agree_where_a_part_keeps_nothing(storage: str, placement: str, batch: int, warm: bool) -> None:
    net, target = network(batch), machine(placement)
    workload = map_network(net, target, storage, batch=batch)
    assert any(stage.layer.packed.entries == 0 for stage in workload.stages)
    program = lower(workload, warm=warm)
    fast, slow = (run_program(program, engine, record=True) for engine in ("fast", "reference"))
    assert first_difference(fast, slow, program) is None
    result = dchw.simulate(net, target, storage, batch=batch, warm=warm)  # counts every event both ways
    expected = forward.forward(net.decompress())
    for name, values in result.outputs.items():
        share = 5e-2 if storage == "huffman-int8" else 1e-5  # shared values are rounded to int8
        np.testing.assert_allclose(values, expected[name], atol=share * np.abs(expected[name]).max())


@pytest.mark.parametrize("placement", ["use", "load"])
def test_room_given_back_that_was_never_taken_is_seen(placement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: who is done with a chunk without bytes says so, and room of a later layer comes free too early."""

    def always(self: WeightStream, delivery: Delivery, user: NodeBuilder, firings: Indices) -> None:
        self._used_up(user).give(firings)

    def times() -> object:
        try:
            return run_program(lower(map_network(network(5), machine(placement), "huffman", batch=5)), "fast").cycles
        except SimulationError as error:
            return str(error)

    right = times()
    monkeypatch.setattr(WeightStream, "used_up", always)
    assert times() != right
