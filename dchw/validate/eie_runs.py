"""EIE's benchmark layers as networks with random zeros, and whole runs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.compression.compressed import CompressedLayer, CompressedNetwork, Representation, graph_of
from dchw.costs import CostReport
from dchw.engines.fast import engine as fast_engine
from dchw.engines.result import Timing
from dchw.formats import Entries
from dchw.graph.network import Network, placeholder
from dchw.lowering.context import ELEMENT, Role, node_name
from dchw.lowering.lower import lower
from dchw.machines.machine import Machine
from dchw.machines.units.unit import MEMORY
from dchw.mapping.workload import map_network
from dchw.run.simulation import priced
from dchw.tables import read_table

Int64s = npt.NDArray[np.int64]
INDEX_BITS, CODE_BITS = 4, 4
PUBLISHED_CHIP_MW = 590
"""EIE, Table V: 64 elements at 45 nm and 800 MHz."""


@dataclass(frozen=True, kw_only=True)
class EieLayer:
    """A layer of EIE's benchmark: a matrix product with one input vector."""

    name: str
    inputs: int
    outputs: int
    weight_density: float
    activation_density: float
    theoretical_us: float
    actual_us: float


def eie_layers() -> list[EieLayer]:
    """The six layers whose times the paper prints (its Tables III and IV)."""
    return [
        EieLayer(
            name=row["layer"],
            inputs=int(row["in"]),
            outputs=int(row["out"]),
            weight_density=float(row["weight_density_pct"]) / 100,
            activation_density=float(row["act_density_pct"]) / 100,
            theoretical_us=float(row["eie_theoretical_us"]),
            actual_us=float(row["eie_actual_us"]),
        )
        for row in read_table("eie_benchmarks.csv")
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeRun:
    """What one whole run of a layer gave."""

    cycles: int
    """From the first broadcast to the end of the last entry."""
    work: Int64s
    """int64[broadcast columns, elements] entries."""
    entries: int
    fillers: int
    packed_bytes: int
    resident: bool
    costs: CostReport
    """The whole account; hand-over of sums and output path included."""

    @property
    def chip_mw(self) -> float:
        """Average power of everything on the chip, without the DRAM."""
        return sum(self.power_mw().values())

    def power_mw(self) -> Mapping[tuple[str, str], float]:
        """Average power by unit and event, without the DRAM."""
        power: dict[tuple[str, str], float] = {}
        for row in self.costs.rows:
            if row.category != MEMORY:
                milliwatts = row.energy_pj / self.costs.seconds * 1e-9
                power[row.unit, row.event] = power.get((row.unit, row.event), 0.0) + milliwatts
        return power

    def events(self, unit: str, event: str) -> float:
        """How often a unit did what."""
        return sum(row.count for row in self.costs.rows if (row.unit, row.event) == (unit, event))

    @classmethod
    def of(cls, layer: EieLayer, target: Machine, seed: int) -> WholeRun:
        """Pack, decode, lower and run one layer with random codes and activations."""
        workload = map_network(_network(layer, rng_of(layer, seed)), target, "shared")
        program = lower(workload, warm=True)
        timing = fast_engine.run(program, record=True)
        costs = priced(workload, program, timing, engine="fast", warm=True).costs
        work = workload.stages[0].layer
        assert isinstance(work.weights, Entries)
        key = work.weights.job.astype(np.int64) * target.pe_array.elements + work.weights.element
        counts = np.bincount(key, minlength=work.packed.jobs * target.pe_array.elements)
        counts = counts.reshape(-1, target.pe_array.elements)[work.activity[0] > 0]
        asking = node_name(target, target.dma, Role.ASK_WEIGHTS)
        return cls(
            cycles=_multiplying(target, timing),
            work=counts.astype(np.int64),
            entries=work.packed.entries,
            fillers=work.packed.fillers,
            packed_bytes=work.packed.total_bytes,
            resident=all(node.name != asking for node in program.nodes),
            costs=costs,
        )


def _multiplying(target: Machine, timing: Timing) -> int:
    """Cycles from the first broadcast to the end of the last entry, the hand-over of sums left out."""
    broadcast = timing.nodes[node_name(target, target.activation_sram, Role.BROADCAST)].start
    assert broadcast is not None
    last = 0
    for name, node in timing.nodes.items():
        if name.startswith(f"{ELEMENT}["):
            assert node.finish is not None
            last = max(last, int(node.finish[-2]))
    return last - int(broadcast[1])  # firing 0 opens the pass


def _network(layer: EieLayer, rng: np.random.Generator) -> CompressedNetwork:
    """A network of one layer with random codes where weights stay, and a random input."""
    shape = (layer.outputs, layer.inputs)
    codes = np.zeros(shape, np.uint8)
    for row in codes:
        kept = rng.random(layer.inputs, dtype=np.float32) < np.float32(layer.weight_density)
        row[kept] = rng.integers(1, 1 << CODE_BITS, int(kept.sum()), dtype=np.uint8)
    x = (rng.random((1, layer.inputs)) < layer.activation_density).astype(np.float32)
    graph = Network.from_arrays(layer.name, {layer.name: placeholder(shape)}, inputs={layer.name: x})
    return with_codes(graph, [codes], code_bits=CODE_BITS, index_bits=INDEX_BITS)


def with_codes(
    graph: Network, codes: list[npt.NDArray[np.uint8]], code_bits: int, index_bits: int
) -> CompressedNetwork:
    """Layers with given codes and evenly spaced shared values."""
    codebook = np.append(0, np.linspace(-1, 1, (1 << code_bits) - 1)).astype(np.float32)
    layers = tuple(
        CompressedLayer(
            name=layer.name,
            codes=array,
            codebook=codebook,
            bias=None,
            geometry=layer.geometry,
            kind=layer.kind,
            input=layer.input,
            parameter=layer.parameter,
            representation=Representation(codebook_bits=code_bits, index_bits=index_bits),
        )
        for layer, array in zip(graph.layers, codes, strict=True)
    )
    return CompressedNetwork(graph=graph_of(graph), layers=layers)


def rng_of(layer: EieLayer, seed: int) -> np.random.Generator:
    """The generator of one seed's zeros of a layer."""
    return np.random.default_rng([seed, layer.inputs, layer.outputs, round(1e4 * layer.activation_density)])
