"""What stays on the chip: weights from one inference to the next, tensors from the layer that makes them to the last
that reads them; and the cliff, DRAM traffic against the size of the weight SRAM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dchw.compression.compressed import CompressedNetwork
from dchw.formats import DEFAULT_FORMAT, NARROWEST_DENSE
from dchw.lowering.lower import lower
from dchw.machines.machine import Machine, machine
from dchw.mapping.arithmetic import Arithmetic
from dchw.mapping.resident_weights import Tenant, residents, tenants
from dchw.mapping.workload import Workload, map_network
from dchw.program.program import Program
from dchw.quantities import DchwError, ceil_div

if TYPE_CHECKING:
    import pandas as pd

DENSE_BITS = 8
"""Bits of a weight of the strongest dense format, against which a layer is said to fit only when compressed."""


def residency_frame(workload: Workload) -> pd.DataFrame:
    """One row for each layer's weights and each tensor.

    ``kind`` is ``weights`` or ``tensor``; ``bytes`` what it takes in its SRAM; ``stays`` the share of it that needs no
    DRAM: of weights in every inference but the first (`dchw.mapping.resident_weights`), of tensors always.
    ``dense_int8_stays`` is that share if all weights of the network were int8 without compression,
    ``only_compressed`` whether weights stay whole that otherwise would not.
    """
    import pandas as pd

    works, size = [stage.layer for stage in workload.stages], workload.machine.weight_sram.size_bytes
    packed = tenants(works, workload.machine, at_load=workload.decodes_at_load)
    weights = {id(work.packed): work.geometry.weights for work in works}
    dense = [
        Tenant(
            key=part.key,
            layer=part.layer,
            size_bytes=ceil_div(weights[part.key] * DENSE_BITS, 8),
            passes=part.passes,
        )
        for part in packed
    ]
    now, before = _shares(packed, size), _shares(dense, size)
    sizes: dict[str, int] = {}
    for part in packed:
        sizes[part.layer] = sizes.get(part.layer, 0) + part.size_bytes
    rows: list[dict[str, object]] = [
        {
            "kind": "weights",
            "name": layer,
            "bytes": taken,
            "stays": now[layer],
            "dense_int8_stays": before[layer],
            "only_compressed": now[layer] == 1.0 > before[layer],
        }
        for layer, taken in sizes.items()
    ]
    return pd.DataFrame(rows + _tensor_rows(workload))


def _shares(parts: Sequence[Tenant], size_bytes: int) -> dict[str, float]:
    """Share of each layer's bytes that stays."""
    kept = residents(parts, size_bytes)
    held: dict[str, int] = {}
    whole: dict[str, int] = {}
    for part in parts:
        whole[part.layer] = whole.get(part.layer, 0) + part.size_bytes
        held[part.layer] = held.get(part.layer, 0) + part.size_bytes * (part.key in kept)
    return {layer: held[layer] / max(taken, 1) for layer, taken in whole.items()}


def _tensor_rows(workload: Workload) -> list[dict[str, object]]:
    """Tensors that cross the DRAM, and those that a layer finds on the chip."""
    moved = {name for stage in workload.stages for name in (*stage.loads, *stage.stores)}
    held = moved | {stage.layer_input for stage in workload.stages}
    return [
        {
            "kind": "tensor",
            "name": name,
            "bytes": size,
            "stays": float(name not in moved),
            "dense_int8_stays": float(name not in moved),
            "only_compressed": False,
        }
        for name, size in workload.tensor_bytes.items()
        if name in held
    ]


def residency_cliff(
    network: CompressedNetwork,
    on: Machine | str | Path,
    storages: Sequence[str] = (NARROWEST_DENSE, DEFAULT_FORMAT),
    *,
    weight_sram_bytes: Sequence[int],
    batch: int = 1,
) -> pd.DataFrame:
    """DRAM bytes of an inference, the first and every other, against the size of the weight SRAM.

    Parameters
    ----------
    network
        What `compress`, `load` or `dchw train` gave.
    on
        A `Machine`, the name of a preset, or the path of a machine's YAML file.
    storages
        Names of storage formats. Default: the dense one of the fewest bits, and the one of a run that names none.
    weight_sram_bytes
        Sizes to try, in bytes: whole words in every bank. Nothing is priced, so that no table bounds them.
    batch
        Inputs worked at once; at least 1.

    Returns
    -------
    pandas.DataFrame
        A row for each format and size: ``weight_sram_bytes``, ``weight_bytes`` as they lie in the SRAM,
        ``resident_bytes`` that stay, ``cold_dram_bytes`` and ``warm_dram_bytes`` read and written, whole bursts.

    Raises
    ------
    DchwError
        For a name, file or value that is none, and for a layer the machine cannot work.
    """
    import pandas as pd

    target = on if isinstance(on, Machine) else machine(on)
    rows = []
    for storage in storages:
        for size in weight_sram_bytes:
            workload = map_network(
                network,
                target.replace("weight_sram.size_bytes", f"{size} B"),
                storage,
                batch=batch,
                arithmetic=Arithmetic.NONE,
            )
            rows.append({"storage": storage, "weight_sram_bytes": size, **_cold_and_warm(workload)})
    return pd.DataFrame(rows)


def residency_over_frames(
    network: CompressedNetwork,
    on: Machine | str | Path,
    storages: Sequence[str] = (NARROWEST_DENSE, DEFAULT_FORMAT),
    *,
    frames: Sequence[int] = (1, 2, 10, 100),
    batch: int = 1,
) -> pd.DataFrame:
    """DRAM bytes of a frame where several are worked one after another: the first is cold, all others find weights.

    Parameters
    ----------
    network
        What `compress`, `load` or `dchw train` gave.
    on
        A `Machine`, the name of a preset, or the path of a machine's YAML file.
    storages
        Names of storage formats. Default: the dense one of the fewest bits, and the one of a run that names none.
    frames
        Frames from one cold start to the next; at least 1 each.
    batch
        Inputs of a frame, worked at once; at least 1.

    Returns
    -------
    pandas.DataFrame
        A row for each format and number of frames: ``frames``, ``weight_bytes``, ``resident_bytes``,
        ``cold_dram_bytes`` and ``warm_dram_bytes`` as in `residency_cliff`, and ``frame_dram_bytes``, the mean.

    Raises
    ------
    DchwError
        For a name, file or value that is none, for less than one frame, and for a layer the machine cannot work.
    """
    import pandas as pd

    if min(frames, default=1) < 1:
        raise DchwError(f"frames: expected at least 1; got {min(frames)}; raise it")
    target = on if isinstance(on, Machine) else machine(on)
    rows = []
    for storage in storages:
        workload = map_network(network, target, storage, batch=batch, arithmetic=Arithmetic.NONE)
        known = _cold_and_warm(workload)
        for count in frames:
            mean = (known["cold_dram_bytes"] + (count - 1) * known["warm_dram_bytes"]) / count
            rows.append({"storage": storage, "frames": count, **known, "frame_dram_bytes": mean})
    return pd.DataFrame(rows)


def _cold_and_warm(workload: Workload) -> dict[str, int]:
    """What stays of the weights, and the DRAM bytes of the first inference and of every other."""
    target = workload.machine
    parts = tenants([stage.layer for stage in workload.stages], target, at_load=workload.decodes_at_load)
    kept = residents(parts, target.weight_sram.size_bytes)
    return {
        "weight_bytes": sum(part.size_bytes for part in parts),
        "resident_bytes": sum(part.size_bytes for part in parts if part.key in kept),
        "cold_dram_bytes": _dram_bytes(lower(workload), target),
        "warm_dram_bytes": _dram_bytes(lower(workload, warm=True), target),
    }


def _dram_bytes(program: Program, target: Machine) -> int:
    memory = program.memory
    requests = memory.requests if memory is not None else ()
    return sum(int(one.bursts.sum()) for one in requests) * target.dram.burst_bytes
