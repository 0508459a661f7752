"""Huffman coding against zstandard, constriction and dahuffman in one process, on alphabets of 4 to 8 bits.

Run: ``python -m pytest tests/benchmarks/bench_codecs.py -s -p no:cacheprovider --override-ini addopts=``.

Symbols are independent draws, so there is nothing to match. zstd is asked for its entropy stage alone: strategy
``fast`` with matches of at least 7 symbols and a hash table of 64 slots finds none, so every block is literals under
huff0 (four streams, its limit is 11 bits). Times are processor time of this one thread, the least of several calls that
take turns, so that a busy machine slows all alike; each call includes tables, buffers and checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dchw.compression import huffman

zstandard = pytest.importorskip("zstandard")
constriction = pytest.importorskip("constriction")
dahuffman = pytest.importorskip("dahuffman")

SYMBOLS = 8_000_000
SLOW_SYMBOLS = 100_000  # for codecs that take a microsecond a symbol
CHUNK = 4096
ROUNDS = 15


def draw(alphabet: int, kind: str) -> np.ndarray:
    """Symbols uint8: codes of Gaussian weights under linear centroids, or gaps (geometric)."""
    at = np.arange(alphabet)
    shares = np.exp(-0.5 * ((at - alphabet / 2) / (alphabet / 6)) ** 2) if kind == "codes" else 0.8**at
    return np.random.default_rng(0).choice(alphabet, SYMBOLS, p=shares / shares.sum()).astype(np.uint8)


def least_seconds(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The shortest time of each call, the calls taking turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


@pytest.mark.parametrize(
    ("bits", "kind"), [(4, "codes"), (4, "gaps"), (5, "codes"), (5, "gaps"), (6, "codes"), (8, "codes")]
)
def test_codecs(bits: int, kind: str, benchmark: Any) -> None:
    """One line: bits per symbol, Msymbol/s of each codec, and the ratios to zstd."""
    symbols = draw(1 << bits, kind)
    lengths = huffman.code_lengths(np.bincount(symbols, minlength=1 << bits), 12)
    offsets = np.append(np.arange(0, symbols.size, CHUNK), symbols.size)
    data, byte_offsets = huffman.encode_chunks(symbols, offsets, lengths)
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, window_log=17, hash_log=6, chain_log=6, search_log=1, min_match=7
    )
    compressor, decompressor = zstandard.ZstdCompressor(compression_params=parameters), zstandard.ZstdDecompressor()
    raw = symbols.tobytes()
    packed = compressor.compress(raw)
    fast = least_seconds(
        {
            "dchw encode": lambda: huffman.encode_chunks(symbols, offsets, lengths),
            "zstd encode": lambda: compressor.compress(raw),
            "dchw decode": lambda: huffman.decode_chunks(data, byte_offsets, offsets, lengths),
            "zstd decode": lambda: decompressor.decompress(packed),
        },
        ROUNDS,
    )
    assert (huffman.decode_chunks(data, byte_offsets, offsets, lengths) == symbols).all()

    few = symbols[:SLOW_SYMBOLS].astype(np.int32)
    probabilities = np.bincount(symbols, minlength=1 << bits) / symbols.size
    encoder_tree = constriction.symbol.huffman.EncoderHuffmanTree(np.maximum(probabilities, 1e-9).astype(np.float32))
    decoder_tree = constriction.symbol.huffman.DecoderHuffmanTree(np.maximum(probabilities, 1e-9).astype(np.float32))
    listed = few.tolist()
    python_codec = dahuffman.HuffmanCodec.from_frequencies(
        dict(enumerate(np.maximum(np.bincount(symbols, minlength=1 << bits), 1)))
    )

    def constriction_encode() -> Any:
        coder = constriction.symbol.QueueEncoder()
        for symbol in listed:
            coder.encode_symbol(symbol, encoder_tree)
        return coder.get_compressed()

    words = constriction_encode()[0]
    text = python_codec.encode(listed)

    def constriction_decode() -> list[int]:
        coder = constriction.symbol.QueueDecoder(words)
        return [coder.decode_symbol(decoder_tree) for _ in listed]

    assert constriction_decode() == listed
    assert python_codec.decode(text) == listed
    slow = least_seconds(
        {
            "constriction encode": constriction_encode,
            "constriction decode": constriction_decode,
            "dahuffman encode": lambda: python_codec.encode(listed),
            "dahuffman decode": lambda: python_codec.decode(text),
        },
        2,
    )
    rates = {name: SYMBOLS / seconds / 1e6 for name, seconds in fast.items()}
    rates |= {name: SLOW_SYMBOLS / seconds / 1e6 for name, seconds in slow.items()}
    print(
        f"\n{bits}-bit {kind}: {data.size * 8 / SYMBOLS:.3f} bits/symbol (zstd {len(packed) * 8 / SYMBOLS:.3f}); "
        "Msymbol/s "
        + ", ".join(f"{name} {rate:.3g}" if rate < 10 else f"{name} {rate:.0f}" for name, rate in rates.items())
        + f"; to zstd: encode x{rates['dchw encode'] / rates['zstd encode']:.2f}, "
        f"decode x{rates['dchw decode'] / rates['zstd decode']:.2f}"
    )
    benchmark.pedantic(lambda: huffman.decode_chunks(data, byte_offsets, offsets, lengths), rounds=5)
