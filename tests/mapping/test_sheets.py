"""Is a list that somebody holds never written over, and memory that nobody holds used again?"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dchw.program import sheets
from dchw.program.sheets import Sheets


@given(st.randoms(use_true_random=False))
def test_lists_that_are_held_stay_as_they_are(rng: Random) -> None:
    made, held = Sheets(), {}
    for number in range(60):
        row = made.empty(rng.choice([0, 5, sheets._SMALL, rng.randrange(4 * sheets._SMALL)]))
        row[:] = number
        held[number] = row[rng.randrange(row.size + 1) :]  # a part of it
        for at in [at for at in held if rng.random() < 0.3]:
            del held[at]
    assert all((row == number).all() for number, row in held.items())


def test_an_array_of_which_nothing_is_held_is_used_again() -> None:
    made, count = Sheets(), 4 * sheets._SMALL
    row = made.empty(count)
    before = row.ctypes.data
    part = row[:10]
    del row
    assert made.empty(count).ctypes.data != before
    del part
    assert before in {made.empty(count).ctypes.data for _ in range(2)}
