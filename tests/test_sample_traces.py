"""Do the traces that ship still replay, and move the bytes that their runs moved?"""

from __future__ import annotations

from pathlib import Path

import pytest

import dchw
from dchw.traces import read_trace

FOLDER = Path(__file__).parents[1] / "traces"


@pytest.mark.parametrize("path", sorted(p for p in FOLDER.iterdir() if p.suffix != ".md"), ids=lambda p: p.name)
def test_a_sample_replays(path: Path) -> None:
    result = dchw.replay(path, "LPDDR5X-8533")
    asked = sum(int(part.size_bytes.sum()) for part in read_trace(path))
    assert result.bursts * 32 == asked
    assert result.cycles > 0


@pytest.mark.parametrize(("name", "storage"), [("dense_int8", "dense-int8"), ("huffman", "huffman")])
def test_a_sample_is_what_the_run_asks_for_today(name: str, storage: str) -> None:
    network = dchw.load_network(str(FOLDER.parent / "models" / "lenet_300_100.dchw"))
    result = dchw.simulate(network, "phone-lpddr5x", storage)
    sample = list(read_trace(FOLDER / f"lenet_300_100_{name}.parquet"))
    read = sum(int(part.size_bytes[~part.is_write].sum()) for part in sample)
    assert read == result.dram_read_bytes
