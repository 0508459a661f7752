"""The stages of one layer: parts of rows and bands of pixels in the order of loops that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from dchw.compression.compressed import CompressedLayer
from dchw.formats import (
    CodedRows,
    DenseWeights,
    PackedLayer,
    Unpacked,
    let_go,
    shared_values,
    storage_format,
    unpack,
    written,
)
from dchw.graph.network import FloatArray
from dchw.machines.machine import Machine
from dchw.machines.units.pe_array import DenseZeros
from dchw.mapping.layer_columns import Activity, Columns, activity_of
from dchw.mapping.orders import LoopChoice, Stays
from dchw.mapping.search import LoopSearch
from dchw.mapping.stages import LayerWork
from dchw.mapping.tiling import Tiling, groups_side_by_side
from dchw.quantities import ceil_div

_MADE: WeakKeyDictionary[CompressedLayer, dict[Hashable, CompressedLayer]] = WeakKeyDictionary()
"""Layers as they are packed, whole or in parts, by the layer they are made of: what packing keeps goes by the layer
itself, so that these must be the same ones when a network is mapped again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Rows of a layer, packed and decoded again."""

    layer: CompressedLayer
    groups: slice
    packed: PackedLayer
    weights: Unpacked
    values: FloatArray | None
    """What each of the layer's codes was decoded to (`dchw.formats.shared_values`); None as well where nothing is
    multiplied."""

    @classmethod
    def decoded(cls, layer: CompressedLayer, groups: slice, packed: PackedLayer, *, multiplied: bool) -> Part:
        """Rows that are packed, decoded. Of weights without positions no more is held than the layer's codes, if that
        says what they are."""
        weights = unpack(written(packed))
        values = shared_values(weights, layer) if multiplied else None
        if isinstance(weights, DenseWeights) and values is not None:
            weights = replace(weights, matrix=CodedRows(layer.matrix_codes, values))
        let_go(packed)
        return cls(layer=layer, groups=groups, packed=packed, weights=weights, values=values)

    def placed(self) -> Part:
        """The same without values, which only the forward pass needs: no stage holds a float32 of every weight."""
        no_values = np.empty(0, np.float32)
        if isinstance(self.weights, DenseWeights):
            return replace(self, weights=replace(self.weights, matrix=no_values[:, None]))
        nothing, no_codes = np.empty(0, np.bool_), np.empty(0, np.uint16)
        return replace(self, weights=replace(self.weights, value=no_values, code=no_codes, is_filler=nothing))


def as_worked(layer: CompressedLayer, elements: int) -> CompressedLayer:
    """The layer as it is packed: one matrix of all rows where its groups are worked side by side."""
    geometry = layer.geometry
    if not groups_side_by_side(geometry, elements):
        return layer
    joined = replace(geometry, in_channels=geometry.in_channels // geometry.groups, groups=1)
    return _made(layer, "side by side", lambda: replace(layer, geometry=joined))


def _made(layer: CompressedLayer, key: Hashable, make: Callable[[], CompressedLayer]) -> CompressedLayer:
    made = _MADE.setdefault(layer, {})
    if key not in made:
        made[key] = make()
    return made[key]


def row_parts(layer: CompressedLayer, rows: int, elements: int) -> list[tuple[CompressedLayer, slice]]:
    """The layer as it is packed, whole or in parts of so many rows, with the groups each part reads."""
    geometry = layer.geometry
    if rows >= geometry.out_channels:
        return [(as_worked(layer, elements), slice(0, geometry.groups))]
    bounds = [*range(0, geometry.out_channels, rows), geometry.out_channels]
    parts = [_rows_of(layer, first, end) for first, end in pairwise(bounds)]
    if groups_side_by_side(geometry, elements):  # a part of one group is one product as well
        return [(as_worked(part, elements), groups) for part, groups in parts]
    return parts


def stage_works(
    parts: list[Part], columns: Columns, search: LoopSearch, choice: LoopChoice, machine: Machine
) -> list[LayerWork]:
    """Every stage of a layer in the order of its loops."""
    bands, demand = search.bands(choice), search.demand
    order = [(b, p) for b in range(len(bands)) for p in range(len(parts))]
    if not choice.bands_outermost:
        order = [(b, p) for p in range(len(parts)) for b in range(len(bands))]
    stays = search.input_stays(choice)
    works, outputs = [], 0
    inputs: dict[Hashable, _StageInput] = {}  # parts of rows read the same
    for number, (b, p) in enumerate(order):
        first, end = bands[b]
        part = parts[p]
        outputs += part.layer.geometry.out_channels * (end - first)
        follows = number + 1 < len(order)
        band_stays = stays is Stays.WHOLE or (stays is Stays.BAND and follows and order[number + 1][0] == b)
        there = stays is Stays.WHOLE and number > 0 and (p > 0 or b > 0)
        there = there or (stays is Stays.BAND and number > 0 and order[number - 1][0] == b)
        tiling = _tiling(part, end - first, choice, machine)
        reads = first, part.groups.start, part.groups.stop
        if reads not in inputs:
            inputs[reads] = _stage_input(part, columns.nonzero, first, tiling, machine)
        works.append(
            _layer_work(
                part,
                tiling,
                inputs[reads],
                input_span=(0, 0) if there else search.span(choice, first, end, part.groups),
                input_stays=follows and band_stays,
                input_blocks=search.input_room(choice) // machine.dma.request_bytes,
                covered=outputs / (demand.geometry.out_channels * demand.pixels),
            )
        )
    return works


def _rows_of(layer: CompressedLayer, first: int, end: int) -> tuple[CompressedLayer, slice]:
    geometry = layer.geometry
    if geometry.groups == 1:
        groups, part = slice(0, 1), replace(geometry, out_channels=end - first)
    else:
        rows, channels = geometry.out_channels // geometry.groups, geometry.in_channels // geometry.groups
        groups = slice(first // rows, end // rows)
        count = groups.stop - groups.start
        part = replace(geometry, out_channels=end - first, in_channels=channels * count, groups=count)
    bias = None if layer.bias is None else layer.bias[first:end]
    rows_only = partial(replace, layer, codes=layer.codes[first:end], bias=bias, geometry=part)
    return _made(layer, (first, end), rows_only), groups


def _tiling(part: Part, pixels: int, choice: LoopChoice, machine: Machine) -> Tiling:
    return Tiling(
        rows=ceil_div(part.layer.geometry.out_channels, machine.pe_array.elements),
        pixels=pixels,
        tile=choice.tile,
        blocks=choice.blocks,
        sums=choice.sums,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _StageInput:
    """What a stage reads of the layer's input."""

    activity: Activity
    nonzeros: int
    side_by_side: int


def _stage_input(
    part: Part, nonzero: npt.NDArray[np.bool_], first: int, tiling: Tiling, machine: Machine
) -> _StageInput:
    mine = nonzero[part.groups]
    side_by_side = len(mine) if part.layer.geometry.groups == 1 else 1
    # lanes that are zero in all groups side by side are skipped
    flat = np.any(mine, axis=0) if side_by_side > 1 else mine.reshape(-1, mine.shape[2])
    return _StageInput(
        activity=activity_of(flat, first, tiling, machine.pe_array.lanes, looks=looks_at_values(machine, part.packed)),
        nonzeros=int(np.count_nonzero(mine[:, :, first : first + tiling.pixels])),
        side_by_side=side_by_side,
    )


def looks_at_values(machine: Machine, packed: PackedLayer) -> bool:
    """Whether zero activations are skipped: weights have positions, or the machine's dense array looks for zeros."""
    return storage_format(packed.storage).positions or machine.pe_array.dense_zeros is DenseZeros.SKIPPED


def _layer_work(
    part: Part,
    tiling: Tiling,
    reads: _StageInput,
    *,
    input_span: tuple[int, int],
    input_stays: bool,
    input_blocks: int,
    covered: float,
) -> LayerWork:
    return LayerWork(
        name=part.layer.name,
        geometry=part.layer.geometry,
        packed=part.packed,
        weights=part.weights,
        tiling=tiling,
        activity=reads.activity,
        input_nonzeros=reads.nonzeros,
        multiplications=part.layer.nonzeros * tiling.pixels,
        input_span=input_span,
        input_stays=input_stays,
        input_blocks=input_blocks,
        covered=covered,
        side_by_side=reads.side_by_side,
    )
