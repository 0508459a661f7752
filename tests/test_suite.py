"""The suite's own settings."""

from __future__ import annotations

import pytest


def test_long_lists_that_differ_are_explained_in_short() -> None:
    """Also where a CI system names itself, as ``.ci/run`` does."""
    with pytest.raises(AssertionError) as caught:
        assert list(range(4000)) == list(range(1, 4001))
    assert len(str(caught.value)) < 1000
