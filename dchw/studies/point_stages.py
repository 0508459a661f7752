"""One point, stage by stage, each stage done again only where what it reads has changed.

Mapping (packing, decoding, the forward pass) is kept by network, storage format and the machine's fields it read;
lowering and the run by the mapping and the fields those read; prices are always made. What each stage reads is
watched (`dchw.studies.watching`), never listed. A mapping that took long is kept on disk too (`dchw.studies.shelf`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from dchw.compression.compressed import CompressedNetwork
from dchw.engines.result import Timing
from dchw.formats import storage_format, weight_matrix
from dchw.graph.network import FloatArray
from dchw.lowering.lower import LoweredWindows, lower
from dchw.machines.machine import Machine
from dchw.mapping.arithmetic import Arithmetic
from dchw.mapping.passing import ForwardPass
from dchw.mapping.workload import Workload, map_network
from dchw.program.outline import Outline, Outlined, outline_of
from dchw.run.comparison import measures
from dchw.run.sim_result import SimResult
from dchw.run.simulation import priced, run_program
from dchw.studies.shelf import Shelf
from dchw.studies.watching import Remembered, Watch, array_bytes

MOST_BYTES = 256 << 20
"""Memory for kept workloads, and as much again for kept runs, of one process."""
BYTES_OF_A_NODE = 1024
"""What is kept of a node or a link: its name, its figures and their objects, rounded up."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a point asks of the simulator, besides its machine."""

    storage: str
    batch: int = 1
    warm: bool = False
    seed: int = 0
    arithmetic: str = "float32"


class Stages:
    """Keeps what points share, within one process."""

    def __init__(self, most_bytes: int = MOST_BYTES, shelf: Shelf | None = None) -> None:
        self.shelf = shelf
        """Where mappings that took long are kept for other processes and later starts."""
        self._passes: dict[Hashable, ForwardPass] = {}
        self._mapped: Remembered[Machine, Workload] = Remembered(most_bytes)
        self._ran: Remembered[Machine, _KeptRun] = Remembered(most_bytes, _run_bytes)
        self._facts: dict[Hashable, dict[str, object]] = {}

    @property
    def made(self) -> tuple[int, int]:
        """How often mapping and running had to be done."""
        return self._mapped.made, self._ran.made

    def simulate(self, key: Hashable, network: CompressedNetwork, machine: Machine, run: RunOptions) -> SimResult:
        """As `dchw.simulate`; ``key`` stands for the network's content."""
        given, machine = machine, machine.working(storage_format(run.storage))
        about = (key, run.storage, run.batch, run.seed, run.arithmetic)

        def mapped(watch: Watch[Machine]) -> Workload:
            made = map_network(
                network,
                watch.config,
                run.storage,
                batch=run.batch,
                seed=run.seed,
                arithmetic=Arithmetic(run.arithmetic),
                passing=self._passing((key, run.batch, run.seed, run.arithmetic)),
            )
            return watch.settle(replace(made, given=given, machine=machine))

        def ran(watch: Watch[Machine]) -> _KeptRun:
            program = lower(replace(workload, machine=watch.config), warm=run.warm)
            timing = run_program(program, "fast")
            outline = watch.settle(outline_of(program))  # a machine's section is nowhere else in it
            return _KeptRun(outline=outline, timing=replace(timing, program=None), digest=program.digest)

        shared = self._mapped.get(about, machine, mapped, self.shelf)
        workload = replace(shared, given=given, machine=machine)
        # a workload that is kept is alive, so that its identity is its own
        kept = self._ran.get((about, _Same(shared), run.warm), machine, ran)
        known = _KnownProgram(workload, kept, warm=run.warm)
        return priced(workload, known, replace(kept.timing, program=known), engine="fast", warm=run.warm)

    def _passing(self, about: Hashable) -> ForwardPass:
        """Values between layers, computed once for all storage formats and machines; those of the last network stay."""
        if about not in self._passes:
            self._passes = {about: ForwardPass()}
        return self._passes[about]

    def row(self, key: Hashable, network: CompressedNetwork, machine: Machine, run: RunOptions) -> dict[str, object]:
        """The figures of one point, as a line of `dchw.compare` has them, and the program's digest.

        ``error_pct`` is the error measured on the network, and None where none was or where the storage format does
        not keep its weights bit for bit.
        """
        result = self.simulate(key, network, machine, run)
        if (key, run.storage) not in self._facts:
            error = network.results.get("error_percent") if _keeps_weights(network, result.workload) else None
            self._facts[key, run.storage] = {
                "file_bytes": storage_format(run.storage).file_bytes(network),
                "error_pct": None if error is None else float(error),
            }
        return {
            **self._facts[key, run.storage],
            **measures(result),
            "energy_pj": result.energy_pj,
            "program_digest": result.timing.program_digest[:16],
        }


def _keeps_weights(network: CompressedNetwork, workload: Workload) -> bool:
    parts: dict[str, list[FloatArray]] = {}
    for stage in workload.stages:
        parts.setdefault(stage.layer.name, []).append(weight_matrix(stage.layer.weights))
    stored = {name: np.concatenate(rows).ravel() for name, rows in parts.items()}
    return all(np.array_equal(stored[x.name], x.weight.ravel()) for x in network.layers if x.name in stored)


@dataclass(frozen=True, kw_only=True, eq=False)
class _KeptRun:
    """What is kept of a run: not its program, whose lists are most of it."""

    outline: Outline
    timing: Timing
    digest: str


def _run_bytes(ran: _KeptRun) -> int:
    """About what a kept run takes."""
    return array_bytes(ran.timing.memory) + BYTES_OF_A_NODE * (len(ran.timing.nodes) + len(ran.timing.links))


class _KnownProgram(Outlined):
    """The program of a run that is known, lowered again for who asks for its lists."""

    def __init__(self, workload: Workload, ran: _KeptRun, *, warm: bool) -> None:
        super().__init__(LoweredWindows(workload, warm=warm))
        self._ran = ran
        self.digest = ran.digest

    def outline(self) -> Outline:
        """Its outline, which was kept."""
        return self._ran.outline


class _Same:
    """Equal only for one and the same value, which it keeps alive."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)
