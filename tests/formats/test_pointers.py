"""What is stored where no pointers are, what that saves, and what column starts cost where columns are skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dchw
from dchw.formats import Entries, PackShape, pack, unpack
from dchw.formats.packing.run_layout import Pointers
from dchw.vocabulary import Event, Stream
from tests.formats.layers import layer_of
from tests.mapping.layers import fully_connected, small_machine

MODELS = Path(__file__).parents[2] / "models"


def test_gaps_run_on_from_column_to_column() -> None:
    """Two PEs of one decode unit, 1-bit gaps, no code limit worth a name; PE 0 owns rows 0 and 2, PE 1 row 1.

    Places, column by column: PE 0's rows 0 and 2, then PE 1's row 1. Column 0 holds 1 at row 0; column 1 nothing;
    column 2 holds 2 at row 1: places 0 and 8. The gap of seven zeros takes fillers at places 2, 4 and 6 (1-bit gaps
    skip one each) with a gap of 1 left, or one gap of 3 bits: the packer chooses the width with the fewest bits.
    """
    codes = [[1, 0, 0], [0, 0, 2], [0, 0, 0]]
    layer = layer_of(codes, index_bits=1, codebook_bits=2, codebook=[0, 0.5, -1.5, 2])
    packed = pack(layer, "huffman", PackShape(elements=2, decoders=1, pointers=Pointers.MADE))
    assert Stream.POINTERS not in packed.regions
    entries = unpack(packed)
    assert isinstance(entries, Entries)
    stored = ~entries.is_filler
    assert entries.row[stored].tolist() == [0, 1]
    assert entries.job[stored].tolist() == [0, 2]
    assert entries.value[stored].tolist() == [0.5, -1.5]
    # fillers, if any, lie on the runs of the places they skip to
    assert entries.run_count.sum() == packed.entries == entries.row.size
    # job 0 on PE 0 and PE 1, then jobs 1 and 2
    assert entries.run_job.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("name", "most"), [("lenet_300_100", 28_000), ("lenet_5", 46_000), ("lenet_300_100_frontier", 9_500),
                       ("lenet_5_frontier", 14_500)]
)  # fmt: skip
def test_shipped_networks_move_little_more_than_they_store(name: str, most: int) -> None:
    run = dchw.simulate(dchw.load(MODELS / f"{name}.dchw"), "phone-lpddr5x")
    assert Stream.POINTERS not in run.stream_bytes()
    assert run.dram_read_bytes <= most


@pytest.mark.compiled
def test_a_large_layer_is_its_entries_and_its_tables() -> None:
    """4,096 x 4,096 weights at 9 %: padding is the only thing beyond entropy-coded entries and tables, below 3 %."""
    rng = np.random.default_rng(0)
    codes = np.where(rng.random((4096, 4096)) < 0.09, rng.integers(1, 16, (4096, 4096)), 0).astype(np.uint8)
    layer = layer_of(codes, index_bits=4, codebook_bits=4)
    packed = pack(layer, "huffman", PackShape(elements=64, decoders=32, chunk_entries=256, pointers=Pointers.MADE))
    entries = unpack(packed)
    assert isinstance(entries, Entries)
    words = (int(entries.gap_bits.sum(dtype=np.int64)) + int(entries.code_bits.sum(dtype=np.int64))) / 8
    tables = sum(size for stream, size in packed.packed_bytes.items() if stream not in packed.chunk_bytes)
    assert packed.total_bytes <= 1.03 * (words + tables)
    stored = pack(layer, "huffman", PackShape(elements=64, decoders=32, chunk_entries=256))
    assert packed.total_bytes < 0.9 * stored.total_bytes


def test_column_starts_cost_sram_where_entries_are_decoded_at_load_and_columns_skipped() -> None:
    network = fully_connected(37, 50)
    found = {}
    for pointers in Pointers:
        target = small_machine(pointers=pointers.value, huffman__placement="load", weight_sram__size_bytes="16 KiB")
        run = dchw.simulate(network, target, "huffman")
        found[pointers] = {
            count.event: count.count
            for count in run.counts
            if count.unit == "weight_sram" and count.stream is Stream.POINTERS
        }
    work = dchw.simulate(network, small_machine(), "huffman").workload.stages[0].layer
    words = -(-work.starts_bits // 64)
    assert words > 0
    assert found[Pointers.MADE] == {Event.SRAM_WRITE: words, Event.SRAM_READ: words}
    assert found[Pointers.STORED][Event.SRAM_READ] > 0  # from DRAM


def test_a_machine_that_decodes_at_use_needs_no_column_starts() -> None:
    run = dchw.simulate(fully_connected(37, 50), small_machine(), "huffman")
    assert not any(count.stream is Stream.POINTERS for count in run.counts)


@pytest.mark.compiled
def test_what_crosses_the_dram_is_explained_stream_by_stream() -> None:
    """Packed bytes are once everything; what was read beyond them are ends of bursts and passes that read again."""
    run = dchw.simulate(dchw.load(MODELS / "lenet_300_100.dchw"), "phone-lpddr5x")
    frame = run.streams_frame().set_index("stream")
    assert frame["packed_bytes"].sum() == run.workload.packed_bytes
    assert frame["dram_read_bytes"].sum() == run.dram_read_bytes
    assert frame["dram_write_bytes"].sum() == run.dram_write_bytes
    weights = frame[frame["packed_bytes"] > 0]
    beyond = weights["dram_read_bytes"] - weights["packed_bytes"]
    assert (weights["again_bytes"] == beyond.clip(lower=0)).all()
    # three layers, bursts of 32 bytes: less than a burst for each region; one that two tables share is the first one's
    assert (beyond.abs() < 3 * 32).all()
    assert 0 <= beyond.sum() < 3 * 3 * 32  # codes, gaps, and all tables together
    assert (beyond[["codes", "gaps"]] >= 0).all()
    assert set(frame.index) - set(weights.index) == {"activations", "outputs"}


def test_eie_stores_its_pointers() -> None:
    assert dchw.machine("eie-64pe-45nm").pointers is Pointers.STORED
    assert dchw.machine("phone-lpddr5x").pointers is Pointers.MADE
