"""Rings begin full of times far away, so that nothing passes that is read before it is written."""

from __future__ import annotations

import numpy as np
import pytest

from dchw.engines.fast import flatten
from dchw.engines.named_rows import Ints

LATE = 1_000_000
"""Cycles: far behind the end of any program here, and near enough for a run that gets there by a planted fault."""


@pytest.fixture(autouse=True)
def no_cleared_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def places(count: int) -> Ints:
        return np.full(count, LATE, np.int64)

    monkeypatch.setattr(flatten, "new_places", places)
