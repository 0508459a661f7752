"""What a comparison says, in sentences made from its rows: what wins, what bounds it, what remains, when it loses.

The *baseline* is the row ratios are taken against: the strongest dense one, which takes the least energy, unless
another is named. Words follow the numbers: what is not at least `SAME` times apart is called the same, and more is
never "less".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dchw.formats import storage_format
from dchw.quantities import DchwError, nearest

if TYPE_CHECKING:
    from dchw.run.sim_result import SimResult

SAME = 1.05
"""Ratios nearer to 1 than this are called the same: below it a printed "1.0x" would hide which is larger."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One row of a comparison, as far as a verdict needs it."""

    storage: str
    dense: bool
    """Every weight as it is: no positions, codes or codebooks."""
    multiplies: str
    dram_bytes: int
    """Both ways, per run."""
    seconds: float
    energy_pj: float
    one_chip_pj: float
    leakage_mw: float
    """Of the units in use, which goes on between runs."""
    bound: str = ""
    """What bounds the run, in words."""
    streams: Mapping[str, int] = field(default_factory=dict)
    """DRAM bytes by stream."""
    categories: Mapping[str, float] = field(default_factory=dict)
    """Energy by category, in pJ."""
    inferences: int = 1
    """Of one run."""


def standing(storage: str, result: SimResult) -> Standing:
    """A run's place in a comparison."""
    return Standing(
        storage=storage,
        dense=storage_format(storage).dense,
        multiplies=str(result.workload.machine.formats),
        dram_bytes=result.dram_bytes,
        seconds=result.seconds,
        energy_pj=result.energy_pj,
        one_chip_pj=result.costs.one_chip_energy_pj,
        leakage_mw=result.costs.leakage_mw,
        bound=str(result.bound),
        streams={stream.value: size for stream, size in result.stream_bytes().items()},
        categories=result.costs.by("category"),
        inferences=result.workload.batch,
    )


def choose_baseline(rows: Sequence[Standing], name: str | None = None) -> Standing:
    """The row of that name; without one the strongest dense row, and where there is none the first.

    Raises DchwError for a name that is none of the rows.
    """
    if name is not None:
        check_baseline(name, [row.storage for row in rows])
        return next(row for row in rows if row.storage == name)
    return min((row for row in rows if row.dense), key=lambda row: row.energy_pj, default=rows[0])


def check_baseline(name: str | None, storages: Sequence[str]) -> None:
    """Raise DchwError unless a baseline is among the formats that are compared."""
    if name is not None and name not in storages:
        raise DchwError(f"baseline {name!r}: expected one of the formats compared; {nearest(name, storages)}")


def against(old: float, new: float, less: str, more: str, same: str) -> str:
    """``2.1x less energy``, ``1.3x more energy`` or ``as much energy``, whichever is so."""
    if not old or not new:
        return same if old == new else (less if new < old else more)
    ratio = old / new
    if ratio >= SAME:
        return f"{_times(ratio)} {less}"
    if ratio <= 1 / SAME:
        return f"{_times(1 / ratio)} {more}"
    return same


def verdict(rows: Sequence[Standing], baseline: str | None = None) -> tuple[str, ...]:
    """Three to five sentences; one where there is nothing to compare.

    Parameters
    ----------
    rows
        The rows of a comparison of one network on one machine.
    baseline
        Storage format to compare with. Default: the strongest dense row.

    Returns
    -------
    tuple of str
        What wins and by how much, what bounds it, what remains to be moved, where others are faster, and at which frame
        rate its leakage eats its gain.

    Raises
    ------
    DchwError
        For a baseline that is none of the rows.
    """
    base = choose_baseline(rows, baseline)
    others = [row for row in rows if row is not base]
    if not others:
        return (f"{base.storage} alone was run: nothing to compare it with.",)
    best = min(others, key=lambda row: row.energy_pj)
    found = [_gain(rows, base, best), f"{best.storage} is bound by {best.bound}." if best.bound else ""]
    found += [_remains(best), _faster(rows, base, best), _frames(base, best)]
    return tuple(sentence for sentence in found if sentence)


def ratios(rows: Sequence[Standing], baseline: str | None = None) -> dict[str, list[float]]:
    """Columns of every row: DRAM traffic, time and energy of the baseline over the row's; above 1 the row is better."""
    base = choose_baseline(rows, baseline)
    return {
        "traffic_ratio": [_over(base.dram_bytes, row.dram_bytes) for row in rows],
        "time_ratio": [_over(base.seconds, row.seconds) for row in rows],
        "energy_ratio": [_over(base.energy_pj, row.energy_pj) for row in rows],
    }


def _over(old: float, new: float) -> float:
    return old / new if new else float("nan")


def _gain(rows: Sequence[Standing], base: Standing, best: Standing) -> str:
    """What wins, by how much, against what; and in which arithmetic."""
    strongest = base is min((row for row in rows if row.dense), key=lambda row: row.energy_pj, default=None)
    about = f"{base.storage}, the strongest dense row" if strongest else base.storage
    saved = against(base.energy_pj, best.energy_pj, "less", "more", "as much")
    saved = "as much energy as" if saved == "as much" else f"{saved} energy than"
    takes = f"{best.storage} takes {saved} {about}"
    full = next((row for row in rows if row.dense and "fp32" in row.storage and row is not base), None)
    if full is not None:
        other = against(full.energy_pj, best.energy_pj, "less", "more", "as much")
        takes += f" ({other}{' as' if other == 'as much' else ' than'} {full.storage})"
    moved = against(base.dram_bytes, best.dram_bytes, "less DRAM traffic", "more DRAM traffic", "as much DRAM traffic")
    time = against(base.seconds, best.seconds, "faster", "slower", "as fast")
    sentence = f"{takes}, with {moved}, and is {time}"
    if base.energy_pj <= best.energy_pj:
        sentence = f"Nothing compared takes less energy than {base.storage}: the next, {sentence}"
    if base.multiplies == best.multiplies:
        return f"{sentence}; both multiply {base.multiplies}."
    like = min(
        (row for row in rows if row.multiplies == base.multiplies and row is not base and not row.dense),
        key=lambda row: row.energy_pj,
        default=None,
    )
    sentence += f"; it multiplies {best.multiplies}, {base.storage} {base.multiplies}"
    if like is None:
        return f"{sentence}."
    share = against(base.energy_pj, like.energy_pj, "less", "more", "as much")
    return f"{sentence}, and in the same arithmetic {like.storage} takes {share}."


def _remains(best: Standing) -> str:
    """The streams that are most of what is left to move, and what most of the energy is."""
    total = sum(best.streams.values())
    if not total:
        return ""
    largest = sorted(best.streams.items(), key=lambda item: -item[1])[:2]
    shown = [(name, size) for name, size in largest if size >= 0.01 * total]
    named = " and ".join(f"{size / total:.0%} {name.replace('_', ' ')}" for name, size in shown)
    sentence = f"What is left of its DRAM traffic is {named}"
    spent = sum(best.categories.values())
    if spent > 0:
        category, part = max(best.categories.items(), key=lambda item: item[1])
        sentence += f"; {part / spent:.0%} of its energy is {category}"
    return f"{sentence}."


def _faster(rows: Sequence[Standing], base: Standing, best: Standing) -> str:
    """The fastest row, where it is another."""
    quickest = min(rows, key=lambda row: row.seconds)
    if best.seconds < SAME * quickest.seconds:
        return ""
    cost = against(best.energy_pj, quickest.energy_pj, "less energy", "more energy", "the same energy")
    kind = "The baseline itself" if quickest is base else quickest.storage
    return f"{kind} is {_times(best.seconds / quickest.seconds)} faster than {best.storage}, for {cost}."


def break_even_fps(base: Standing, best: Standing) -> float | None:
    """Frames per second below which leakage between runs makes ``best`` the dearer of two chips, one for each format.

    A frame costs its run and, until the next, leakage: ``E + P (1 / f - t)``. Equal at
    ``f = (P_best - P_base) / ((E_base - P_base t_base) - (E_best - P_best t_best))``. None where ``best`` is the
    cheaper at every rate; infinite where it is at none. What the DRAM takes between runs is the same for both.
    """
    # 1 mW is 1e9 pJ a second
    extra = (best.leakage_mw - base.leakage_mw) * 1e9
    gained = (base.energy_pj - base.leakage_mw * 1e9 * base.seconds) - (
        best.energy_pj - best.leakage_mw * 1e9 * best.seconds
    )
    extra *= best.inferences
    if extra <= 0:
        return None if gained > 0 else float("inf")
    return extra / gained if gained > 0 else float("inf")


def _frames(base: Standing, best: Standing) -> str:
    """When the gain is eaten by leakage."""
    if best.energy_pj >= base.energy_pj:
        return ""
    rate = break_even_fps(base, best)
    one = best.one_chip_pj < base.one_chip_pj
    kept = "on one chip that works both it stays" if one else "on one chip that works both it is gone"
    if rate is None:
        return f"The gain holds at every frame rate: {best.storage}'s own hardware leaks no more than {base.storage}'s."
    if rate == float("inf"):
        return f"Leakage of its larger hardware eats the gain at every frame rate; {kept}."
    most = 1 / max(base.seconds, best.seconds) * best.inferences
    if rate >= most:
        return (
            f"At every frame rate that both can keep, leakage of its larger hardware ({best.leakage_mw:.3g} against "
            f"{base.leakage_mw:.3g} mW) eats the gain; {kept}."
        )
    return (
        f"Below {_frames_a_second(rate)} leakage of its larger hardware ({best.leakage_mw:.3g} against "
        f"{base.leakage_mw:.3g} mW, each on a chip of its own) eats the gain; {kept}."
    )


def _frames_a_second(value: float) -> str:
    shown = f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
    return f"{shown} frame{'' if shown == '1' else 's'} per second"


def _times(ratio: float) -> str:
    """One decimal from 1.1 on, two below, so that no difference reads as none."""
    return f"{ratio:.1f}x" if ratio >= 1.095 else f"{ratio:.2f}x"
