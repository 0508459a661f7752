"""What the open choices of a standard change, worked out by replaying three small patterns on one channel.

Open are timings that were not compared with the standard's text, rules of two ranks that stand in no table, and the
choice of address order and refresh. A pattern has 16,384 bursts: a stream of reads, reads at random in 256 MiB, and
the same with every other burst written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dchw.dram.address import address_map
from dchw.dram.injection import BACK_TO_BACK, finish, offer_all
from dchw.dram.options import Controller, Refresh
from dchw.dram.sections import Defaults
from dchw.dram.standard import Standard
from dchw.dram.state import channel_state

BURSTS = 1 << 14
_AREA = 1 << 28


class Effect(NamedTuple):
    """Change of the clocks that the three patterns take, in percent."""

    stream: float
    random: float
    mixed: float

    def __str__(self) -> str:
        return (
            f"{self.stream:+.1f} % clocks streaming, {self.random:+.1f} % for random reads, "
            f"{self.mixed:+.1f} % with writes among them"
        )


def share_of_peak(std: Standard, order: str, refresh: Refresh) -> float:
    """Share of the peak bandwidth that a stream of reads reaches."""
    stream = _clocks(std, order, refresh)[0]
    return BURSTS * std.cycles(std.behaviour.burst) / stream


def of_alternatives(std: Standard, order: str, refresh: Refresh) -> tuple[Effect, ...]:
    """What each of the standard's alternatives would change, in the order of the file."""
    return tuple(
        _effect(_with_timings(std, alternative.timings), std, order, refresh) for alternative in std.alternatives
    )


def without_unverified_rules(std: Standard, order: str, refresh: Refresh) -> Effect:
    """What leaving out the rules that stand in no table would change."""
    rules = tuple(rule for rule in std.constraints.rules if rule not in std.unverified_rules)
    bare = std.model_copy(update={"constraints": std.constraints.model_copy(update={"rules": rules})})
    return _effect(bare, std, order, refresh)


def other_order(std: Standard, order: str) -> str:
    """The order to compare one with: the standard's default, or the plain one where that is in use."""
    plain = Defaults().mapping
    return std.defaults.mapping if order != std.defaults.mapping else plain


def _with_timings(std: Standard, cycles: dict[str, int]) -> Standard:
    changed = {name: std.timings[name].model_copy(update={"cycles": value}) for name, value in cycles.items()}
    return std.model_copy(update={"timings": std.timings | changed})


def _effect(changed: Standard, std: Standard, order: str, refresh: Refresh) -> Effect:
    before, after = _clocks(std, order, refresh), _clocks(changed, order, refresh)
    return Effect(*(100 * (b / a - 1) for a, b in zip(before, after, strict=True)))


@lru_cache(maxsize=64)
def _clocks(std: Standard, order: str, refresh: Refresh) -> tuple[int, ...]:
    burst = std.organisation.burst_size
    stream = np.arange(BURSTS, dtype=np.int64) * burst
    places = np.random.default_rng(0).integers(0, min(_AREA, std.organisation.capacity_bytes), BURSTS) // burst * burst
    none, every_other = np.zeros(BURSTS, bool), np.arange(BURSTS) % 2 == 1
    bits, cycle, size = address_map(std, order), np.zeros(BURSTS, np.int64), np.full(BURSTS, burst)
    clocks = []
    for addresses, is_write in ((stream, none), (places, none), (places, every_other)):
        state = channel_state(std, Controller(refresh=refresh))
        offer_all(state, bits, BACK_TO_BACK, cycle, addresses, size, is_write, 0)
        clocks.append(finish(state))
    return tuple(clocks)
