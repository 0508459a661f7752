"""Networks, machines and storage formats in one table: `dchw.compare` for several of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dchw.compression.compressed import CompressedNetwork
from dchw.costs import per_frame
from dchw.dram.idle import IdleState
from dchw.run.comparison import comparison_row
from dchw.run.sim_result import SimResult
from dchw.run.simulation import Engine, simulate
from dchw.run.verdict import Standing, standing, verdict
from dchw.studies.variants import Variant

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """A table with what a reader must know to trust it."""

    frame: pd.DataFrame
    """One row per network, machine and storage format: the columns of `dchw.compare`, behind ``network``,
    ``machine`` and a column per changed field."""
    notes: tuple[str, ...]
    verdicts: tuple[str, ...] = ()
    """For every network on every machine what its storage formats come to, where several are compared
    (`dchw.run.verdict`)."""


def side_by_side(
    networks: Mapping[str, CompressedNetwork],
    machines: Sequence[Variant],
    storages: Sequence[str],
    *,
    engine: Engine = "fast",
    batch: int = 1,
    warm: bool = False,
    fps: float | None = None,
    dram_idle: IdleState = "self-refresh",
    on_row: Callable[[], None] = lambda: None,
) -> SideBySide:
    """Run every network on every machine in every storage format; ``on_row`` is called after each run.

    ``networks`` are named by where they come from: two files may hold networks of one name.
    """
    import pandas as pd

    rows: list[dict[str, object]] = []
    verdicts: list[str] = []
    notes: dict[str, None] = {}
    names = distinct_names({path: network.name for path, network in networks.items()})
    for path, network in networks.items():
        for variant in machines:
            standings: list[Standing] = []
            for storage in storages:
                result = simulate(network, variant.machine, storage, engine, batch=batch, warm=warm)
                row: dict[str, object] = {"network": names[path], "machine": variant.machine.name, **variant.changes}
                row |= comparison_row(network, result)
                if fps is not None:
                    row["energy_per_frame_nj"] = (
                        per_frame(result.costs, fps, variant.machine, dram_idle).energy_pj / 1e3
                    )
                rows.append(row)
                standings.append(standing(storage, result))
                notes |= dict.fromkeys(_notes(names[path], result))
                on_row()
            if len(standings) > 1:
                changes = "".join(f", {key} = {value}" for key, value in variant.changes.items())
                sentences = " ".join(verdict(standings))
                verdicts.append(f"{names[path]} on {variant.machine.name}{changes}: {sentences}")
    return SideBySide(frame=pd.DataFrame(rows), notes=tuple(notes), verdicts=tuple(verdicts))


def distinct_names(names: Mapping[str, str]) -> dict[str, str]:
    """Each thing's own name by where it came from, or where it came from if two share a name."""
    own = list(names.values())
    return {path: path if own.count(name) > 1 else name for path, name in names.items()}


def _notes(name: str, result: SimResult) -> list[str]:
    workload, machine = result.workload, result.workload.machine
    return [
        f"{name}: one inference at batch {workload.batch}, {'warm' if result.warm else 'cold'} weights, "
        f"{workload.origin}; engine {result.engine}.",
        f"DRAM energy on {machine.name}: {result.costs.scope}.",
        *(f"Note: {name}: {note}" for note in workload.notes),
        *(f"Note: {machine.name}: {note}" for note in (() if result.memory is None else result.memory.notes)),
        *(f"Warning: {machine.name}: {warning}" for warning in result.costs.warnings),
    ]
