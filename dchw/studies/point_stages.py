"""One point, stage by stage, each stage done again only where what it reads has changed.

Mapping (packing, decoding, the forward pass) is kept by network, storage format and the machine's fields it read;
lowering, and what units count, by the content of the mapping and the fields those read; a run by the content of its
program; prices are always made. What each stage reads is watched (`dchw.studies.watching`), never listed. A program
that is kept is open in what decides none of its lists (`dchw.lowering.lower.OpenProgram`), so that a queue's depth or
another DRAM costs a run and no lowering. A mapping, or a forward pass, that took long is kept on disk too
(`dchw.studies.shelf`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from dchw.compression.compressed import CompressedNetwork
from dchw.engines.result import Timing
from dchw.formats import PackShape, decodes_to, pack, storage_format, unpack
from dchw.lowering.counts import EventCount
from dchw.lowering.lower import LoweredWindows, OpenProgram
from dchw.machines.machine import Machine
from dchw.mapping.arithmetic import Arithmetic
from dchw.mapping.given import VALUE_BITS
from dchw.mapping.passing import ForwardPass
from dchw.mapping.workload import Workload, map_network
from dchw.program.outline import Outline, Outlined, outline_of
from dchw.run.comparison import measures
from dchw.run.sim_result import SimResult
from dchw.run.simulation import counted, priced, run_program
from dchw.studies import watching
from dchw.studies.alike import same_stages
from dchw.studies.shelf import Shelf
from dchw.studies.watching import Latest, Remembered, Watch, array_bytes

WORKLOAD_BYTES, PROGRAM_BYTES, RUN_BYTES = 128 << 20, 256 << 20, 128 << 20
"""Memory of one process for kept workloads, programs and runs. One workload and one program stay whatever their size:
the points that follow share them. While another program is made, the kept ones take at most half of theirs."""
_PASS = "forward pass"
BYTES_OF_A_NODE = 1024
"""What is kept of a node or a link: its name, its figures and their objects, rounded up."""
BYTES_OF_A_COUNT = 512
"""And of a count."""
_COUNTS_BYTES = 16 << 20


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

    def __init__(
        self,
        *,
        workload_bytes: int = WORKLOAD_BYTES,
        program_bytes: int = PROGRAM_BYTES,
        run_bytes: int = RUN_BYTES,
        shelf: Shelf | None = None,
    ) -> None:
        self.shelf = shelf
        """Where mappings that took long are kept for other processes and later starts."""
        self._passes: dict[Hashable, ForwardPass] = {}
        self._mapped: Remembered[Machine, Workload] = Remembered(workload_bytes)
        self._lowered: Remembered[Machine, _Lowered] = Remembered(program_bytes, _program_bytes)
        self._ran: Latest[Timing] = Latest(run_bytes, _run_bytes)
        self._facts: dict[Hashable, dict[str, object]] = {}

    @property
    def made(self) -> tuple[int, int, int]:
        """How often mapping, lowering and running had to be done."""
        return self._mapped.made, self._lowered.made, self._ran.made

    def simulate(self, key: Hashable, network: CompressedNetwork, machine: Machine, run: RunOptions) -> SimResult:
        """As `dchw.simulate`; ``key`` stands for the network's content."""
        given, machine = machine, machine.working(storage_format(run.storage))
        about = (key, run.storage, run.batch, run.seed, run.arithmetic)

        def mapped(watch: Watch[Machine]) -> Workload:
            passing = self._passing((key, run.batch, run.seed, run.arithmetic))
            made = map_network(
                network,
                watch.config,
                run.storage,
                batch=run.batch,
                seed=run.seed,
                arithmetic=Arithmetic(run.arithmetic),
                passing=passing,
            )
            self._keep_pass(passing)
            settled = watch.settle(replace(made, given=given, machine=machine))
            # another DRAM or buffer often leads to the very same stages: what follows from them need not be done again
            before = (other for other in self._mapped.known(about) if same_stages(other.stages, settled.stages))
            return replace(settled, stages=next(before, settled).stages)

        def lowered(watch: Watch[Machine]) -> _Lowered:
            watched = replace(shared, given=watch.config, machine=watch.config, mapping=(), outputs={})
            return _Lowered(program=OpenProgram(watched, machine, warm=run.warm))

        def events(watch: Watch[Machine]) -> tuple[EventCount, ...]:
            return counted(replace(workload, machine=watch.config), outline)

        shared = self._mapped.get(about, machine, mapped, self.shelf)
        workload = replace(shared, given=given, machine=machine)
        # what is kept is alive, so that its identity is its own
        made = self._lowered.get((about, _Same(shared.stages), shared.notes, run.warm), machine, lowered)
        program = made.program.on(machine)
        # what flows is no part of the digest: programs of equal timing may differ in it
        outline, digest = outline_of(program), program.digest
        timing = self._ran.get(digest, lambda: replace(run_program(program, "fast"), program=None))
        known = _KnownProgram(workload, outline, digest, warm=run.warm)
        return priced(
            workload,
            known,
            replace(timing, program=known),
            engine="fast",
            warm=run.warm,
            counts=made.counts.get(None, machine, events),
        )

    def _passing(self, about: Hashable) -> ForwardPass:
        """Values between layers, computed once for all storage formats and machines; those of the last network stay,
        and, where they took long, on disk."""
        if about not in self._passes:
            known = None if self.shelf is None else self.shelf.take((_PASS, about), lambda place: None)
            self._passes = {about: ForwardPass(known=known)}
        return self._passes[about]

    def _keep_pass(self, passing: ForwardPass) -> None:
        """Put a pass on the shelf when it took long since it was last put there."""
        if self.shelf is not None and passing.computed and passing.seconds > watching.DEAR_SECONDS:
            (about,) = self._passes
            self.shelf.put((_PASS, about), {}, passing.known)
            passing.seconds = 0.0

    def row(self, key: Hashable, network: CompressedNetwork, machine: Machine, run: RunOptions) -> dict[str, object]:
        """The figures of one point, as a line of `dchw.compare` has them, and the program's digest.

        ``error_pct`` is the error measured on the network, and None where none was or where the storage format does
        not keep its weights bit for bit.
        """
        result = self.simulate(key, network, machine, run)
        if (key, run.storage) not in self._facts:
            error = network.results.get("error_percent")
            if error is not None and not _keeps_weights(network, run.storage):
                error = None
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


def _keeps_weights(network: CompressedNetwork, storage: str) -> bool:
    """Whether a storage format gives all weights and biases back bit for bit, on whatever machine."""
    shape = PackShape(elements=1, decoders=1)
    packed = ((layer, pack(layer, storage, shape, value_bits=VALUE_BITS)) for layer in network.layers)
    return all(decodes_to(unpack(coded), layer) for layer, coded in packed)


def _no_counts() -> Remembered[Machine, tuple[EventCount, ...]]:
    return Remembered(_COUNTS_BYTES, lambda counts: BYTES_OF_A_COUNT * len(counts))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lowered:
    """What is kept of lowering: the program, and what units count in a run of it."""

    program: OpenProgram
    counts: Remembered[Machine, tuple[EventCount, ...]] = field(default_factory=_no_counts)


def _program_bytes(lowered: _Lowered) -> int:
    """What a kept program takes: its lists, and the same once more as the engine has them."""
    return 2 * array_bytes(lowered.program.program)


def _run_bytes(timing: Timing) -> int:
    """About what a kept run takes."""
    return array_bytes(timing.memory) + BYTES_OF_A_NODE * (len(timing.nodes) + len(timing.links))


class _KnownProgram(Outlined):
    """The program of a run that is known, lowered again for who asks for its lists."""

    def __init__(self, workload: Workload, outline: Outline, digest: str, *, warm: bool) -> None:
        super().__init__(LoweredWindows(workload, warm=warm))
        self._outline, self.digest = outline, digest

    def outline(self) -> Outline:
        """Its outline, which is at hand."""
        return self._outline


class _Same:
    """Equal only for one and the same value, which it keeps alive."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)
