"""Checkpoints that hold what a weight is computed from: masks of ``torch.nn.utils.prune``, both forms of weight norm.

A pruned module saves ``weight_orig`` and ``weight_mask``, whose product is the weight; ``torch.nn.utils.weight_norm``
saves ``weight_g`` and ``weight_v``, the newer parametrization ``parametrizations.weight.original0`` and ``original1``:
a length per output and a direction, whose product is the weight (Salimans and Kingma, NIPS 2016, equation 2).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dchw.graph.operations import Array

_PAIRS = (
    ("{0}_orig", "{0}_mask"),
    ("{0}_g", "{0}_v"),
    ("parametrizations.{0}.original0", "parametrizations.{0}.original1"),
)


def computed_weights(tensors: Mapping[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """The tensors with every such pair replaced by its weight, in its place, and what was computed, in words."""
    out: dict[str, Array] = {}
    notes: dict[str, int] = {}
    done: set[str] = set()
    for key in tensors:
        if key in done:
            continue
        pair = _pair(key, tensors)
        if pair is None:
            out[key] = tensors[key]
            continue
        first, second, weight, how = pair
        done |= {first, second}
        masked = how == "masks multiplied in"
        out[weight] = tensors[first] * tensors[second] if masked else _normed(tensors[first], tensors[second])
        notes[how] = notes.get(how, 0) + 1
    return out, [f"{how}: {count} weights" for how, count in notes.items()]


def _pair(key: str, tensors: Mapping[str, Array]) -> tuple[str, str, str, str] | None:
    """(first, second, weight, how) of the pair that a key belongs to."""
    for pattern in _PAIRS:
        for form in pattern:
            start, end = form.split("{0}")
            head, dot, tail = key.rpartition(start) if start else ("", "", key)
            if start and not dot:
                continue
            prefix = head
            if not start:
                prefix, _, tail = key.rpartition(".")
                prefix = f"{prefix}." if prefix else ""
            if not tail.endswith(end) or not tail.removesuffix(end):
                continue
            name = tail.removesuffix(end)
            first, second = (f"{prefix}{text.format(name)}" for text in pattern)
            if first in tensors and second in tensors and _fits(pattern, tensors[first], tensors[second]):
                how = "masks multiplied in" if pattern is _PAIRS[0] else "weight norm worked out"
                return first, second, f"{prefix}{name}", how
    return None


def _fits(pattern: tuple[str, str], first: Array, second: Array) -> bool:
    if pattern is _PAIRS[0]:
        return first.shape == second.shape
    return first.ndim == second.ndim > 0 and all(a in (1, b) for a, b in zip(first.shape, second.shape, strict=True))


def _normed(length: Array, direction: Array) -> Array:
    axes = tuple(axis for axis, size in enumerate(length.shape) if size == 1)
    norm = np.sqrt(np.square(direction.astype(np.float64)).sum(axis=axes, keepdims=True))
    return np.asarray(length * direction / np.where(norm == 0, 1, norm), np.float32)
