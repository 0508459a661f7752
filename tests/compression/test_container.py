"""The file round trip: what was saved comes back bit for bit, and every byte is accounted for."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

import dchw
from dchw.compression.compressed import CompressedNetwork, Positions, Representation, ValueFormat, graph_of
from dchw.compression.value_formats import encode_values, round_to_format
from dchw.container import envelope, parse, plain_graph, sizes, to_bytes
from dchw.container.envelope import input_tensors, read_inputs
from dchw.container.saving import network_bytes
from dchw.graph.coverage import LeftOut
from dchw.graph.network import Network, Operation, OperationKind
from dchw.quantities import DchwError
from tests.compression.networks import compressed, compressed_networks
from tests.oracles import container as oracle


def bits(array: np.ndarray | None) -> list[int] | None:
    return None if array is None else array.view(np.uint32).tolist()


def same(a: CompressedNetwork, b: CompressedNetwork) -> None:
    assert [op.name for op in a.graph.operations] == [op.name for op in b.graph.operations]
    for one, other in zip(a.graph.operations, b.graph.operations, strict=True):
        assert (one.kind, one.inputs, one.output_shape) == (other.kind, other.inputs, other.output_shape)
    for one, other in zip(a.layers, b.layers, strict=True):
        assert one.codes.tolist() == other.codes.tolist()
        assert bits(one.codebook) == bits(other.codebook)
        assert bits(one.bias) == bits(other.bias)
        assert (one.geometry, one.kind, one.input, one.parameter) == (
            other.geometry,
            other.kind,
            other.input,
            other.parameter,
        )
        assert one.representation == other.representation
    assert dict(a.recipe) == dict(b.recipe)
    assert a.graph.notes == b.graph.notes


@settings(max_examples=60, deadline=None)
@given(compressed_networks())
def test_round_trip_of_random_networks(network: CompressedNetwork) -> None:
    data = to_bytes(network)
    loaded = parse(data)
    same(network, loaded)
    assert to_bytes(loaded) == data
    for layer, original in zip(loaded.decompress().layers, network.layers, strict=True):
        assert bits(layer.weight) == bits(original.weight)


@settings(max_examples=60, deadline=None)
@given(compressed_networks())
def test_the_naive_reader_agrees(network: CompressedNetwork) -> None:
    data = to_bytes(network)
    _, tensors = oracle.read_file(data)
    for layer in network.layers:
        rows, columns = layer.matrix_codes.shape
        codes, codebook, bias = oracle.read_layer(tensors[layer.name], rows, columns)
        assert codes == layer.matrix_codes.tolist()
        assert codebook == layer.codebook.tolist()
        assert bias == (None if layer.bias is None else layer.bias.tolist())


@settings(max_examples=60, deadline=None)
@given(compressed_networks())
def test_parts_add_up_to_the_file(network: CompressedNetwork) -> None:
    data = to_bytes(network)
    found = sizes(data)
    assert sum(found.parts.values()) == found.file_bytes == len(data)
    assert found.rows()[-1]["total_bytes"] == len(data)
    for layer in found.layers:
        assert layer.code_filler_bits <= 8 * layer.parts["codes"]
        assert layer.gap_filler_bits <= 8 * layer.parts["gaps"]


@settings(max_examples=60, deadline=None)
@given(compressed_networks())
def test_a_length_is_that_of_the_bytes_without_example_inputs(network: CompressedNetwork) -> None:
    assert network_bytes(network) == len(envelope.without_inputs(envelope.unseal(to_bytes(network))))


def test_saving_what_was_loaded_gives_the_same_file(tmp_path: Path) -> None:
    network = compressed({"a": np.eye(9, 30, dtype=int)}, {"a": Representation(codebook_bits=1)})
    length = dchw.save(network, tmp_path / "a.dchw")
    assert dchw.save(dchw.load(tmp_path / "a.dchw"), tmp_path / "b.dchw") == length
    assert (tmp_path / "a.dchw").read_bytes() == (tmp_path / "b.dchw").read_bytes()
    assert (tmp_path / "a.dchw").stat().st_size == length
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dchw", "b.dchw"]


def test_any_safetensors_tool_reads_the_file(tmp_path: Path) -> None:
    network = compressed({"a": np.eye(9, 30, dtype=int), "b": [[1]]}, {"a": Representation(), "b": Representation()})
    dchw.save(network, tmp_path / "a.dchw")
    tensors = load_file(tmp_path / "a.dchw")
    assert {name: (array.dtype, array.ndim) for name, array in tensors.items()} == {
        "a": (np.uint8, 1),
        "b": (np.uint8, 1),
    }


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = compressed({"a": [[1]]}, {"a": Representation()})
    place = tmp_path / "a.dchw"
    dchw.save(network, place)
    before = place.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DchwError, match=r"a.dchw: cannot be written .*No space left on device.*; free space"):
        dchw.save(network, place)
    assert [path.name for path in tmp_path.iterdir()] == ["a.dchw"]
    assert place.read_bytes() == before


def test_example_inputs_take_a_byte_each_where_that_is_exact() -> None:
    rng = np.random.default_rng(3)
    pixels = (rng.integers(0, 256, (2, 7)).astype(np.float32) / np.float32(255)).astype(np.float32)
    whole = rng.integers(0, 256, (2, 7)).astype(np.float32)
    real = rng.normal(size=(2, 7)).astype(np.float32)
    negative_zero = np.array([[-0.0]], np.float32)
    tensors = input_tensors({"p": pixels, "w": whole, "r": real, "z": negative_zero})
    assert {name: str(array.dtype) for name, array in tensors.items()} == {
        "input255:p": "uint8",
        "input:w": "uint8",
        "input:r": "float32",
        "input:z": "float32",
    }
    back = read_inputs(tensors)
    for name, array in (("p", pixels), ("w", whole), ("r", real), ("z", negative_zero)):
        assert bits(back[name]) == bits(array)


def graph_of_everything() -> Network:
    """Branches, an array attribute, a constant, an unknown shape, odd names and parameters, two inputs."""
    rng = np.random.default_rng(0)
    kinds = OperationKind
    return Network(
        name="ünïcode / name",
        operations=(
            Operation(name="x", kind=kinds.INPUT, output_shape=(3, 8, 8)),
            Operation(name="y", kind=kinds.INPUT, output_shape=(4,)),
            Operation(
                name="c",
                kind=kinds.CONSTANT,
                attributes={"value": np.ones((4,), np.float32), "reason": "norm"},
                output_shape=(4,),
            ),
            Operation(name="sum", kind=kinds.ADD, inputs=("y", "c"), output_shape=(4,)),
            Operation(
                name="conv",
                kind=kinds.CONV2D,
                inputs=("x",),
                parameter="features.0.weight",
                attributes={"stride": (2, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 3},
                weight=rng.normal(size=(6, 1, 3, 3)).astype(np.float32),
                bias=np.ones(6, np.float32),
                output_shape=(6, 4, 8),
            ),
            Operation(
                name="norm",
                kind=kinds.NORMALISATION,
                inputs=("conv",),
                output_shape=(6, 4, 8),
                attributes={
                    "form": "batch",
                    "scale": rng.normal(size=6).astype(np.float32),
                    "shift": np.zeros(6, np.float32),
                },
            ),
            Operation(
                name="pool",
                kind=kinds.MAX_POOL2D,
                inputs=("norm",),
                output_shape=(6, 2, 4),
                attributes={
                    "kernel": (2, 2),
                    "stride": (2, 2),
                    "padding": (0, 0),
                    "dilation": (1, 1),
                    "ceil_mode": True,
                },
            ),
            Operation(name="flat", kind=kinds.FLATTEN, inputs=("pool",), output_shape=(48,)),
            Operation(
                name="fc", kind=kinds.LINEAR, inputs=("flat",), weight=np.ones((4, 48), np.float32), output_shape=(4,)
            ),
            Operation(name="all", kind=kinds.CONCAT, inputs=("fc", "sum"), attributes={"axis": 1}, output_shape=(8,)),
            Operation(name="odd", kind=kinds.OTHER, inputs=("all", "x"), attributes={"target": "f"}, output_shape=None),
        ),
        left_out=(LeftOut(name="spare", parameters=7, reason="the forward pass does not read it"),),
        inner_outputs=("pool", "sum"),
        example_inputs={"y": rng.normal(size=(1, 4)).astype(np.float32)},
        notes=("one", "two"),
    )


def test_a_graph_with_everything_comes_back() -> None:
    network = graph_of_everything()
    packed = dchw.compress(network, dchw.Recipe(codebook_bits=4))
    data = to_bytes(dataclasses.replace(packed, results={"error_rate": 0.25, "seeds": [1, 2]}))
    loaded = parse(data)
    same(packed, loaded)
    assert loaded.graph.name == network.name
    assert loaded.graph.left_out == network.left_out
    assert loaded.graph.inner_outputs == network.inner_outputs
    assert loaded.graph.outputs == ("sum", "pool", "odd")
    for one, other in zip(network.operations, loaded.graph.operations, strict=True):
        assert one.attributes.keys() == other.attributes.keys()
        for key, value in one.attributes.items():
            assert np.array_equal(value, other.attributes[key])
            assert type(value) is type(other.attributes[key])
    assert loaded.layer("conv").parameter == "features.0.weight"
    assert loaded.results["seeds"] == [1, 2]
    assert bits(loaded.graph.example_inputs["y"]) == bits(network.example_inputs["y"])
    found = sizes(data)
    alone = dataclasses.replace(loaded, graph=dataclasses.replace(loaded.graph, example_inputs={}))
    assert found.file_bytes == len(to_bytes(alone))
    assert found.file_bytes + found.example_bytes == len(data)
    assert found.own["activations"] == found.example_bytes >= 16
    assert found.own["weights"] == 4 * (4 + 6 + 6)
    assert parse(to_bytes(loaded)).name == network.name


def test_placeholders_take_no_memory() -> None:
    loaded = parse(to_bytes(compressed({"a": np.eye(50, dtype=int)}, {"a": Representation()})))
    assert loaded.graph.layers[0].weight.strides == (0, 0)


@pytest.mark.parametrize(
    ("form", "values"),
    [
        (ValueFormat.FLOAT16, [0.1]),
        (ValueFormat.FLOAT16, [1e6]),
        (ValueFormat.INT8, [1.0, 0.3]),
        (ValueFormat.INT8, [-0.0, 1.0]),
    ],
)
def test_values_that_a_format_cannot_hold_are_refused(form: ValueFormat, values: list[float]) -> None:
    with pytest.raises(DchwError, match=r"^here: .*; round them with round_to_format first$"):
        encode_values(np.array(values, np.float32), form, "here")


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.integers(0, 20), elements=st.floats(-60000, 60000, width=32, allow_subnormal=False)))
def test_rounding_to_a_format_can_be_repeated(values: np.ndarray) -> None:
    for form in ValueFormat:
        once = round_to_format(values, form)
        assert bits(round_to_format(once, form)) == bits(once)
        encode_values(once, form, "here")
        if form is ValueFormat.INT8 and values.size:
            assert np.abs(once - values).max() <= np.abs(values).max() / 253


def test_layers_must_be_those_of_the_graph() -> None:
    network = compressed({"a": [[1]], "b": [[1]]}, {"a": Representation(), "b": Representation()})
    with pytest.raises(DchwError, match=r"network small: expected the layers of its graph, \['a', 'b'\]; got \['a'\]"):
        to_bytes(dataclasses.replace(network, layers=network.layers[:1]))


def test_reserved_names_are_refused() -> None:
    network = compressed({"input:a": [[1]]}, {"input:a": Representation()})
    with pytest.raises(DchwError, match="names that begin like 'input:a' mean something else; rename the layer"):
        to_bytes(network)


def test_results_must_be_plain_and_finite() -> None:
    network = compressed({"a": [[1]]}, {"a": Representation()})
    with pytest.raises(DchwError, match="recipe and results must be plain finite values"):
        to_bytes(dataclasses.replace(network, results={"error": float("nan")}))


def lenet_300_100() -> Network:
    rng = np.random.default_rng(1)
    sizes = [784, 300, 100, 10]
    operations = [
        Operation(name="images", kind=OperationKind.INPUT, output_shape=(1, 28, 28)),
        Operation(name="flatten", kind=OperationKind.FLATTEN, inputs=("images",), output_shape=(784,)),
    ]
    for i in (1, 2, 3):
        weight = rng.normal(size=(sizes[i], sizes[i - 1])).astype(np.float32)
        bias, last = rng.normal(size=sizes[i]).astype(np.float32), operations[-1].name
        shape = (sizes[i],)
        operations.append(
            Operation(
                name=f"ip{i}", kind=OperationKind.LINEAR, inputs=(last,), weight=weight, bias=bias, output_shape=shape
            )
        )
        if i < 3:
            operations.append(
                Operation(
                    name=f"relu_{i}",
                    kind=OperationKind.ACTIVATION,
                    inputs=(f"ip{i}",),
                    output_shape=shape,
                    attributes={"function": "relu"},
                )
            )
    return Network(name="lenet-300-100", operations=tuple(operations))


def test_small_networks_have_small_headers() -> None:
    """At most 600 bytes of a LeNet-300-100's file are not its layers' own; its graph and results take under 100."""
    packed = dchw.compress(lenet_300_100(), dchw.Recipe(density=0.02, codebook_bits=3))
    results = {"data_set": "mnist", "seed": 2, "dense_error_percent": 1.5, "error_percent": 1.6}
    found = sizes(to_bytes(dataclasses.replace(packed, recipe={"training_recipe": "lenet-300-100"}, results=results)))
    assert found.parts["header"] <= 350
    assert found.description_bytes <= 100
    assert json.dumps(found.rows())


def test_sizes_refuse_bytes_that_dchw_would_not_write() -> None:
    """A code table longer than needed is legal to read, but then the parts would not be the file's."""
    from dchw.container import envelope

    network = compressed({"a": [[1, 0, 0, 0, 2, 2]]}, {"a": Representation(positions=Positions.GAPS, codebook_bits=2)})
    content = envelope.unseal(to_bytes(network))
    tensor = content.tensors["a"].tobytes()
    # gap table: 2 n + r = 9 (r = 1): the plain form has 4 lengths 1 0 0 1
    at = tensor.index(bytes([8]))
    longer = tensor[:at] + bytes([9, 0x01, 0x11]) + tensor[at + 3 :]
    other = envelope.seal(content.description, {"a": np.frombuffer(longer, np.uint8)})
    assert parse(other).layer("a").codes.tolist() == [[1, 0, 0, 0, 2, 2]]
    with pytest.raises(DchwError, match="layer 'a': expected the bytes that dchw writes; got others"):
        sizes(other)


def test_graph_of_keeps_shapes() -> None:
    network = graph_of_everything()
    assert [layer.weight.shape for layer in graph_of(network).layers] == [
        layer.weight.shape for layer in network.layers
    ]


def test_the_pages_on_the_file_list_what_is_written_in_its_order() -> None:
    packed = compressed({"a": [[0, 1], [1, 0]]}, {"a": Representation()}, recipe={"seed": 3}, results={"error": 0.5})
    left_out, first = (LeftOut(name="b", parameters=7, reason="not read"),), packed.graph.operations[0].name
    graph = dataclasses.replace(
        packed.graph,
        notes=("noted",),
        number_format="int8",
        left_out=left_out,
        inner_outputs=(first,),
    )
    written = envelope.unseal(to_bytes(dataclasses.replace(packed, graph=graph))).description
    parts = {
        "name": "small",
        "recipe": {"seed": 3},
        "results": {"error": 0.5},
        "notes": ["noted"],
        "number_format": "int8",
        "left_out": [["b", 7, "not read"]],
        "inner_outputs": [0],
    }
    for page, values in ((envelope, written), (plain_graph, plain_graph.encode_graph(graph)[0])):
        listed = re.findall(r"``\[(name, .*?)\]``", str(page.__doc__))[0].split(", ")
        found = dict(zip(listed, values, strict=True))
        assert found == {name: parts.get(name, found[name]) for name in listed}
        assert parts.keys() - {"recipe", "results"} <= set(listed)
