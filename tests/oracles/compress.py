"""Compression stages written for reading: bit by bit, weight by weight, every clustering tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from dchw.compression import clustering


def pack_bits(bits: Sequence[int]) -> bytes:
    """Bit i of the stream is bit i % 8 of byte i // 8."""
    data = bytearray(-(-len(bits) // 8))
    for i, bit in enumerate(bits):
        data[i // 8] |= bit << (i % 8)
    return bytes(data)


def unpack_bits(data: Iterable[int]) -> list[int]:
    """All bits of some bytes, in stream order."""
    return [(int(byte) >> bit) & 1 for byte in data for bit in range(8)]


def pack_fixed(values: Sequence[int], bits: int) -> bytes:
    """Fields of ``bits`` bits, lowest bit first."""
    return pack_bits([(int(value) >> bit) & 1 for value in values for bit in range(bits)])


def magnitude_mask(weights: np.ndarray, density: float) -> np.ndarray:
    """The largest magnitudes stay, one after the other, of equal ones the first."""
    flat = [abs(float(w)) for w in weights.reshape(-1)]
    mask = np.zeros(len(flat), dtype=bool)
    for i in sorted(range(len(flat)), key=lambda i: (-flat[i], i))[: round(density * len(flat))]:
        mask[i] = flat[i] != 0
    return mask.reshape(weights.shape)


def entries(positions: Sequence[int], codes: Sequence[int], index_bits: int) -> list[tuple[int, int]]:
    """(gap, code) of one run: a filler while the gap does not fit."""
    largest = 2**index_bits - 1
    result = []
    at = -1
    for position, code in zip(positions, codes, strict=True):
        gap = position - at - 1
        while gap > largest:
            result.append((largest, 0))
            gap -= largest + 1
        result.append((gap, code))
        at = position
    return result


def dense_codes(gaps: Sequence[int], codes: Sequence[int], size: int) -> list[int]:
    """Codes of every weight of a run, walking over the entries."""
    dense = [0] * size
    at = -1
    for gap, code in zip(gaps, codes, strict=True):
        at += int(gap) + 1
        dense[at] = int(code)
    return dense


def escaped(positions: Sequence[int], index_bits: int) -> list[int]:
    """Gap values with escapes, counting zeros one by one."""
    largest = 2**index_bits - 1
    result = []
    at = 0
    for position in positions:
        skipped = 0
        while at < position:
            at += 1
            skipped += 1
            if skipped == largest:
                result.append(largest)
                skipped = 0
        result.append(skipped)
        at += 1
    return result


def optimal_coded_bits(counts: Sequence[int], limit: int) -> int:
    """Fewest bits of any prefix code with words of at most ``limit`` bits: every multiset of lengths is tried.

    By Kraft's inequality lengths are possible exactly when their 2**-length sum to at most 1, and the shortest words
    belong to the most frequent symbols.
    """
    used = sorted((c for c in counts if c), reverse=True)
    if len(used) <= 1:
        return sum(used)
    best = math.inf
    for lengths in itertools.combinations_with_replacement(range(1, limit + 1), len(used)):
        if sum(2 ** (limit - length) for length in lengths) <= 2**limit:
            best = min(best, sum(c * length for c, length in zip(used, lengths, strict=True)))
    return int(best)


def canonical_words(lengths: Sequence[int]) -> dict[int, str]:
    """Code words as text, first bit first: counted up, shorter first, then lower symbol."""
    words = {}
    word = 0
    previous = 0
    for length, symbol in sorted((int(length), symbol) for symbol, length in enumerate(lengths) if length):
        word <<= length - previous
        words[symbol] = format(word, f"0{length}b")
        word += 1
        previous = length
    return words


def huffman_encode(symbols: Sequence[int], lengths: Sequence[int]) -> tuple[bytes, int]:
    """Code words one after the other."""
    words = canonical_words(lengths)
    bits = [int(bit) for symbol in symbols for bit in words[int(symbol)]]
    return pack_bits(bits), len(bits)


def huffman_decode(data: Iterable[int], count: int, lengths: Sequence[int]) -> list[int]:
    """Bit by bit; ValueError says what is wrong with the bits."""
    symbols = {word: symbol for symbol, word in canonical_words(lengths).items()}
    bits = unpack_bits(data)
    at = 0
    result: list[int] = []
    while len(result) < count:
        word = ""
        while word not in symbols:
            if len(word) == 16:
                raise ValueError("unused word")
            if at == len(bits):
                raise ValueError("ended early")
            word += str(bits[at])
            at += 1
        result.append(symbols[word])
    if len(bits) - at >= 8:
        raise ValueError("bytes left")
    if any(bits[at:]):
        raise ValueError("padding")
    return result


def nearest(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Index of the centroid, of ascending ones, that each value is nearest to; on the middle of two, the lower one.

    By the middles in double precision: distances of a value on a middle may round apart.
    """
    return (values[:, None] > (centroids[None, :-1] + centroids[None, 1:]) / 2).sum(axis=1)


def lloyd(values: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """Textbook k-means from ascending centroids: every value anew, empty clusters stay."""
    values = values.astype(np.float64)
    centroids = centroids.astype(np.float64).copy()
    for _ in range(iterations):
        joined = nearest(values, centroids)
        before = centroids.copy()
        for j in range(centroids.size):
            if (joined == j).any():
                centroids[j] = values[joined == j].mean()
        if (centroids == before).all():
            break
    return centroids


def lloyd_of_sorted(
    values: np.ndarray, shift: float, sums: np.ndarray, centroids: np.ndarray, iterations: int
) -> np.ndarray:
    """The edges of Lloyd's iterations on sorted values: sought among all of them, sums from the start of each block.

    Updates ``centroids``.
    """
    edges = np.zeros(0, np.int64)
    for iteration in range(iterations + 1):
        limits = (centroids[:-1] + centroids[1:]) / 2
        inner = np.searchsorted(values.astype(np.float64), limits, side="right")
        found = np.concatenate([[0], np.maximum.accumulate(inner), [values.size]])
        if iteration == iterations or np.array_equal(found, edges):
            return found
        edges = found
        before = clustering.sums_before(values, shift, sums, edges)[0]
        for j, (low, high) in enumerate(itertools.pairwise(edges)):
            if high > low:
                centroids[j] = shift + (before[j + 1] - before[j]) / (high - low)
    raise AssertionError("unreachable")


def least_squared_errors(values: np.ndarray, clusters: int) -> list[float]:
    """The errors that a best clustering of few numbers can have: sums straight from the values, over all edges.

    One number, the k-means optimum, but for the rule that no shared value is 0: a cluster whose mean is 0 takes its
    member of least magnitude, s, instead, and its n members err by n s^2 more. Clusterings are compared by their means;
    where one with such a cluster is as good as one without, either may be found.
    """
    ordered = np.sort(values.astype(np.float64))
    n = ordered.size
    before, behind = _least_costs(ordered, clusters), _least_costs(-ordered[::-1], clusters)[:, ::-1]
    least = before[clusters, n]
    without = _least_costs(ordered, clusters, of_mean_0=np.inf)[clusters, n]
    found = [float(without)] if np.isclose(without, least, rtol=1e-9, atol=1e-12) else []
    for i in range(n):
        for j in range(i + 1, n + 1):
            part = ordered[i:j]
            if part.sum() == 0:
                rest = min(before[k, i] + behind[clusters - 1 - k, j] for k in range(clusters))
                if np.isclose(rest + (part**2).sum(), least, rtol=1e-9, atol=1e-12):
                    found.append(float(least + part.size * np.abs(part).min() ** 2))
    return found


def _least_costs(ordered: np.ndarray, clusters: int, of_mean_0: float = 0.0) -> np.ndarray:
    """[k, j]: the least error of the first j values in up to k clusters, O(k n^2); plus ``of_mean_0`` for each cluster
    of that mean."""
    n = ordered.size
    cost = np.zeros((n + 1, n + 1))
    for i in range(n):
        for j in range(i + 1, n + 1):
            part = ordered[i:j]
            cost[i, j] = ((part - part.mean()) ** 2).sum() + (of_mean_0 if part.sum() == 0 else 0.0)
    best = np.full((clusters + 1, n + 1), np.inf)
    best[0, 0] = 0.0
    for k in range(1, clusters + 1):
        best[k] = [min(best[k - 1, i] + cost[i, j] for i in range(j + 1)) for j in range(n + 1)]
    return best
