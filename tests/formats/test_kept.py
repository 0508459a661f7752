"""Are packed layers of a network shared between runs, within bounds, and never those of another layer?"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest

from dchw.formats import LayerParameters, PackedLayer, PackShape, storage_format
from dchw.formats.packing import stored_runs
from dchw.formats.packing.kept import Kept, KeptPackings
from dchw.mapping.passing import ForwardPass
from dchw.mapping.workload import map_network
from tests.mapping.layers import fully_connected, small_machine

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


def test_what_other_formats_collect_again_is_kept_as_long_as_there_is_room() -> None:
    """A round through all layers finds those that had room; none pushes another out."""
    layers, made = [fully_connected(37, 50, seed=seed).layers[0] for seed in range(4)], []
    kept: Kept[int] = Kept(most_bytes=25)
    for _ in range(2):
        for index, layer in enumerate(layers):
            assert kept.of(layer, "key", lambda index=index: made.append(index) or index, lambda _: 10) == index  # type: ignore[func-returns-value,misc]
    assert made == [0, 1, 2, 3, 2, 3]
    assert kept.bytes == 20
    del layer, layers[0]
    gc.collect()
    assert kept.bytes == 10
    kept.clear()
    assert kept.bytes == 0


def test_runs_are_collected_once_for_all_formats_that_store_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """And anew where nothing else follows, or a shared value is not stored."""
    calls = []
    collected = stored_runs._collected

    def counted(*args: Any, **options: Any) -> stored_runs.CollectedRuns:
        calls.append(options)
        return collected(*args, **options)

    monkeypatch.setattr(stored_runs, "_collected", counted)
    network, passing = fully_connected(37, 50), ForwardPass()
    network = replace(network, layers=tuple(replace(layer) for layer in network.layers))
    for storage in ("csr", "relative", "bitmask", "shared", "huffman"):
        map_network(network, small_machine(), storage, passing=passing)
    assert len(calls) == 1
    for storage in ("shared", "bitmask"):
        map_network(network, small_machine(), storage)
    assert len(calls) == 1  # of layouts that are kept nothing is collected
    assert stored_runs._COLLECTED.bytes == 0


def test_a_layer_too_large_to_be_kept_is_packed_every_time() -> None:
    form, parameters = storage_format("dense-int8"), LayerParameters(has_bias=True)
    layer, kept = fully_connected(37, 50).layers[0], KeptPackings(most_bytes=100)
    one, other = (
        kept.get(layer, form, SHAPE, parameters, lambda: form.lay_out(layer, SHAPE, parameters)) for _ in "ab"
    )
    assert one is not other
    assert kept.bytes == 0
