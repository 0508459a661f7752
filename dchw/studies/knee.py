"""Where more of a parameter stops paying, and what bounds a run on either side.

Along one parameter, all others fixed, values are compared with the next larger one. The *gain* of a step is the share
by which it lowers a metric, put on a common footing as the gain of a doubling: lowering a metric by 19 % in a step from
4 to 16 is 10 % per doubling. The knee is the smallest value beyond which no doubling gains `WORTH_WHILE` or more. Steps
from zero and between values that are no numbers have no doubling and count as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import log2
from typing import TYPE_CHECKING

import numpy as np

from dchw.quantities import parse_magnitude

if TYPE_CHECKING:
    import pandas as pd

WORTH_WHILE = 0.10
"""Gain per doubling below which a step is not worth its hardware."""
FEWEST = 3
"""Values that a line needs for its bend to be seen."""
METRICS = {"latency_us": "latency", "energy_nj": "energy"}
"""Columns in which a knee is looked for, and what they are called; less is better in all of them."""
_MEAN = "mean of"


@dataclass(frozen=True, kw_only=True)
class Knee:
    """The bend of one metric along one parameter."""

    key: str
    metric: str
    values: tuple[object, ...]
    """In rising order."""
    figures: tuple[float, ...]
    """The metric at each of them."""
    bounds: tuple[str, ...]
    """What bounds the run at each of them."""
    where: Mapping[str, object] = field(default_factory=dict)
    """Values of what was held fixed, where something else varies too."""

    @property
    def gains(self) -> tuple[float, ...]:
        """Gain per doubling of each step; negative where the metric grows."""
        out = []
        for i in range(len(self.values) - 1):
            left, right = (parse_magnitude(v) for v in self.values[i : i + 2])
            doublings = log2(right / left) if left and right and left > 0 and right > left else 1.0
            ratio = self.figures[i + 1] / self.figures[i] if self.figures[i] > 0 else 1.0
            out.append(1.0 - ratio ** (1.0 / doublings) if ratio > 0 else 1.0)
        return tuple(out)

    @property
    def place(self) -> int:
        """Index of the knee: behind the last step that is worth while."""
        return max((i + 1 for i, gain in enumerate(self.gains) if gain >= WORTH_WHILE), default=0)

    @property
    def value(self) -> object:
        """Value of the parameter at the knee."""
        return self.values[self.place]

    @property
    def is_open(self) -> bool:
        """Whether the metric still falls at the end of the list, so that the knee may lie beyond it."""
        return self.place == len(self.values) - 1

    def __str__(self) -> str:
        at = "".join(f", {key} {value}" for key, value in self.where.items())
        return f"{self.key}{at}: {self._finding()}; {self._reason()}."

    def _finding(self) -> str:
        word = METRICS.get(self.metric, self.metric)
        gains, place = self.gains, self.place
        if self.is_open:
            return f"{word} still falls by {gains[-1]:.0%} a doubling at {self.value}, so there is no knee in this list"
        if place == 0:
            change = self.figures[-1] / self.figures[0] - 1 if self.figures[0] else 0.0
            return f"more than {self.value} does not pay in {word} ({change:+.1%} at {self.values[-1]})"
        beyond = max(gains[place:])
        rest = f"saves {beyond:.1%} at best" if beyond > 0 else "saves nothing"
        return (
            f"the knee of {word} is {self.value}: the step to it saves "
            f"{1 - self.figures[place] / self.figures[place - 1]:.0%}, a doubling beyond it {rest}"
        )

    def _reason(self) -> str:
        runs = [(bound, [i for i, _ in group]) for bound, group in groupby(enumerate(self.bounds), lambda b: b[1])]
        if len(runs) == 1:
            return f"bound by {runs[0][0]} throughout"
        parts = [f"by {bound} up to {self.values[places[-1]]}" for bound, places in runs[:-1]]
        return f"bound {', then '.join(parts)}, then by {runs[-1][0]}"


def find_knees(frame: pd.DataFrame, keys: Sequence[str], fixed: Sequence[str]) -> list[Knee]:
    """Every knee of a table of points.

    ``keys`` are columns of parameters that vary, ``fixed`` other columns that tell points apart (network, machine,
    storage). Each line of at least `FEWEST` values along a key, all else equal, gives one `Knee` per metric; energy's
    is left out where it bends at the same value as latency's.
    """
    found: list[Knee] = []
    for key in keys:
        others = [column for column in (*fixed, *keys) if column != key]
        named = [column for column in others if frame[column].astype(str).nunique() > 1]
        lines = frame.groupby([frame[c].astype(str) for c in named], sort=False) if named else [((), frame)]
        for at, line in lines:
            found += _line_knees(line, key, dict(zip(named, at, strict=True)))
    return found


def shared_knees(
    frame: pd.DataFrame, keys: Sequence[str], fixed: Sequence[str], networks: str = "network"
) -> list[Knee]:
    """The knees of all networks together, for one machine has to serve them all; none where there is one network.

    A metric is its geometric mean over the networks, so that each step counts by its share in every one of them and a
    large network no more than a small one; a point counts that ran with all of them. Columns as for `find_knees`;
    ``networks`` is the column that names them.
    """
    count = frame[networks].nunique()
    if count < 2:
        return []
    others = [name for name in (*fixed, *keys) if name != networks]
    metrics = [name for name in METRICS if name in frame.columns]
    rows = []
    for values, group in frame.groupby(others, sort=False, dropna=False):
        if group[networks].nunique() == count:
            means = {name: float(np.exp(np.log(group[name].to_numpy(float)).mean())) for name in metrics}
            bounds = " or ".join(dict.fromkeys(group["bound_by"]))
            rows.append({**dict(zip(others, values, strict=True)), **means, "bound_by": bounds})
    if not rows:
        return []
    table = type(frame)(rows)
    found = find_knees(table, keys, [name for name in fixed if name != networks])
    return [replace(knee, where={_MEAN: f"{count} networks", **knee.where}) for knee in found]


def _line_knees(line: pd.DataFrame, key: str, where: Mapping[str, object]) -> list[Knee]:
    magnitudes = [parse_magnitude(value) for value in line[key]]
    if len(line) < FEWEST or any(magnitude is None for magnitude in magnitudes):
        return []
    order = sorted(range(len(line)), key=lambda i: magnitudes[i] or 0.0)
    line = line.iloc[order]
    knees = [
        Knee(
            key=key,
            metric=metric,
            values=tuple(line[key]),
            figures=tuple(map(float, line[metric])),
            bounds=tuple(line["bound_by"]),
            where=where,
        )
        for metric in METRICS
        if metric in line.columns
    ]
    return [knee for i, knee in enumerate(knees) if i == 0 or knee.place != knees[0].place]
