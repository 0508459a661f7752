"""Which tensors cross to DRAM.

A tensor stays in the activation SRAM from the layer that makes it to the last that reads it, if everything live at its
making fits what streams leave free (`dchw.mapping.rooms.tensor_room`); otherwise it is written to DRAM and read again
by every layer that needs it. Where the room is worth more to a layer's own input than a tensor that would begin to stay
with it saves, that tensor crosses too. Inputs come from DRAM; outputs of the
network go there, also those that its own layers read where they stay.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dchw.graph.network import Network, Operation, OperationKind
from dchw.machines.machine import Machine
from dchw.mapping.rooms import tensor_room
from dchw.quantities import ceil_div


@dataclass(frozen=True, kw_only=True)
class TensorPlan:
    """What every layer, with the operations behind it, reads from DRAM and writes there."""

    stage_of: Mapping[str, int]
    """Index of the layer that each operation is worked with."""
    loads: tuple[Mapping[str, int], ...]
    """Per layer: tensors read from DRAM and their bytes."""
    stores: tuple[Mapping[str, int], ...]
    """Per layer: tensors written to DRAM and their bytes."""
    held: tuple[Mapping[str, int], ...]
    """Per layer: tensors that lie in the SRAM whole while it is worked, its own outputs included, and their bytes."""


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """Where a layer finds its input, and what else lies in the activation SRAM meanwhile."""

    fetched_bytes: int = 0
    """Bytes that come from DRAM; 0 where the layer before left it on the chip."""
    kept: bool = False
    """Whether what comes from there stays for another layer."""
    held_bytes: int = 0
    """Other tensors that stay."""
    crossing_bytes: int = 0
    """What would cross the DRAM more if those that begin to stay with this layer did not; 0 where none does."""
    released: InputSource | None = None
    """How the layer finds it then."""


class TensorPlanner:
    """Decides layer by layer: what fits stays, unless a layer asks for the room (`release`)."""

    def __init__(
        self,
        graph: Network,
        layers: Sequence[str],
        sizes: Mapping[str, int],
        room_bytes: int,
        released: Collection[str] = (),
    ) -> None:
        """``layers`` in the graph's order, ``sizes`` the bytes of every operation's value, ``room_bytes`` what may
        stay, ``released`` the layers with which nothing may begin to."""
        self._layers, self._sizes, self._room = tuple(layers), sizes, room_bytes
        self.released = set(released)
        """Layers with which nothing begins to stay."""
        self._input = {op.name: op.inputs[0] for op in graph.operations if op.name in layers}
        self._operations: list[list[Operation]] = [[] for _ in layers]
        index = {name: number for number, name in enumerate(layers)}
        self._stage_of: dict[str, int] = {}
        self._readers: dict[str, list[int]] = {op.name: [] for op in graph.operations}
        for op in graph.operations:
            before = max((self._stage_of[name] for name in op.inputs), default=-1)
            stage = self._stage_of[op.name] = index.get(op.name, max(before, 0))
            self._operations[stage].append(op)
            for name in op.inputs:
                self._readers[name].append(stage)
        self._outputs = set(graph.outputs)
        self._on_dram = {op.name for op in graph.operations if op.kind in (OperationKind.INPUT, OperationKind.CONSTANT)}
        self._kept: dict[str, int] = {}  # tensors on chip -> bytes
        self._fresh: dict[str, int] = {}  # of these, those that began to stay with the last layer
        self._loads: list[dict[str, int]] = []
        self._stores: list[dict[str, int]] = []
        self._held: list[dict[str, int]] = []

    def advance(self) -> InputSource:
        """Decide for the next layer; where it finds its input."""
        index = len(self._held)
        layer, tensor = self._layers[index], self._input[self._layers[index]]
        self._kept = {name: size for name, size in self._kept.items() if self._last(name) >= index}
        before = dict(self._kept)
        loads, stores = self._load(index), self._make(index)
        self._loads.append(loads)
        self._stores.append(stores)
        self._held.append(dict(self._kept))
        self._fresh = {name: size for name, size in self._kept.items() if name not in before}
        if layer in self.released:
            self.release()
        with_all = self._source(index, tensor, self._held[index])
        if not self._fresh or not loads.get(tensor):
            return with_all
        crossing = sum(
            size * (len({stage for stage in self._readers[name] if stage > index}) + (name not in self._on_dram))
            for name, size in self._fresh.items()
        )
        return replace(with_all, crossing_bytes=crossing, released=self._source(index, tensor, before))

    def release(self) -> None:
        """Let nothing begin to stay with the layer decided last."""
        self.released.add(self._layers[len(self._held) - 1])
        for name, size in self._fresh.items():
            del self._kept[name]
            del self._held[-1][name]
            if name not in self._on_dram:
                self._stores[-1][name] = size
                self._on_dram.add(name)
        self._fresh = {}

    def plan(self) -> TensorPlan:
        """What was decided, and for all layers that are left."""
        while len(self._held) < len(self._layers):
            self.advance()
        return TensorPlan(
            stage_of=self._stage_of, loads=tuple(self._loads), stores=tuple(self._stores), held=tuple(self._held)
        )

    def _last(self, name: str) -> int:
        """The last layer that reads a tensor; -1 where none does."""
        return max(self._readers[name], default=-1)

    def _load(self, index: int) -> dict[str, int]:
        loads: dict[str, int] = {}
        for op in self._operations[index]:
            for name in op.inputs:
                if name in self._on_dram and name not in self._kept:
                    loads[name] = self._sizes[name]
        for name, size in loads.items():
            if self._last(name) > index and sum(self._kept.values()) + size <= self._room:
                self._kept[name] = size
        return loads

    def _make(self, index: int) -> dict[str, int]:
        stores: dict[str, int] = {}
        for op in self._operations[index]:
            name, size = op.name, self._sizes[op.name]
            if name in self._on_dram:
                continue
            wanted = self._last(name) > index
            stays = wanted and sum(self._kept.values()) + size <= self._room
            if stays:
                self._kept[name] = size
            if name in self._outputs or (wanted and not stays):
                stores[name] = size
                self._on_dram.add(name)
        return stores

    def _source(self, index: int, tensor: str, held: Mapping[str, int]) -> InputSource:
        fetched = self._loads[index].get(tensor, 0)
        others = sum(size for other, size in held.items() if other != tensor or not fetched)
        return InputSource(fetched_bytes=fetched, kept=fetched > 0 and tensor in held, held_bytes=others)


def tensor_planner(graph: Network, layers: Sequence[str], machine: Machine, batch: int) -> TensorPlanner:
    """A planner that knows shapes only, before anything is computed.

    Shapes that the graph does not state count as nothing that stays.
    """
    bits = machine.formats.activations.bits
    sizes = {
        op.name: machine.activation_sram.size_bytes + 1
        if op.output_shape is None
        else ceil_div((1 if op.name in graph.fixed else batch) * math.prod(op.output_shape) * bits, 8)
        for op in graph.operations
    }
    return TensorPlanner(graph, layers, sizes, tensor_room(machine))
