"""One-dimensional k-means on sorted values: sums of any range, exact Lloyd iterations, and the optimum by dynamic
programming.

Clusters of numbers are ranges of the sorted values, so a clustering is its edges: cluster j holds
``values[edges[j]:edges[j + 1]]``. Sums are kept per block of values, relative to a shift near the middle, in double
precision; the sum of a range costs its partial blocks only, and where many sums are asked for, a few values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Uint32s = npt.NDArray[np.uint32]

_BLOCK = 256
_MARK = 16  # values from one running sum that is kept to the next; divides a block
_DIGIT_BITS, _DIGITS = 11, 3
_DIGIT = np.uint32((1 << _DIGIT_BITS) - 1)
_SIGN = np.uint32(1 << 31)
_ALL = np.uint32((1 << 32) - 1)
_BINS = 8192  # candidate edges of the dynamic program; with fewer distinct values it is exact
_REFINEMENTS = 3


def ascending(values: Float32s) -> Float32s:
    """The values sorted, in an array of its own: by the bits of each, 11 at a time, the lowest first.

    Takes time in proportion to their number. NaNs come first or last, by their sign.
    """
    words = np.array(values, dtype=np.float32).view(np.uint32)
    by_digit = np.empty_like(words)
    _sort_by_digits(words, by_digit)
    return by_digit.view(np.float32)


@kernel
def _sort_by_digits(words: Uint32s, ordered: Uint32s) -> None:
    # an odd number of digits: what began in one array ends in the other
    counts = np.zeros((_DIGITS, 1 << _DIGIT_BITS), dtype=np.int64)
    for i in range(words.size):
        word = words[i]
        key = word ^ (_ALL if word & _SIGN else _SIGN)  # ascends as the numbers do
        words[i] = key
        for digit in range(_DIGITS):
            counts[digit, (key >> np.uint32(digit * _DIGIT_BITS)) & _DIGIT] += 1
    source, target = words, ordered
    for digit in range(_DIGITS):
        start = np.int64(0)
        for value in range(1 << _DIGIT_BITS):
            start += counts[digit, value]
            counts[digit, value] = start - counts[digit, value]
        shift = np.uint32(digit * _DIGIT_BITS)
        for key in source:
            value = (key >> shift) & _DIGIT
            target[counts[digit, value]] = key
            counts[digit, value] += 1
        source, target = target, source
    for i in range(ordered.size):
        key = ordered[i]
        ordered[i] = key ^ (_SIGN if key & _SIGN else _ALL)


@kernel
def block_sums(values: Float32s, shift: float) -> Float64s:
    """Prefix sums over blocks of 256: float64[2, blocks + 1], of ``x - shift`` and of its square."""
    blocks = (values.size + _BLOCK - 1) // _BLOCK
    sums = np.zeros((2, blocks + 1), dtype=np.float64)
    for block in range(blocks):
        total = 0.0
        squares = 0.0
        for i in range(block * _BLOCK, min((block + 1) * _BLOCK, values.size)):
            x = np.float64(values[i]) - shift
            total += x
            squares += x * x
        sums[0, block + 1] = sums[0, block] + total
        sums[1, block + 1] = sums[1, block] + squares
    return sums


@kernel
def sums_before(values: Float32s, shift: float, sums: Float64s, edges: Int64s) -> Float64s:
    """Sums over ``values[:edge]`` for every edge: float64[2, edges], as in ``block_sums``."""
    result = np.zeros((2, edges.size), dtype=np.float64)
    for j in range(edges.size):
        block = edges[j] // _BLOCK
        total = sums[0, block]
        squares = sums[1, block]
        for i in range(block * _BLOCK, edges[j]):
            x = np.float64(values[i]) - shift
            total += x
            squares += x * x
        result[0, j] = total
        result[1, j] = squares
    return result


@kernel
def _running_sums(values: Float32s, shift: float, sums: Float64s) -> Float64s:
    """The first row that `sums_before` gives for every 16th edge, from 0 on."""
    marks = np.empty(values.size // _MARK + 1, dtype=np.float64)
    total = 0.0
    for mark in range(marks.size):
        start = mark * _MARK
        if start % _BLOCK == 0:
            total = sums[0, start // _BLOCK]
        marks[mark] = total
        for i in range(start, min(start + _MARK, values.size)):
            total += np.float64(values[i]) - shift
    return marks


@kernel
def _sum_before(values: Float32s, shift: float, marks: Float64s, edge: int) -> float:
    total = marks[edge // _MARK]
    for i in range(edge // _MARK * _MARK, edge):
        total += np.float64(values[i]) - shift
    return float(total)


@kernel
def count_not_above(values: Float32s, limit: float, low: int, near: int) -> int:
    """Index of the first value above ``limit`` from ``values[low]`` on, or their number; sought first at ``near``."""
    high = near = max(near, low)
    reach = 1
    if near < values.size and np.float64(values[near]) <= limit:
        low = near + 1
        while near + reach < values.size and np.float64(values[near + reach]) <= limit:
            low = near + reach + 1
            reach *= 2
        high = min(near + reach, values.size)
    else:
        while near - reach >= low and np.float64(values[near - reach]) > limit:
            high = near - reach
            reach *= 2
        low = max(near - reach + 1, low)
    while low < high:
        middle = (low + high) >> 1
        if np.float64(values[middle]) <= limit:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def lloyd(values: Float32s, shift: float, sums: Float64s, centroids: Float64s, iterations: int) -> Int64s:
    """Lloyd's iterations from ascending ``centroids`` (updated in place): edges int64[k + 1] of the last assignment.

    A value on the middle between two centroids goes to the lower one. A cluster that becomes empty keeps its centroid.
    Ends when an assignment repeats; with ``iterations`` of 0 only the first assignment is made.
    """
    clusters = centroids.size
    edges = np.zeros(clusters + 1, dtype=np.int64)
    edges[clusters] = values.size
    marks = _running_sums(values, shift, sums)
    for iteration in range(iterations + 1):
        changed = iteration == 0
        for j in range(1, clusters):
            edge = count_not_above(values, (centroids[j - 1] + centroids[j]) / 2, edges[j - 1], edges[j])
            changed = changed or edge != edges[j]
            edges[j] = edge
        if not changed or iteration == iterations:
            break
        before = _sum_before(values, shift, marks, edges[0])
        for j in range(clusters):
            behind = _sum_before(values, shift, marks, edges[j + 1])
            if edges[j + 1] > edges[j]:
                centroids[j] = shift + (behind - before) / (edges[j + 1] - edges[j])
            before = behind
    return edges


@kernel
def squared_error(values: Float32s, edges: Int64s, centroids: Float32s) -> float:
    """Sum of the squared distances of each cluster's values to its centroid."""
    error = 0.0
    for j in range(centroids.size):
        centroid = np.float64(centroids[j])
        part = 0.0
        for i in range(edges[j], edges[j + 1]):
            distance = np.float64(values[i]) - centroid
            part += distance * distance
        error += part
    return error


@kernel
def run_starts(values: Float32s, most: int) -> Int64s:
    """Where each distinct value starts, for the first ``most`` of them: int64[<= most]."""
    starts = np.zeros(most, dtype=np.int64)
    found = 0
    for i in range(values.size):
        if i == 0 or values[i] != values[i - 1]:
            if found == most:
                break
            starts[found] = i
            found += 1
    return starts[:found]


@kernel
def best_edges(edges: Int64s, before: Float64s, clusters: int) -> Int64s:
    """Which of the candidate ``edges`` (int64[m + 1], 0 and n included) bound the best ``clusters`` <= m clusters.

    Dynamic program over (clusters, edge); the best predecessor never falls with the edge, so each row is filled from
    coarse to fine strides between the neighbours' predecessors (divide and conquer, O(k m log m)). Of equal sums the
    lowest predecessor is taken. Returns int64[clusters + 1] indices into ``edges``.
    """
    bins = edges.size - 1
    predecessor = np.zeros((clusters + 1, bins + 1), dtype=np.int32)
    previous = np.zeros(bins + 1, dtype=np.float64)
    current = np.zeros(bins + 1, dtype=np.float64)
    for j in range(1, bins + 1):
        previous[j] = before[1, j] - before[0, j] * before[0, j] / edges[j]
    stride = 1
    while stride * 2 <= bins:
        stride *= 2
    for row in range(2, clusters + 1):
        step = stride
        while step > 0:
            for j in range(step, bins + 1, 2 * step):
                if j < row:
                    continue
                low = max(row - 1, int(predecessor[row, j - step]))
                high = j - 1
                if j + step <= bins:
                    high = min(high, int(predecessor[row, j + step]))
                best = np.inf
                best_i = low
                total = before[0, j]
                squares = before[1, j]
                count = edges[j]
                for i in range(low, high + 1):
                    part = total - before[0, i]
                    cost = previous[i] + (squares - before[1, i] - part * part / (count - edges[i]))
                    if cost < best:
                        best = cost
                        best_i = i
                current[j] = best
                predecessor[row, j] = best_i
            step >>= 1
        previous, current = current, previous
    chosen = np.zeros(clusters + 1, dtype=np.int64)
    chosen[clusters] = bins
    for row in range(clusters, 1, -1):
        chosen[row - 1] = predecessor[row, chosen[row]]
    return chosen


def candidate_edges(values: Float32s, clusters: int) -> Int64s:
    """Edges that the best clustering of sorted values may use, about 8,192 and never inside a run of equal values.

    All of them when there are few distinct values. Otherwise bins of equal count and of equal width, refined to equal
    shares of ``(count * width**2)**(1/3)``: a fine quantiser's cells are as dense as the cube root of the values'
    density (Panter and Dite, Proc. IRE 39(1), 1951).
    """
    bins = max(_BINS, 16 * clusters)
    starts = run_starts(values, bins + 1)
    if starts.size <= bins:
        return np.append(starts, values.size)
    span = np.linspace(float(values[0]), float(values[-1]), bins // 2 + 1)[1:-1].astype(np.float32)
    counts = np.arange(1, bins // 2, dtype=np.int64) * values.size // (bins // 2)
    edges = _with_ends(values, np.concatenate([span, values[counts]]))
    for _ in range(_REFINEMENTS):
        firsts = values[edges[:-1]].astype(np.float64)
        widths = values[edges[1:] - 1].astype(np.float64) - firsts
        cells = np.cumsum(np.cbrt(np.diff(edges) * widths * widths))
        if cells[-1] == 0:
            break
        wanted = np.linspace(0, cells[-1], bins // 2 + 1)[1:-1]
        inside = np.interp(wanted, np.concatenate([[0.0], cells]), edges.astype(np.float64)).astype(np.int64)
        refined = _with_ends(values, np.concatenate([values[edges[:-1]], values[np.minimum(inside, values.size - 1)]]))
        if refined.size == edges.size:
            break
        edges = refined
    return edges


def _with_ends(values: Float32s, firsts: Float32s) -> Int64s:
    # the first index of each given value; 0 and n bound the whole
    return np.unique(np.concatenate([[0, values.size], np.searchsorted(values, firsts, side="left")]))
