"""Are packed layers of a network shared between runs, within bounds, and never those of another layer?"""

from __future__ import annotations

import gc
from dataclasses import replace

from dchw.formats import LayerParameters, PackedLayer, PackShape, storage_format
from dchw.formats.packing.kept import KeptPackings
from tests.mapping.layers import fully_connected

SHAPE = PackShape(elements=4, decoders=2)


def test_the_same_layer_is_packed_once_for_each_format_and_shape() -> None:
    kept, layer, made = KeptPackings(), fully_connected(37, 50).layers[0], []

    def get(storage: str, shape: PackShape) -> PackedLayer:
        form, parameters = storage_format(storage), LayerParameters(has_bias=True)

        def pack() -> PackedLayer:
            made.append(storage)
            return form.lay_out(layer, shape, parameters)

        return kept.get(layer, form, shape, parameters, pack)

    first = get("huffman", SHAPE)
    assert get("huffman", replace(SHAPE)) is first
    assert get("shared", SHAPE) is not first
    assert get("huffman", replace(SHAPE, decoders=4)) is not first
    assert made == ["huffman", "shared", "huffman"]


def test_what_is_kept_is_bounded_and_goes_with_its_network() -> None:
    form, parameters = storage_format("dense-int8"), LayerParameters(has_bias=True)
    layers = [fully_connected(37, 50, seed=seed).layers[0] for seed in range(8)]
    size = form.lay_out(layers[0], SHAPE, parameters).total_bytes
    kept = KeptPackings(most_bytes=5 * size)
    for layer in layers:
        kept.get(layer, form, SHAPE, parameters, lambda layer=layer: form.lay_out(layer, SHAPE, parameters))  # type: ignore[misc]
    assert kept.bytes == 5 * size
    del layer, layers[3:]
    gc.collect()
    assert kept.bytes == 0


def test_a_layer_too_large_to_be_kept_is_packed_every_time() -> None:
    form, parameters = storage_format("dense-int8"), LayerParameters(has_bias=True)
    layer, kept = fully_connected(37, 50).layers[0], KeptPackings(most_bytes=100)
    one, other = (
        kept.get(layer, form, SHAPE, parameters, lambda: form.lay_out(layer, SHAPE, parameters)) for _ in "ab"
    )
    assert one is not other
    assert kept.bytes == 0
