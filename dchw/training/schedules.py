"""How density and learning rate move while a network trains, as pure functions of progress in 0..1."""

from __future__ import annotations

import math


def cubic_density(progress: float, start: float, end: float) -> float:
    """Gradual pruning: fast at first, slow at the end (Zhu and Gupta, arXiv:1710.01878, equation 1, for densities)."""
    return end + (start - end) * (1 - _clip(progress)) ** 3


def geometric_density(progress: float, start: float, end: float) -> float:
    """Equal steps of progress keep equal shares of what is left: the densities of iterative prune-and-retrain."""
    return start * math.pow(end / start, _clip(progress))


def learning_rate(step: int, steps: int, warmup_steps: int, final: float) -> float:
    """Share of the peak rate: linear warm-up times cosine decay from 1 to ``final`` (Loshchilov, arXiv:1608.03983).

    ``step`` counts from 0; the decay would reach ``final`` at step ``steps``.
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warm * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _clip(progress: float) -> float:
    return min(max(progress, 0.0), 1.0)
