"""Are packed layers of a network shared between runs, within bounds, and never those of another layer?"""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest

import dchw
from dchw import formats
from dchw.compression.compressed import CompressedLayer, CompressedNetwork
from dchw.formats import LayerParameters, PackedLayer, PackShape, storage_format
from dchw.formats.packing.kept import KeptPackings
from dchw.mapping.workload import map_network
from tests.mapping.layers import convolution, fully_connected, small_machine

SHAPE = PackShape(elements=4, decoders=2)


def test_the_same_layer_is_packed_once_for_each_format_and_shape() -> None:
    kept, layer, made = KeptPackings(), fully_connected(37, 50).layers[0], []

    def get(storage: str, shape: PackShape) -> PackedLayer:
        form, parameters = storage_format(storage), LayerParameters(has_bias=True)

        def pack() -> PackedLayer:
            made.append(storage)
            return form.pack(layer, shape, parameters)

        return kept.get(layer, form, shape, parameters, pack)

    first = get("huffman", SHAPE)
    assert get("huffman", replace(SHAPE)) is first
    assert get("shared", SHAPE) is not first
    assert get("huffman", replace(SHAPE, decoders=4)) is not first
    assert made == ["huffman", "shared", "huffman"]


def test_what_is_kept_is_bounded_and_goes_with_its_network() -> None:
    form, parameters = storage_format("dense-int8"), LayerParameters(has_bias=True)
    layers = [fully_connected(37, 50, seed=seed).layers[0] for seed in range(8)]
    size = form.pack(layers[0], SHAPE, parameters).total_bytes
    kept = KeptPackings(most_bytes=5 * size)
    for layer in layers:
        kept.get(layer, form, SHAPE, parameters, lambda layer=layer: form.pack(layer, SHAPE, parameters))  # type: ignore[misc]
    assert kept.bytes == 5 * size
    del layer, layers[3:]
    gc.collect()
    assert kept.bytes == 0


def test_a_layer_too_large_to_be_kept_is_packed_every_time() -> None:
    form, parameters = storage_format("dense-int8"), LayerParameters(has_bias=True)
    layer, kept = fully_connected(37, 50).layers[0], KeptPackings(most_bytes=100)
    one, other = (kept.get(layer, form, SHAPE, parameters, lambda: form.pack(layer, SHAPE, parameters)) for _ in "ab")
    assert one is not other
    assert kept.bytes == 0


@pytest.mark.parametrize(
    ("network", "rows"),
    [(fully_connected(48, 50), 16), (convolution(channels=4, rows=16, groups=4), 4), (convolution(rows=24), 24)],
    ids=["three parts of rows", "groups side by side, in parts", "whole"],
)
def test_a_layer_in_parts_is_packed_once_however_often_it_is_mapped(
    monkeypatch: pytest.MonkeyPatch, network: CompressedNetwork, rows: int
) -> None:
    """As a whole, from which its parts follow, and every part; reused with other inputs, batches and buffers."""
    form, packed = storage_format("shared"), []

    def pack(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
        packed.append(layer.geometry.out_channels)
        return form.pack(layer, shape, parameters)

    monkeypatch.setitem(formats._FORMATS, "shared", replace(form, pack=pack))
    name, whole = network.layers[0].name, network.layers[0].geometry.out_channels
    target = small_machine().replace("mapping", [{"layers": name, "part_rows": rows}])
    first = map_network(network, target, "shared")
    parts = [rows] * (whole // rows) if rows < whole else []
    assert packed == [whole, *parts]
    again = map_network(network, target.replace("weight_sram.size_bytes", "64 KiB"), "shared", seed=1)
    assert packed == [whole, *parts]
    assert [stage.layer.packed for stage in again.stages] == [stage.layer.packed for stage in first.stages]
    assert dchw.simulate(network, target, "shared").workload.packed_bytes == first.packed_bytes
