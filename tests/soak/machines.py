"""Random whole machines with random networks, through both engines."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import dchw
from dchw.engines.difference import first_difference
from dchw.formats import STORAGE_FORMATS
from dchw.graph.network import Network, Operation, OperationKind
from dchw.graph.shapes import output_shape
from dchw.lowering.lower import lower
from dchw.mapping.workload import map_network
from dchw.run.simulation import run_program
from tests.soak.tally import Tally, WrongError

_FIXED = {"clock": "1 GHz", "bytes_per_cycle": 8, "latency": 20, "burst_size": "32 B"}
_RATE = {"rate_low": 1, "rate_high": 6, "zeros_low": 0.2, "zeros_high": 0.9}
_STANDARDS = ("LPDDR4-3200", "LPDDR4X-4266", "LPDDR5-6400", "LPDDR5X-8533", "LPDDR6-10667")


class _Graph:
    """A network that grows operation by operation."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        self._rng = rng
        self.operations = [Operation(name="x", kind=OperationKind.INPUT, output_shape=shape)]

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.operations[-1].output_shape
        assert shape is not None
        return shape

    def add(self, kind: OperationKind, weight: tuple[int, ...] | None = None, *others: str, **attributes: Any) -> str:
        """One more operation behind the last one (and ``others``)."""
        sources = (self.operations[-1].name, *others)
        shapes = [op.output_shape for name in sources for op in self.operations if op.name == name]
        values = None if weight is None else self._rng.standard_normal(weight, dtype=np.float32)
        name = f"{kind.value}_{len(self.operations)}"
        shape = output_shape(kind, attributes, weight, [s for s in shapes if s is not None])
        bias = None if weight is None else self._rng.standard_normal(weight[0], dtype=np.float32)
        self.operations.append(
            Operation(
                name=name, kind=kind, inputs=sources, attributes=attributes, weight=values, bias=bias,
                output_shape=shape,
            )
        )  # fmt: skip
        return name


def _image_network(rng: np.random.Generator) -> list[Operation]:
    """Convolutions with groups, strides, a pool and a sum around one, and a linear layer behind."""
    size, channels = int(rng.integers(3, 9)), 2 * int(rng.integers(1, 4))
    graph = _Graph(rng, (channels, size, size))
    for _ in range(int(rng.integers(1, 3))):
        given = graph.shape[0]
        groups = int(rng.choice([1, 1, given, 2 if given % 2 == 0 else 1]))
        out = groups * int(rng.integers(1, 5))
        kernel = int(rng.choice([1, 3]))
        stride = int(rng.integers(1, 3))
        padding = kernel // 2
        graph.add(
            OperationKind.CONV2D, (out, given // groups, kernel, kernel),
            stride=(stride, stride), padding=(padding, padding), dilation=(1, 1), groups=groups,
        )  # fmt: skip
        before = graph.add(OperationKind.ACTIVATION, function="relu")
        if rng.random() < 0.4:
            graph.add(OperationKind.CONV2D, (out, out, 3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
            graph.add(OperationKind.ADD, None, before)
        if rng.random() < 0.3 and min(graph.shape[1:]) >= 2:
            graph.add(
                OperationKind.MAX_POOL2D, kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1), ceil_mode=False
            )
    graph.add(OperationKind.FLATTEN)
    graph.add(OperationKind.LINEAR, (int(rng.integers(1, 12)), graph.shape[0]))
    return graph.operations


def _dense_network(rng: np.random.Generator) -> list[Operation]:
    """Linear layers one behind the other."""
    graph = _Graph(rng, (int(rng.integers(1, 64)),))
    for _ in range(int(rng.integers(1, 4))):
        graph.add(OperationKind.LINEAR, (int(rng.integers(1, 64)), graph.shape[0]))
        graph.add(OperationKind.ACTIVATION, function="relu")
    return graph.operations


def network_of(rng: np.random.Generator, batch: int) -> dchw.CompressedNetwork:
    """A small network, pruned and shared at random, with recorded inputs or without."""
    operations = (_image_network if rng.random() < 0.5 else _dense_network)(rng)
    shape = operations[0].output_shape
    assert shape is not None
    example = {} if rng.random() < 0.3 else {"x": rng.random((batch, *shape), dtype=np.float32) * (rng.random() < 0.9)}
    network = Network(name="random", operations=tuple(operations), example_inputs=example)
    recipe = dchw.Recipe(
        density=float(rng.choice([0.02, 0.1, 0.4, 1.0])),
        codebook_bits=int(rng.integers(1, 6)),
        index_bits=int(rng.integers(1, 7)),
    )
    return dchw.compress(network, recipe)


def changes_of(rng: random.Random) -> dict[str, object]:
    """Fields of a machine drawn anew, so that tight queues and small buffers meet wide arrays and slow memories."""
    elements = 2 ** rng.randint(0, 5)
    style = rng.choice(["table", "table", "bit_serial", "multi_symbol", "rate"])
    return {
        "pe_array.elements": elements,
        "pe_array.lanes": 2 ** rng.randint(0, 3),
        "pe_array.queue_depth": rng.randint(1, 9),
        "pe_array.accumulators": rng.choice([16, 64, 1024]),
        "pe_array.tile": rng.choice([1, 2, 8]),
        "huffman.style": style,
        "huffman.rate": _RATE if style == "rate" else None,
        "huffman.placement": rng.choice(["use", "load"]),
        "huffman.units": rng.choice([elements * 2 ** rng.randint(0, 1), max(1, elements >> rng.randint(0, 3))]),
        "huffman.output_queue": rng.randint(2 if style == "multi_symbol" else 1, 9),
        "huffman.chunk_entries": rng.choice([4, 16, 64, 1024]),
        "huffman.chunk_start_cycles": rng.randint(0, 3),
        "huffman.bits_per_cycle": rng.randint(1, 4),
        "codebook.shared_by": rng.choice([1, elements]),
        "codebook.ports": rng.randint(1, 3),
        "codebook.latency_cycles": rng.randint(1, 3),
        "dma.outstanding": rng.randint(1, 32),
        "dma.request_bytes": rng.choice(["64 B", "256 B"]),
        "dma.staging_bytes": f"{rng.choice([4, 16, 64])} KiB",
        "weight_sram.size_bytes": f"{rng.choice([4, 16, 512])} KiB",
        "weight_sram.banks": 2 ** rng.randint(0, 4),
        "weight_sram.access_cycles": rng.randint(1, 2),
        "activation_sram.size_bytes": f"{rng.choice([4, 16, 512])} KiB",
        "activation_sram.banks": 2 ** rng.randint(0, 3),
        "vector.values_per_cycle": rng.randint(1, 16),
        "pointers": rng.choice(["made", "stored"]),
    }


def machine_of(rng: random.Random) -> dchw.Machine:
    """A preset with most of what tells machines apart drawn anew."""
    fixed = rng.random() < 0.3
    memory: dict[str, object] = {
        "dram.standard": None if fixed else rng.choice(_STANDARDS),
        "dram.fixed": {**_FIXED, "bytes_per_cycle": rng.choice([1, 8, 32]), "latency": rng.randint(1, 60)}
        if fixed
        else None,
        "dram.channels": 2 ** rng.randint(0, 2),
    }
    if not fixed:
        memory["dram.controller.row_policy"] = rng.choice(["open", "closed", "timeout"])
        memory["dram.controller.read_queue"] = rng.choice([2, 8, 32])
        memory["dram.controller.rest_of_chip"] = rng.choice([0.0, 0.3])
    preset = rng.choice(["phone-lpddr5x", "phone-lpddr4x", "embedded-lpddr4", "ethos-u85-like"])
    changes: Mapping[str, object] = {**memory, **changes_of(rng)}
    return dchw.machine(preset).replace_all(changes)


def machine_trial(seed: int) -> str:
    """One machine and network by number: equal, or `WrongError`; raises DchwError where it is refused."""
    rng, drawn = random.Random(seed), np.random.default_rng(seed)
    storage, batch = rng.choice(sorted(STORAGE_FORMATS)), rng.choice([1, 1, 3])
    machine = machine_of(rng)
    program = lower(map_network(network_of(drawn, batch), machine, storage, batch=batch), warm=rng.random() < 0.3)
    fast, slow = (run_program(program, engine, record=True) for engine in ("fast", "reference"))
    difference = first_difference(fast, slow, program)
    if difference:
        raise WrongError(f"the engines differ: {difference}")
    return "equal"


def soak_machines(tally: Tally, until: float, seed: int) -> None:
    """Machines until the time is over; each is a number, so that any can be run again alone."""
    number = seed * 1_000_000
    while time.monotonic() < until:
        number += 1
        tally.tried("whole machine", f"machine_trial({number})", lambda number=number: machine_trial(number))
