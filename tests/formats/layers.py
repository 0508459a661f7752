"""Small layers for the tests of storage formats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from dchw.compression.compressed import CompressedLayer, Representation
from dchw.formats import PackShape
from dchw.formats.packing.run_layout import Pointers
from dchw.graph.geometry import Geometry
from dchw.graph.network import OperationKind


def layer_of(
    codes: npt.ArrayLike,
    *,
    codebook: npt.ArrayLike | None = None,
    geometry: Geometry | None = None,
    bias: npt.ArrayLike | None = None,
    index_bits: int = 2,
    codebook_bits: int = 3,
    code_limit: int = 12,
) -> CompressedLayer:
    """A linear layer, or any other with its geometry; shared value i is (i - 0.5) / 4 with alternating sign."""
    array = np.asarray(codes)
    array = array.astype(np.uint8 if array.dtype != np.uint16 else np.uint16)
    if codebook is None:
        codebook = [0.0] + [(-1) ** i * (i - 0.5) / 4 for i in range(1, 1 << codebook_bits)]
    return CompressedLayer(
        name="layer",
        codes=array,
        codebook=np.asarray(codebook, dtype=np.float32),
        bias=None if bias is None else np.asarray(bias, dtype=np.float32),
        geometry=geometry or Geometry(in_channels=array.shape[1], out_channels=array.shape[0]),
        kind=OperationKind.LINEAR if array.ndim == 2 else OperationKind.CONV2D,
        input="input",
        parameter="layer.weight",
        representation=Representation(index_bits=index_bits, codebook_bits=codebook_bits, code_limit=code_limit),
    )


@st.composite
def layers(draw: st.DrawFn) -> CompressedLayer:
    """Linear, grouped and depthwise layers, from empty to dense, of one code or many."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    rows, inputs = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    kernel = draw(st.sampled_from([(1, 1), (2, 3), (1, 2)]))
    geometry = Geometry(
        in_channels=inputs * groups, out_channels=rows * groups, kernel=kernel, in_size=(3, 3), groups=groups
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codebook_bits = draw(st.integers(1, 4))
    largest = draw(st.integers(1, (1 << codebook_bits) - 1))
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 0.8, 1.0]))
    shape = (rows * groups, inputs, *kernel)
    codes = np.where(rng.random(shape) < density, rng.integers(1, largest, shape, endpoint=True), 0)
    values = np.round(rng.normal(size=1 << codebook_bits), 2).astype(np.float16)
    if draw(st.booleans()):
        values[rng.integers(0, values.size)] = -0.0
    if draw(st.booleans()):
        values[rng.integers(0, values.size)] = 0.0
    values[0] = 0.0
    return layer_of(
        codes.astype(draw(st.sampled_from([np.uint8, np.uint16]))),
        codebook=values,
        geometry=geometry,
        bias=draw(st.sampled_from([None, rng.normal(size=rows * groups).astype(np.float16)])),
        index_bits=draw(st.integers(1, 4)),
        codebook_bits=codebook_bits,
        code_limit=draw(st.integers(1, 12)),
    )


@st.composite
def shapes(draw: st.DrawFn) -> PackShape:
    """Machines with shared, private and several decode units per PE."""
    factor, base = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    elements, decoders = draw(st.sampled_from([(base * factor, base), (base, base * factor)]))
    return PackShape(
        elements=elements,
        decoders=decoders,
        chunk_entries=draw(st.sampled_from([1, 2, 5, 17, 1000])),
        pointers=draw(st.sampled_from(Pointers)),
        column_bands=draw(st.sampled_from([1, 1, 2, 3])),
    )
