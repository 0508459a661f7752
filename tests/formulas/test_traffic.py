"""Is the traffic of every storage format its closed form: entries times their bits, in whole bursts, once?"""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.compression.huffman import code_lengths
from dchw.formats import STORAGE_FORMATS
from dchw.vocabulary import Stream
from tests.formulas.layers import machine_with, product, random_codes

ROWS, COLUMNS, BURST = 64, 512, 32
CODES = random_codes(ROWS, COLUMNS, 0.3)
MACHINE = machine_with({"bytes_per_cycle": 8}, pe_array__also_multiplies=["int8xint8->int32"])
WEIGHTS, NONZEROS = ROWS * COLUMNS, int(np.count_nonzero(CODES))
ELEMENTS = 4
"""Of the machine; row r of a column lies in the run of element r mod 4."""


ZERO_VALUE = 8
"""The code whose shared value is 0: formats of uncoded values do not store it."""


def gaps(codes: np.ndarray = CODES) -> list[int]:
    """Zeros before every entry of a run, fillers of 15 among them."""
    found = []
    for column in codes.T:
        for element in range(ELEMENTS):
            last = -1
            for position in np.flatnonzero(column[element::ELEMENTS]):
                zeros = int(position) - last - 1
                found += [15] * (zeros // 16) + [zeros % 16]
                last = int(position)
    return found


VALUES = np.where(CODES == ZERO_VALUE, 0, CODES)


def coded_bits(symbols: list[int]) -> int:
    """Bits of a Huffman code of its own for these symbols, no code longer than 12."""
    counts = np.bincount(symbols)
    lengths = code_lengths(counts, 12)
    return int((counts * np.asarray(lengths, np.int64)).sum())


def closed_form(storage: str) -> dict[Stream, int]:
    """Bits of the streams that grow with the weights."""
    dense = {"dense-fp32": 32, "dense-fp16": 16, "dense-int8": 8}
    entries = gaps()
    stored = [int(code) for code in CODES.T.ravel() if code]
    # fillers have code 0
    codes = stored + [0] * (len(entries) - NONZEROS)
    match storage:
        case "dense-fp32" | "dense-fp16" | "dense-int8":
            return {Stream.WEIGHTS: dense[storage] * WEIGHTS}
        case "palette":
            return {Stream.CODES: 4 * WEIGHTS}
        case "palette-huffman":
            return {Stream.CODES: coded_bits([int(code) for code in CODES.ravel()])}
        case "bitmask":
            return {Stream.CODES: 4 * NONZEROS, Stream.GAPS: WEIGHTS}
        case "csr":
            kept = int(np.count_nonzero(VALUES))
            return {Stream.WEIGHTS: 32 * kept, Stream.GAPS: 32 * kept}
        case "relative":
            return {Stream.WEIGHTS: 32 * len(gaps(VALUES)), Stream.GAPS: 4 * len(gaps(VALUES))}
        case "shared":
            return {Stream.CODES: 4 * len(entries), Stream.GAPS: 4 * len(entries)}
        case _:
            return {Stream.CODES: coded_bits(codes)}


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
def test_what_crosses_is_entries_times_bits_in_whole_bursts(storage: str) -> None:
    run = dchw.simulate(product(CODES), MACHINE, storage)
    frame = run.streams_frame().set_index("stream")
    chunks = run.workload.stages[0].layer.packed.chunks
    for stream, bits in closed_form(storage).items():
        packed = int(frame.loc[stream.value, "packed_bytes"])
        # a chunk starts at a byte
        assert bits / 8 <= packed <= bits / 8 + chunks, stream
        assert packed <= frame.loc[stream.value, "dram_read_bytes"] < packed + BURST
    value_bytes = 1 if storage.endswith("int8") else 2
    assert frame.loc["activations", "dram_read_bytes"] == COLUMNS * value_bytes
    assert frame.loc["outputs", "dram_write_bytes"] == ROWS * value_bytes
    assert int(frame["dram_read_bytes"].sum()) == run.dram_read_bytes
    # everything once: no more than a burst a stream beyond what is packed, and the input
    read = run.dram_read_bytes - COLUMNS * value_bytes
    assert abs(read - run.workload.packed_bytes) < BURST * len(frame)


@pytest.mark.parametrize(("inputs", "outputs", "megacycles"), [(9216, 4096, 4.72), (4096, 4096, 2.10)])
@pytest.mark.slow
def test_dense_layers_of_alexnet_stream_their_weights(inputs: int, outputs: int, megacycles: float) -> None:
    """fc6 and fc7 as bytes at 8 B a cycle."""
    rng = np.random.default_rng(0)
    network = product(rng.integers(1, 16, (outputs, inputs), dtype=np.uint8))
    target = machine_with(
        {"bytes_per_cycle": 8},
        pe_array__also_multiplies=["int8xint8->int32"],
        pe_array__elements=64,
        pe_array__lanes=16,
        weight_sram__size_bytes="512 KiB",
        weight_sram__banks=16,
        huffman__units=16,
        activation_sram__size_bytes="512 KiB",
        activation_sram__banks=8,
    )
    run = dchw.simulate(network, target, "dense-int8")
    assert run.cycles / 1e6 == pytest.approx(megacycles, rel=0.005)
    assert run.cycles >= inputs * outputs / 8


def test_rows_beyond_4096_are_worked_in_passes_on_eie() -> None:
    """EIE has 64 accumulators an element: 5,000 rows are two parts, each of which is broadcast its inputs."""
    network = product(random_codes(5000, 48, 0.2))
    run = dchw.simulate(network, "eie-64pe-45nm", "shared", warm=True)
    parts = [stage.layer.rows for stage in run.workload.stages]
    assert sum(parts) == 5000
    assert len(parts) == 2
    assert max(parts) <= 64 * 64
