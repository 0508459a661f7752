"""Does a network whose tensors are read behind a layer always run to its end, on any machine that works it?"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.compression.compressed import CompressedNetwork
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast
from dchw.graph.network import Network, Operation, OperationKind
from dchw.lowering import broadcast, tensors
from dchw.lowering.context import StageLowering
from dchw.lowering.lower import lower
from dchw.machines.machine import Machine
from dchw.mapping.workload import map_network
from dchw.quantities import DchwError, SimulationError
from tests.formulas.layers import machine_with

STORAGES = ["dense-fp32", "dense-int8", "shared", "csr", "huffman"]


def residual(
    channels: int, out: int, size: int, *, kernel: int = 1, stride: int = 1, quiet_rows: int = 0, seed: int = 0
) -> CompressedNetwork:
    """Two convolutions of one input whose sums are added, and a layer that reads them.

    The first ``quiet_rows`` rows of the input are zero.
    """
    rng = np.random.default_rng(seed)
    kinds, side = OperationKind, (size - 1) // stride + 1

    def convolution(name: str, into: str, shape: tuple[int, ...], step: int) -> Operation:
        return Operation(
            name=name,
            kind=kinds.CONV2D,
            inputs=(into,),
            parameter=f"{name}.weight",
            attributes={
                "stride": (step, step), "padding": (shape[2] // 2,) * 2, "dilation": (1, 1), "groups": 1
            },
            weight=rng.normal(size=shape).astype(np.float32),
            output_shape=(shape[0], side, side),
        )  # fmt: skip

    x = rng.random((1, channels, size, size), dtype=np.float32) + np.float32(0.1)
    x[:, :, :quiet_rows] = 0
    operations = (
        Operation(name="x", kind=kinds.INPUT, output_shape=(channels, size, size)),
        convolution("long", "x", (out, channels, kernel, kernel), stride),
        convolution("short", "x", (out, channels, kernel, kernel), stride),
        Operation(name="add", kind=kinds.ADD, inputs=("long", "short"), output_shape=(out, side, side)),
        convolution("last", "add", (4, out, 1, 1), 1),
    )
    network = Network(name="residual", operations=operations, example_inputs={"x": x})
    return dchw.compress(network, dchw.Recipe(codebook_bits=4, index_bits=3))


def tight(size: str, tile: int, **changes: object) -> Machine:
    return machine_with(activation_sram__size_bytes=size, pe_array__tile=tile, **changes)


CASES = {
    # blocks of the input fall on the ends of 49 passes, and more is added behind each than has room
    "ends of passes": (residual(12, 16, 28), tight("2 KiB", 16)),
    "unevenly active": (residual(8, 40, 14, quiet_rows=7), tight("2 KiB", 8, pe_array__dense_zeros="skipped")),
    "more zeros than room": (residual(23, 55, 20, quiet_rows=10), tight("1 KiB", 16, pe_array__dense_zeros="skipped")),
    "columns larger than room": (residual(1, 4, 64, stride=16), tight("1 KiB", 8)),
}


@pytest.mark.parametrize("storage", ["dense-fp32", "csr"])
@pytest.mark.parametrize("name", CASES)
def test_blocks_come_in_the_order_in_which_passes_need_them(name: str, storage: str) -> None:
    network, target = CASES[name]
    program = lower(map_network(network, target, storage))
    one, other = fast.run(program, record=True), reference.run(program, record=True)
    assert first_difference(one, other, program) is None
    run = dchw.simulate(network, target, storage)  # counts and bytes are compared with the workload
    assert run.cycles == one.cycles


@pytest.mark.parametrize("engine", [fast, reference])
def test_a_block_waited_for_a_place_early_is_a_deadlock(engine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    load = tensors.Tensors.load

    def early(self: tensors.Tensors, at: StageLowering) -> tensors.Fills:
        fills = load(self, at)
        return replace(fills, reached=np.maximum(fills.reached - 1, 0))

    monkeypatch.setattr(tensors.Tensors, "load", early)
    network, target = CASES["ends of passes"]
    with pytest.raises(SimulationError, match="deadlock"):
        engine.run(lower(map_network(network, target, "dense-fp32")))


@pytest.mark.parametrize("name", ["more zeros than room", "columns larger than room"])
def test_blocks_that_are_not_stepped_over_are_a_deadlock(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "_step_over", lambda *given: None)
    network, target = CASES[name]
    with pytest.raises(SimulationError, match="deadlock"):
        fast.run(lower(map_network(network, target, "csr")))


@pytest.mark.parametrize(("room", "reads"), [("64 KiB", 0), ("2 KiB", 1)])
def test_an_output_that_is_read_inside_is_written_once(room: str, reads: int) -> None:
    network = residual(8, 16, 16)
    target = tight(room, 8)
    graph = replace(network.graph, inner_outputs=("add",))
    also = replace(network, graph=graph)
    before, after = (dchw.simulate(one, target, "dense-fp16") for one in (network, also))
    size, result = 2 * 16 * 16 * 16, 2 * 4 * 16 * 16
    assert list(after.outputs) == ["add", "last"]
    stages = map_network(also, target, "dense-fp16").stages
    assert [stage.stores.get("add", 0) for stage in stages] == [0, size, 0]
    assert stages[2].loads == ({"add": size} if reads else {})
    assert after.dram_write_bytes - before.dram_write_bytes == (0 if reads else size)
    assert after.dram_read_bytes == before.dram_read_bytes
    assert reads or after.dram_write_bytes == size + result


@settings(max_examples=40)
@given(st.data())
def test_residual_networks_run_on_any_machine(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 16))
    network = residual(
        data.draw(st.integers(1, 24)),
        data.draw(st.integers(1, 40)),
        size,
        kernel=data.draw(st.sampled_from([1, 3])),
        stride=data.draw(st.integers(1, 9)),
        quiet_rows=data.draw(st.sampled_from([0, size // 2, size])),
    )
    inner = data.draw(st.sampled_from([(), ("add",), ("long", "add"), ("short",)]))
    network = replace(network, graph=replace(network.graph, inner_outputs=inner))
    target = tight(
        data.draw(st.sampled_from(["1 KiB", "2 KiB", "4 KiB", "8 KiB"])),
        data.draw(st.sampled_from([2, 4, 8, 16])),
        dma__outstanding=data.draw(st.sampled_from([1, 2, 8])),
        pe_array__queue_depth=data.draw(st.sampled_from([1, 4])),
        pe_array__dense_zeros=data.draw(st.sampled_from(["skipped", "multiplied"])),
    )
    try:
        workload = map_network(network, target, data.draw(st.sampled_from(STORAGES)))
        program = lower(workload)
    except SimulationError:
        raise
    except DchwError as error:
        assert "raise weight_sram.size_bytes" in str(error)  # noqa: PT017
        return
    fast.run(program)
