"""What a machine does for one layer: packing and decoding its weights, its order of loops, and what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dchw.compression.compressed import CompressedLayer
from dchw.formats import Need, PackedLayer, PackShape, lay_out, storage_format, unpack, weight_matrix, written
from dchw.graph import forward
from dchw.graph.geometry import Geometry
from dchw.graph.network import FloatArray, Operation
from dchw.graph.operations import CONVOLUTIONS
from dchw.graph.recurrent import steps
from dchw.machines.machine import Machine
from dchw.mapping.arithmetic import Arithmetic, as_bytes, products
from dchw.mapping.crossing_tensors import InputSource
from dchw.mapping.decoded_weights import DecodedWeights
from dchw.mapping.demand import demand_of
from dchw.mapping.given import VALUE_BITS
from dchw.mapping.layer_columns import Columns, activity_of
from dchw.mapping.orders import Explanation
from dchw.mapping.parts import Part, as_worked, looks_at_values, row_parts, stage_works
from dchw.mapping.passing import ForwardPass
from dchw.mapping.resident_weights import block_fits
from dchw.mapping.rooms import input_blocks
from dchw.mapping.search import LoopSearch
from dchw.mapping.stages import LayerWork
from dchw.mapping.tiling import step_tiling


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers:
    """Works the layers of a network, each by itself, on one machine in one storage format."""

    machine: Machine
    """With the arithmetic of the storage format (`Machine.working`)."""
    storage: str
    shape: PackShape
    batch: int
    arithmetic: Arithmetic
    passing: ForwardPass

    def run(
        self, layer: CompressedLayer, op: Operation, inputs: Sequence[FloatArray], source: InputSource
    ) -> tuple[list[LayerWork], FloatArray | None, Explanation | None, bool]:
        """Its parts of rows and bands of pixels in the order that was searched, and what it gives.

        No part where there is nothing to fetch and nothing to multiply; None for values that are not computed, and
        where no order was searched. The last is whether the layer asks for the room of tensors that would begin to
        stay with it (`InputSource.released`).
        """
        machine = self.machine
        packed = self._laid_out(as_worked(layer, machine.pe_array.elements))
        if not layer.nonzeros and packed.entries == 0:
            # the operations behind it read its biases
            return [], forward.apply(replace(op, weight=layer.weight, bias=layer.bias), inputs), None, False
        if layer.sequential:
            return (*self._steps(layer, op, inputs, packed, source), None, False)
        x = inputs[0]
        if self._bytes:
            x = self.passing.value(f"{op.name} as int8", (x,), partial(as_bytes, x))
        columns = Columns(x, layer.geometry, op)
        parts, works, explanation, released = self._worked(layer, packed, source, columns)
        free = explanation.choice.blocks > 1 and "column_blocks" not in explanation.given
        if free and not all(block_fits(work, machine) for work in works):
            # pruning left some columns far more than others
            parts, works, explanation, released = self._worked(layer, packed, source, columns, cuttable=False)
        if self.arithmetic is Arithmetic.NONE:
            return works, None, explanation, released
        decoded = DecodedWeights(layer, parts)

        def multiply() -> FloatArray:
            return _shaped(_products(decoded, columns, layer.geometry, self.arithmetic), op, x, layer.geometry)

        return works, self.passing.value(layer.name, (x,), multiply, decoded), explanation, released

    def _worked(
        self,
        layer: CompressedLayer,
        packed: PackedLayer,
        source: InputSource,
        columns: Columns,
        *,
        cuttable: bool = True,
    ) -> tuple[list[Part], list[LayerWork], Explanation, bool]:
        """Its parts of rows and its stages in the order that was searched, and whether it asks for tensors' room."""
        machine = self.machine
        search, explanation, released = self._search(layer, packed, source, cuttable)
        choice = explanation.choice
        parts = []
        for part, groups in row_parts(layer, choice.part_rows, machine.pe_array.elements):
            whole = choice.part_rows >= layer.geometry.out_channels
            bands = choice.blocks if self._decoded else 1
            mine = packed if whole and bands == 1 else self._laid_out(part, bands)
            multiplied = self.arithmetic is not Arithmetic.NONE
            parts.append(Part.decoded(part, groups, mine, multiplied=multiplied))
        works = stage_works([part.placed() for part in parts], columns, search, choice, machine)
        return parts, works, explanation, released

    def _search(
        self, layer: CompressedLayer, packed: PackedLayer, source: InputSource, cuttable: bool
    ) -> tuple[LoopSearch, Explanation, bool]:
        """The order of loops, in what tensors leave free or, where that moves less in all, in what they would take."""
        search = self._orders(layer, packed, source, cuttable)
        found = search.explain()
        if source.released is None or found.cost.dram_bytes <= found.least_bytes + source.crossing_bytes:
            return search, found, False
        roomy = self._orders(layer, packed, source.released, cuttable)
        other = roomy.explain()
        # bytes are saved, and time is not given up by a larger share than they are
        before, after = found.cost.dram_bytes, other.cost.dram_bytes + source.crossing_bytes
        if after < before and other.cost.cycles * after <= found.cost.cycles * before:
            return roomy, other, True
        return search, found, False

    def _orders(self, layer: CompressedLayer, packed: PackedLayer, source: InputSource, cuttable: bool) -> LoopSearch:
        demand = demand_of(layer, packed, self.machine, self.batch, source)
        return LoopSearch(replace(demand, cuttable=demand.cuttable and cuttable), self.machine)

    def _laid_out(self, layer: CompressedLayer, column_bands: int = 1) -> PackedLayer:
        """The layer or part packed, but that its bits are written when they are read: those of a layer worked in parts
        are not. In ``column_bands`` where decode units go through it block by block."""
        return lay_out(layer, self.storage, replace(self.shape, column_bands=column_bands), value_bits=VALUE_BITS)

    @property
    def _decoded(self) -> bool:
        """Whether weights pass decode units."""
        return Need.DECODER in storage_format(self.storage).needs

    @property
    def _bytes(self) -> bool:
        """Whether inputs of layers are rounded to int8: bytes are multiplied with bytes, and values are computed."""
        form = storage_format(self.storage)
        return form.integers and self.machine.formats.is_int8 and self.arithmetic is Arithmetic.FLOAT32

    def _steps(
        self,
        layer: CompressedLayer,
        op: Operation,
        inputs: Sequence[FloatArray],
        packed: PackedLayer,
        source: InputSource,
    ) -> tuple[list[LayerWork], FloatArray | None]:
        """A recurrent layer: every step is a pass that reads all weights and multiplies the state before the step."""
        packed = written(packed)
        weights = unpack(packed)
        as_held = as_bytes if self._bytes else np.asarray
        if self.arithmetic is Arithmetic.NONE:
            states = np.zeros((self.batch, layer.geometry.output_pixels, layer.geometry.in_channels), np.float32)
            states[:, :, ::2] = 1.0
            out = None
        else:

            def product(matrix: FloatArray, bias: FloatArray | None, h: FloatArray) -> FloatArray:
                return products(matrix, bias, np.ascontiguousarray(as_held(h).T)[None], 1, self.arithmetic).T

            projection = op.attributes.get("projection_weight")
            project = None if projection is None else partial(product, projection, None)
            out, states = steps(op.attributes, inputs, partial(product, weight_matrix(weights), weights.bias), project)
        columns = np.ascontiguousarray(states.transpose(2, 1, 0)).reshape(layer.geometry.in_channels, -1)
        tiling = step_tiling(layer.name, layer.geometry, self.batch, self.machine.pe_array)
        work = LayerWork(
            name=layer.name,
            geometry=layer.geometry,
            packed=packed,
            weights=weights,
            tiling=tiling,
            activity=activity_of(
                columns != 0,
                0,
                tiling,
                self.machine.pe_array.lanes,
                looks=looks_at_values(self.machine, packed),
            ),
            input_nonzeros=int(np.count_nonzero(columns)),
            multiplications=layer.nonzeros * tiling.pixels,
            input_span=(0, source.fetched_bytes),
            input_stays=False,
            input_blocks=input_blocks(self.machine, source.held_bytes),
            covered=1.0,
        )
        return [work], out


def _products(decoded: DecodedWeights, columns: Columns, geometry: Geometry, arithmetic: Arithmetic) -> FloatArray:
    """float32[out_channels, pixels]; fixed point asks for all of a layer's input before it multiplies any."""
    if arithmetic is not Arithmetic.FLOAT32:
        return products(decoded.rows, decoded.bias, columns.values, geometry.groups, arithmetic)
    out = np.empty((geometry.out_channels, 0), np.float32)
    for pixels, values in columns.blocks():
        found = products(decoded.rows, decoded.bias, values, geometry.groups, arithmetic)
        if pixels == slice(None):
            return found
        if not out.size:
            out = np.empty((geometry.out_channels, geometry.output_pixels), np.float32)
        out[:, pixels] = found
    return out


def _shaped(out: FloatArray, op: Operation, x: FloatArray, geometry: Geometry) -> FloatArray:
    if op.kind in CONVOLUTIONS:
        shaped = out.reshape(geometry.out_channels, x.shape[0], *geometry.out_size).swapaxes(0, 1)
    else:
        shaped = out.T.reshape(*x.shape[:-1], geometry.out_channels)
    return np.ascontiguousarray(shaped)
