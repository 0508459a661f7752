"""What stays on the chip: weights from one inference to the next, tensors from the layer that makes them to the last
that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dchw.mapping.resident_weights import Tenant, residents, tenants
from dchw.mapping.workload import Workload
from dchw.quantities import ceil_div, format_quantity

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


def residency_sentence(frame: pd.DataFrame, size_bytes: int, *, dense: bool, most: int = 6) -> str:
    """What a `residency_frame` says, in a sentence; of more layers than ``most`` the number and the first names.

    ``dense``: the weights are stored as they are, so that there is nothing to compare them with.
    """
    weights = frame[frame["kind"] == "weights"]
    tensors = frame[frame["kind"] == "tensor"]
    whole = list(weights.loc[weights["stays"] == 1.0, "name"])
    compressed = list(weights.loc[weights["only_compressed"].astype(bool), "name"])
    uncompressed = int((weights["dense_int8_stays"] == 1.0).sum())
    text = (
        f"From one inference to the next the weights of {_some(whole, len(weights), most)} stay in the weight SRAM of "
        f"{format_quantity(size_bytes, 'size')}"
    )
    if not dense:
        text += f"; as dense int8 those of {uncompressed} would"
    if compressed and not dense:
        text += f" (only compressed: {_names(compressed, most)})"
    return f"{text}. Of {len(tensors)} tensors {int((tensors['stays'] == 1.0).sum())} stay on the chip."


def _some(names: Sequence[str], of: int, most: int) -> str:
    if not names:
        return f"none of {of} layers"
    return f"all {of} layers" if len(names) == of else f"{len(names)} of {of} layers ({_names(names, most)})"


def _names(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
