"""Are the passes of a stage the tiles of its pixels, block by block?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dchw.mapping.tiling import Tiling


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 4))
def test_pixels_of_all_passes_are_those_of_each(pixels: int, tile: int, blocks: int) -> None:
    tiling = Tiling(rows=1, pixels=pixels, tile=tile, blocks=blocks)
    found = tiling.pixels_of_passes()
    assert found.tolist() == [tiling.pixels_in(index) for index in range(tiling.passes)]
    assert found.reshape(blocks, tiling.tiles).sum(axis=1).tolist() == [pixels] * blocks
