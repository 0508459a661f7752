"""Reading a study's table: the points that meet a condition, the best of them, the front, the point to choose."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dchw.quantities import ConfigError, nearest
from dchw.studies.columns import BOUND, MEETS, METRICS, parameters
from dchw.studies.expressions import Expression
from dchw.studies.points import NETWORK
from dchw.studies.side_by_side import distinct_names
from dchw.studies.store import ERROR, INDEX

if TYPE_CHECKING:
    import pandas as pd

OBJECTIVES = ("latency_us", "energy_pj", "area_mm2")
"""What a front is drawn over unless asked otherwise; less is better."""
GREATER_IS_BETTER = frozenset({"bandwidth_gbps", "coverage", "inferences_per_j", "inferences_per_s"})


def good_points(frame: pd.DataFrame) -> pd.DataFrame:
    """Points that ran and meet the study's own conditions."""
    return frame[frame[ERROR].isna() & frame[MEETS].fillna(False).astype(bool)]


def where(frame: pd.DataFrame, text: str) -> pd.DataFrame:
    """The rows for which an expression over column names holds; a row that lacks a value it needs is left out."""
    condition = Expression(text)
    unknown = sorted(condition.names - set(frame.columns))
    if unknown:
        raise ConfigError(f"--where {text!r}: no column {unknown[0]!r}; {nearest(unknown[0], frame.columns)}")
    names = sorted(condition.names)
    complete = frame[frame[names].notna().all(axis=1)]
    columns = [complete[name].tolist() for name in names]
    rows = zip(*columns, strict=True) if names else [()] * len(complete)
    return complete[[bool(condition.value(dict(zip(names, row, strict=True)))) for row in rows]]


def best(frame: pd.DataFrame, metric: str, count: int = 10) -> pd.DataFrame:
    """The ``count`` best rows in one metric, the lowest index first among equals."""
    if metric not in METRICS:
        raise ConfigError(f"--best {metric}: no such metric; {nearest(metric, METRICS)}")
    rows = frame[frame[metric].notna()]
    return rows.sort_values([metric, INDEX], ascending=[metric not in GREATER_IS_BETTER, True]).head(count)


def brief_names(frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What `pandas.DataFrame.replace` takes to name networks without their folders and endings, where that is enough
    to tell them apart."""
    paths = [str(name) for name in frame[NETWORK].unique()]
    return {NETWORK: distinct_names({path: Path(path).stem if Path(path).suffix else path for path in paths})}


def front(figures: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """bool[points]: which points of ``figures`` (float64[points, objectives], less is better) no other dominates.

    A point dominates another when it is nowhere worse and somewhere better; of equal points all stay.
    """
    keep: npt.NDArray[np.bool_] = np.asarray(np.isfinite(figures).all(axis=1))
    if not keep.any():
        return keep
    # rising, so that whatever dominates a point comes before it
    distinct, of = np.unique(figures[keep], axis=0, return_inverse=True)
    best = _steps(distinct) if figures.shape[1] <= 3 else _against_all(distinct)
    keep[keep] = best[of.ravel()]
    return keep


def _steps(points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """`front` of rising distinct points in up to three objectives.

    Of the points so far, those that are best in the last two objectives form steps: as one rises the other falls. A
    point is dominated where the step at or before it is not above it.
    """
    across = np.zeros((len(points), 2))
    across[:, : points.shape[1] - 1] = points[:, 1:]
    keep = np.zeros(len(points), bool)
    seconds: list[float] = []
    thirds: list[float] = []
    for at, (second, third) in enumerate(across.tolist()):
        place = bisect_right(seconds, second)
        if place and thirds[place - 1] <= third:
            continue
        keep[at] = True
        if place and seconds[place - 1] == second:
            place -= 1
        end = place
        while end < len(seconds) and thirds[end] >= third:
            end += 1
        seconds[place:end], thirds[place:end] = [second], [third]
    return keep


def _against_all(points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """`front` of rising distinct points, each against the front so far."""
    keep = np.zeros(len(points), bool)
    for at, point in enumerate(points):
        keep[at] = not (points[:at][keep[:at]] <= point).all(axis=1).any()
    return keep


def objectives_of(frame: pd.DataFrame, wanted: Sequence[str] = OBJECTIVES) -> list[str]:
    """Those objectives that differ between points; the first where none does."""
    varying = [name for name in wanted if frame[name].notna().all() and frame[name].nunique() > 1]
    return varying or list(wanted[:1])


def front_of(frame: pd.DataFrame, objectives: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of each network's Pareto front, by the first objective; networks do not compete with one another."""
    names = objectives_of(frame) if objectives is None else list(objectives)
    keep = np.zeros(len(frame), bool)
    for place in frame.groupby(NETWORK).indices.values():
        keep[place] = front(frame[names].to_numpy(np.float64)[place])
    rows = frame[keep]
    return rows.sort_values([names[0], INDEX])


@dataclass(frozen=True)
class LikelyChoice:
    """The point that a reader is likely to choose."""

    index: int
    sentence: str


def likely_choices(frame: pd.DataFrame, among: pd.DataFrame) -> list[LikelyChoice]:
    """`likely_choice` of every network."""
    found = [likely_choice(rows, among) for _, rows in frame.groupby(NETWORK, sort=False)]
    return [choice for choice in found if choice is not None]


def likely_choice(frame: pd.DataFrame, among: pd.DataFrame, front_size: int | None = None) -> LikelyChoice | None:
    """The point of the front with the least product of its objectives, each relative to the best there is.

    ``front_size``: points of the front, where ``frame`` holds only a part of them, the best in each objective and in
    their product included.

    The product weighs a share of one objective like the same share of another: giving up 10 % of energy for 10 % of
    time is even. It is a proposal, and its sentence says what it gives up against each best. ``among`` is the whole
    table, from which the point is told.
    """
    rows = good_points(frame)
    if rows.empty:
        return None
    names = objectives_of(rows)
    pareto = front_of(rows, names)
    relative, product_of = relative_to_best(pareto[names].to_numpy(np.float64))
    at = int(np.argmin(product_of))
    row = pareto.iloc[at]
    given_up = [
        f"{f'{more - 1:.1%} above ' if more > 1.0005 else ''}the best {_WORDS[name]}"
        for name, more in zip(names, relative[at], strict=True)
    ]
    product = " times ".join(_WORDS[name] for name in names)
    sentence = (
        f"{point_name(row, among)}: of {front_size or len(pareto):,} points on the front it has the least {product}; "
        f"{', '.join(given_up)}; bound by {row[BOUND]}."
    )
    return LikelyChoice(int(row[INDEX]), sentence)


def relative_to_best(figures: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Objectives as multiples of the best there is, float64[points, objectives], and the logarithm of their product."""
    relative = figures / np.maximum(figures.min(axis=0), 1e-300)
    return relative, np.log(np.maximum(relative, 1e-300)).sum(axis=1)


_WORDS = {"latency_us": "latency", "energy_pj": "energy", "area_mm2": "area"}


def telling(frame: pd.DataFrame) -> list[str]:
    """The parameters that differ between points; all that there are where none does."""
    names = parameters(frame.columns)
    return [name for name in names if frame[name].astype(str).nunique() > 1] or names[:1]


def point_name(row: pd.Series, frame: pd.DataFrame) -> str:
    """What tells a point from the others, in words."""
    return _name({name: row[name] for name in telling(frame)})


def point_names(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """`point_name` of every row; ``names`` are the parameters that tell them apart."""
    return [_name(dict(zip(names, values, strict=True))) for values in rows[list(names)].itertuples(index=False)]


def _name(values: Mapping[str, object]) -> str:
    plain = ("network", "storage", "machine")
    return ", ".join(str(value) if name in plain else f"{name} {value}" for name, value in values.items())


def hypervolume(figures: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    """Volume of what points dominate up to a reference point, by slicing along the last objective.

    ``figures`` float64[points, objectives] and ``reference`` float64[objectives], less is better; a point that is not
    better than the reference in every objective adds nothing. Meant for fronts of a few hundred points.
    """
    inside = figures[(figures < reference).all(axis=1)]
    if not inside.size:
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    ends = np.append(inside[1:, -1], reference[-1])
    total = 0.0
    for place, thickness in enumerate(ends - inside[:, -1]):
        if thickness > 0:
            below = inside[: place + 1, :-1]
            total += thickness * hypervolume(below[front(below)], reference[:-1])
    return total
