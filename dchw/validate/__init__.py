"""Checks against published figures: each module compares one part of the package and returns tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """One table of computed against published values, with its verdict.

    ``limits`` says in words what ``passed`` means; ``passed`` is None where nothing binds.
    """

    title: str
    table: pd.DataFrame
    limits: str
    passed: bool | None
    notes: tuple[str, ...] = ()
