"""Do layers that read constants count once, whatever the batch?"""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.compression.compressed import CompressedNetwork
from dchw.graph.network import Network, Operation, OperationKind


def beside_a_table(rows: int) -> CompressedNetwork:
    """A linear layer of the input, and one of a table of so many rows that no input reaches; their sum."""
    rng, kinds = np.random.default_rng(rows), OperationKind
    shape = (rows,) if rows > 1 else ()

    def linear(name: str, into: str, columns: int, behind: tuple[int, ...]) -> Operation:
        weight = rng.standard_normal((8, columns)).astype(np.float32)
        return Operation(
            name=name, kind=kinds.LINEAR, inputs=(into,), parameter=f"{name}.weight", weight=weight, output_shape=behind
        )

    table = np.abs(rng.standard_normal((*shape, 16))).astype(np.float32)
    operations = (
        Operation(name="x", kind=kinds.INPUT, output_shape=(12,)),
        Operation(name="table", kind=kinds.CONSTANT, attributes={"value": table}, output_shape=table.shape),
        linear("of_table", "table", 16, (*shape, 8)),
        Operation(name="relu", kind=kinds.ACTIVATION, inputs=("of_table",), attributes={"function": "relu"},
                  output_shape=(*shape, 8)),
        linear("again", "relu", 8, (*shape, 8)),
        linear("of_x", "x", 12, (8,)),
        Operation(name="wide", kind=kinds.RESHAPE, inputs=("of_x",), attributes={"shape": (*shape[:0], 1, 8)},
                  output_shape=(1, 8)),
        Operation(name="sum", kind=kinds.ADD, inputs=("wide" if rows > 1 else "of_x", "again"),
                  output_shape=(*shape, 8)),
    )  # fmt: skip
    if rows == 1:
        operations = tuple(op for op in operations if op.name != "wide")
    x = np.abs(rng.standard_normal((3, 12))).astype(np.float32)
    network = Network(name="n", operations=operations, example_inputs={"x": x})
    return dchw.compress(network, dchw.Recipe(density=0.5))


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("storage", ["huffman", "palette-huffman", "shared", "dense-fp16"])
def test_a_batch_computes_what_no_input_reaches_once(rows: int, storage: str) -> None:
    """The layer of the table had a batch of columns to fill and one to fill it with: an IndexError at batch 2."""
    network = beside_a_table(rows)
    assert network.graph.fixed == {"table", "of_table", "relu", "again"}
    one = dchw.simulate(network, "phone-lpddr5x", storage)
    three = dchw.simulate(network, "phone-lpddr5x", storage, batch=3)
    assert three.outputs["sum"].shape == (3, *one.outputs["sum"].shape[1:])
    np.testing.assert_allclose(three.outputs["sum"][:1], one.outputs["sum"], rtol=1e-5, atol=1e-6)
    products = [run.layers_frame().set_index("layer")["dense_macs"] for run in (one, three)]
    assert products[1]["of_x"] == 3 * products[0]["of_x"]
    assert (products[1]["of_table"], products[1]["again"]) == (products[0]["of_table"], products[0]["again"])


@pytest.mark.parametrize("rows", [1, 5])
def test_without_values_shapes_are_those_with_them(rows: int) -> None:
    network = beside_a_table(rows)
    timed, computed = (
        dchw.simulate(network, "phone-lpddr5x", "dense-fp16", batch=3, arithmetic=arithmetic)
        for arithmetic in ("none", "float32")
    )
    assert timed.workload.tensor_bytes == computed.workload.tensor_bytes
    assert timed.outputs["sum"].shape == computed.outputs["sum"].shape
