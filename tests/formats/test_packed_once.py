"""Is a layer packed once for each format, in the parts in which it is worked or as a whole, in every verb?

What is laid out so that orders of loops can be compared has sizes and no bits. Here every writing of a region is noted
with the output channels of what it belongs to: a layer whose rows are written more often than there are rows was packed
more than once, and one of which fewer are written was not packed.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import dchw
from dchw import formats
from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import CompressedLayer, CompressedNetwork
from dchw.formats import STORAGE_FORMATS, LayerParameters, PackedLayer, PackShape, StorageFormat
from dchw.formats.packing.regions import Unwritten
from dchw.machines.machine import Machine
from dchw.mapping import layer as mapping
from dchw.vocabulary import Stream
from tests.mapping.layers import convolution, fully_connected, small_machine

pytestmark = pytest.mark.compiled
Rows = Counter[tuple[str, str, Stream]]
"""Output channels written, by layer, storage format and stream."""
NETWORKS = {
    "three parts of rows": (fully_connected(48, 50), 16),
    "groups side by side, in parts": (convolution(channels=4, rows=16, groups=4), 4),
    "whole": (convolution(rows=24), 24),
}


def noting(form: StorageFormat, rows: Rows) -> StorageFormat:
    """A format that notes what of it is written."""

    def lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
        packed = form.lay_out(layer, shape, parameters)

        def region(stream: Stream, size: int) -> Unwritten:
            def write() -> Bytes:
                rows[layer.name, form.name, stream] += layer.geometry.out_channels
                return packed.regions[stream]

            return Unwritten(size=size, held=0, write=write)

        return replace(packed, regions={stream: region(stream, size) for stream, size in packed.packed_bytes.items()})

    return replace(form, lay_out=lay_out)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """What is written from here on, of every format."""
    noted: Rows = Counter()
    for form in list(STORAGE_FORMATS.values()):
        monkeypatch.setitem(formats._FORMATS, form.name, noting(form, noted))
    return noted


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[CompressedNetwork, Machine]:
    """A network of one layer, nobody has packed yet, and a machine that works it in so many rows at a time."""
    network, part_rows = NETWORKS[request.param]
    network = replace(network, layers=tuple(replace(layer) for layer in network.layers))
    given = [{"layers": network.layers[0].name, "part_rows": part_rows}]
    return network, small_machine().replace("mapping", given)


def expect_once(rows: Rows, network: CompressedNetwork, storages: list[str], streams: int = 1) -> None:
    """Every row of the layer was written once in every format, in every stream that has bytes."""
    assert {storage for _, storage, _ in rows} == set(storages)
    for (name, storage, stream), written in rows.items():
        layer = next(layer for layer in network.layers if layer.name == name)
        assert written == layer.geometry.out_channels, (storage, stream)
    assert len(rows) >= streams * len(storages)


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
def test_simulate_packs_a_layer_once(case: tuple[CompressedNetwork, Machine], rows: Rows, storage: str) -> None:
    network, target = case
    run = dchw.simulate(network, target, storage)
    expect_once(rows, network, [storage])
    once = dict(rows)
    sizes = [work.packed.packed_bytes for work in run.workload.works(network.layers[0].name)]
    assert set(sizes[0]) == {stream for _, _, stream in once}
    dchw.simulate(network, target.replace("weight_sram.size_bytes", "64 KiB"), storage, seed=1)
    assert dict(rows) == once  # kept for the next run


def test_compare_packs_a_layer_once_for_each_format(case: tuple[CompressedNetwork, Machine], rows: Rows) -> None:
    network, target = case
    table = dchw.compare(network, target)
    expect_once(rows, network, list(table["storage"]))


def test_a_study_packs_a_layer_once_for_each_format(
    case: tuple[CompressedNetwork, Machine], rows: Rows, tmp_path: Path
) -> None:
    network, target = case
    dchw.save(network, tmp_path / "net.dchw")
    (tmp_path / "machine.yaml").write_text(json.dumps(target.dump()), encoding="utf-8")
    (tmp_path / "study.yaml").write_text(
        "networks: [net.dchw]\nmachines: [machine.yaml]\nstorages: [dense-int8, shared, huffman]\n"
        "vary:\n  dma.outstanding: [4, 8]\n  codebook.ports: [2, 4]\n",
        encoding="utf-8",
    )
    frame = dchw.study(tmp_path / "study.yaml").run(tmp_path / "out")
    assert len(frame) == 12
    expect_once(rows, network, ["dense-int8", "shared", "huffman"])


def test_packing_a_whole_layer_to_learn_its_size_is_caught(
    monkeypatch: pytest.MonkeyPatch, case: tuple[CompressedNetwork, Machine], rows: Rows
) -> None:
    network, target = case
    search = mapping.Layers._search

    def wasteful(self: mapping.Layers, layer: CompressedLayer, packed: PackedLayer, *given: object) -> object:
        return search(self, layer, formats.written(packed), *given)  # type: ignore[arg-type]

    monkeypatch.setattr(mapping.Layers, "_search", wasteful)
    dchw.simulate(network, target, "shared")
    written = rows[network.layers[0].name, "shared", Stream.CODES]
    in_parts = len(target.mapping) == 1 and target.mapping[0].part_rows != network.layers[0].geometry.out_channels
    assert written == (1 + in_parts) * network.layers[0].geometry.out_channels
