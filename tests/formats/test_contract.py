"""Does a format that only this file knows pass every verb and report, without a line changed elsewhere?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dchw
from dchw import formats
from dchw.compression.compressed import CompressedLayer
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast_engine
from dchw.formats import (
    DenseWeights,
    Entries,
    LayerParameters,
    Need,
    PackedLayer,
    PackShape,
    StorageFormat,
    register_format,
)
from dchw.formats.packing.codebook import encode_codebook, look_up, read_codebook
from dchw.formats.packing.every_weight import assemble_columns, codes_by_job, job_bounds, values_by_row
from dchw.formats.packing.fields import pack_fields
from dchw.formats.packing.file_bytes import array_file
from dchw.formats.packing.packed import decode_bias, region
from dchw.formats.packing.run_layout import run_layout
from dchw.formats.packing.sparse import assemble, check_rows, constant_bits, entries_of, read_fields, stored_chunks
from dchw.formats.packing.stored_runs import stored_runs
from dchw.graph import forward
from dchw.lowering.lower import lower
from dchw.mapping.workload import map_network
from dchw.quantities import DchwError
from dchw.reports import write_report
from dchw.run.bounds import run_bound
from dchw.vocabulary import Event, Stream
from tests.mapping.layers import convolution, fully_connected, small_machine

NETWORKS = {"fc": fully_connected(37, 50), "conv": convolution(), "grouped": convolution(channels=4, rows=8, groups=2)}


def _pack_bytes(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    layout = run_layout(layer.geometry, shape)
    bounds = job_bounds(layout, 8 * layout.rows)
    codes = codes_by_job(layer.matrix_codes, layer.codebook.size, layout).astype(np.uint8).ravel()
    return assemble_columns(
        layer,
        BYTES.name,
        shape,
        replace(parameters, codebook_values=layer.codebook.size - 1),
        bounds,
        (Stream.CODES, codes, bounds * layout.rows),
        encode_codebook(layer, parameters),
    )


def _unpack_bytes(packed: PackedLayer) -> DenseWeights:
    layout = run_layout(packed.geometry, packed.shape)
    codes = region(packed, Stream.CODES)
    matrix = values_by_row(codes, read_codebook(packed, codes), layout)
    return DenseWeights(geometry=packed.geometry, matrix=matrix, bias=decode_bias(packed))


BYTES = StorageFormat(
    name="test-bytes",
    summary="a byte for every weight",
    positions=False,
    needs=frozenset({Need.CODEBOOK}),
    values=Stream.CODES,
    lay_out=_pack_bytes,
    unpack=_unpack_bytes,
    entry_bits=lambda packed: 8,
    file_bytes=array_file(lambda layer: layer.codes.size),
)


def _pack_pairs(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    runs = stored_runs(layer, shape, index_bits=0, coded=True)
    return assemble(
        layer,
        PAIRS.name,
        shape,
        replace(parameters, codebook_values=layer.codebook.size - 1),
        runs,
        positions=pack_fields(runs.row, runs.chunk_entries, 12),
        values=(Stream.CODES, *pack_fields(runs.code, runs.chunk_entries, 4)),
        tables=encode_codebook(layer, parameters),
    )


def _unpack_pairs(packed: PackedLayer) -> Entries:
    chunks = stored_chunks(packed)
    code = read_fields(packed, Stream.CODES, chunks, 4).astype(np.uint16)
    return entries_of(
        packed,
        chunks,
        row=check_rows(packed, chunks, read_fields(packed, Stream.GAPS, chunks, 12)),
        value=look_up(packed, code),
        code=code,
        is_filler=np.zeros(code.size, np.bool_),
        gap_bits=constant_bits(12, code.size),
        code_bits=constant_bits(4, code.size),
    )


PAIRS = StorageFormat(
    name="test-pairs",
    summary="rows of 12 bits and codes of 4",
    positions=True,
    needs=frozenset({Need.CODEBOOK, Need.INDEX}),
    values=Stream.CODES,
    lay_out=_pack_pairs,
    unpack=_unpack_pairs,
    entry_bits=lambda packed: 16,
    file_bytes=array_file(lambda layer: 2 * layer.nonzeros),
    run_regions=frozenset({Stream.POINTERS}),
)


@pytest.fixture(params=[BYTES, PAIRS], ids=lambda form: form.name)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageFormat]:
    known = dict(formats._FORMATS)
    register_format(request.param)
    yield request.param
    formats._FORMATS.clear()
    formats._FORMATS.update(known)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_new_format_computes_what_its_weights_say(form: StorageFormat, name: str) -> None:
    result = dchw.simulate(NETWORKS[name], small_machine(), form.name)
    expected = forward.forward(NETWORKS[name].decompress())
    for output, values in result.outputs.items():
        np.testing.assert_allclose(values, expected[output], atol=1e-5 * np.abs(expected[output]).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_engines_agree_on_a_new_format(form: StorageFormat, name: str) -> None:
    program = lower(map_network(NETWORKS[name], small_machine(), form.name))
    assert first_difference(fast_engine.run(program, record=True), reference.run(program, record=True), program) is None


def test_a_new_format_is_a_row_of_a_comparison_and_of_its_report(form: StorageFormat, tmp_path: Path) -> None:
    network, target = NETWORKS["fc"], small_machine()
    results: dict[str, dchw.SimResult] = {}
    frame = dchw.compare(network, target, on_result=results.__setitem__)
    row = frame.set_index("storage").loc[form.name]
    assert row["file_bytes"] == form.file_bytes(network)
    assert row["packed_bytes"] == results[form.name].workload.packed_bytes
    path = tmp_path / "report.html"
    write_report(path, network, target, results, frame, command="dchw compare")
    assert form.name in path.read_text(encoding="utf-8")


def test_what_a_new_format_needs_is_counted_and_priced(form: StorageFormat) -> None:
    result = dchw.simulate(NETWORKS["fc"], small_machine(), form.name)
    work = result.workload.stages[0].layer
    active = work.activity[0] > 0
    used = int(active[work.entries.job].sum()) if form.positions else int(active.sum()) * work.rows
    counted = {(count.unit, count.event): count.count for count in result.counts}
    assert counted["codebook", Event.CODEBOOK_LOOKUP] == used
    assert counted.get(("pe_array", Event.INDEX_ACCUMULATE), 0) == used * (Need.INDEX in form.needs)
    costs = {(row.unit, row.event) for row in result.costs.rows}
    assert ("codebook", Event.CODEBOOK_LOOKUP) in costs
    assert ("codebook", "leakage") in costs


def test_a_name_is_taken_once(form: StorageFormat) -> None:
    with pytest.raises(DchwError, match="expected a new name; got one that is taken"):
        register_format(form)


def test_nobody_outside_this_folder_compares_with_the_name_of_a_format() -> None:
    package = Path(formats.__file__).parents[1]
    for path in package.rglob("*.py"):
        # training has a stage of the name "shared"
        if not any(path.is_relative_to(package / part) for part in ("formats", "training")):
            assert compared_names(path.read_text(encoding="utf-8")) == [], path


def compared_names(source: str) -> list[str]:
    compared = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare)]
    sides = [side for node in compared for side in (node.left, *node.comparators)]
    return [str(x.value) for x in sides if isinstance(x, ast.Constant) and x.value in list(formats.STORAGE_FORMATS)]


def test_a_compared_name_is_caught() -> None:
    assert compared_names('if workload.storage == "huffman": pass') == ["huffman"]


def palette_layer(size: int) -> dchw.CompressedNetwork:
    """Nothing pruned, 15 shared values."""
    rng = np.random.default_rng(0)
    weights = {"fc": rng.standard_normal((size, size), dtype=np.float32)}
    inputs = {"fc": rng.random((1, size), dtype=np.float32) + np.float32(0.1)}
    network = dchw.Network.from_arrays("fc", weights, inputs=inputs)
    return dchw.compress(network, dchw.Recipe(codebook_bits=4, index_bits=4))


@pytest.mark.compiled
def test_a_palette_reads_its_codes_and_is_held_up_by_codebook_ports_alone() -> None:
    """1,024 x 1,024 weights of 4 bits on the phone: 64 elements of a look-up a cycle take 16 cycles a column."""
    network, phone = palette_layer(1024), dchw.machine("phone-lpddr5x")
    default = dchw.simulate(network, phone, "palette")
    assert default.dram_read_bytes * 8 / 1024**2 <= 4.1
    assert run_bound(default.workload, default.program, default.timing).bound_by == "codebook"
    assert 16_384 < default.cycles < 16_384 * 1.1
    wide = dchw.simulate(network, phone.replace("codebook.ports", 4), "palette")
    # the bus decides then, and four bits are half of eight
    assert run_bound(wide.workload, wide.program, wide.timing).bound_by == "dram"
    ratio = wide.cycles / dchw.simulate(network, phone, "dense-int8").cycles
    assert 0.48 < ratio < 0.6
