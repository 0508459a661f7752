"""What a run did, as tables: by stream, by unit, by layer, and the order of loops of every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dchw.engines.result import Timing
from dchw.mapping.stages import distinct_parts
from dchw.mapping.workload import Workload
from dchw.program.outline import Outline
from dchw.run.bounds import layer_bounds
from dchw.vocabulary import Stream

if TYPE_CHECKING:
    import pandas as pd


def streams_frame(workload: Workload, timing: Timing) -> pd.DataFrame:
    """One row per stream: bytes as packed, and as they crossed the DRAM.

    ``packed_bytes`` are whole regions of weights, once; ``dram_read_bytes`` and ``dram_write_bytes`` are whole
    bursts, and one that two tables share is the first one's; ``again_bytes`` are what reading exceeds packing by:
    ends of bursts, and weights read in several passes.
    """
    import pandas as pd

    packed: dict[Stream, int] = {}
    for stage in workload.stages:
        for stream, size in stage.layer.packed.packed_bytes.items():
            packed[stream] = packed.get(stream, 0) + size
    memory = timing.memory
    moved = np.zeros((len(Stream), 2), np.int64) if memory is None else memory.size_bytes.sum(axis=2)
    rows = [
        {
            "stream": stream.value,
            "packed_bytes": packed.get(stream, 0),
            "dram_read_bytes": int(read),
            "dram_write_bytes": int(write),
            "again_bytes": max(int(read) - packed[stream], 0) if stream in packed else 0,
        }
        for stream, (read, write) in zip(Stream, moved, strict=True)
        if stream in packed or read or write
    ]
    return pd.DataFrame(rows)


def units_frame(outline: Outline, timing: Timing) -> pd.DataFrame:
    """Busy, stall and idle cycles of every node of the machine; they add up to the total."""
    import pandas as pd

    rows = []
    for node in outline.firing:
        times = timing.nodes[node.name]
        rows.append(
            {
                "unit": node.unit,
                "node": node.name,
                "firings": times.firings,
                "busy_cycles": times.busy,
                "stall_cycles": times.stall,
                "idle_cycles": times.idle,
            }
        )
    return pd.DataFrame(rows)


def layers_frame(workload: Workload, outline: Outline, timing: Timing) -> pd.DataFrame:
    """Per layer: first start, last finish, DRAM bytes, entries, fillers, products, and what bounds it."""
    import pandas as pd

    bounds = layer_bounds(workload, outline, timing)
    memory = timing.memory
    rows = []
    for index, name in enumerate(outline.layers):
        works = [stage.layer for stage in workload.stages if stage.layer.name == name]
        parts = distinct_parts(works)
        moved = memory.size_bytes[:, :, index] if memory is not None else np.zeros((1, 2), np.int64)
        rows.append(
            {
                "layer": name,
                "start_cycle": int(timing.layer_start[index]),
                "finish_cycle": int(timing.layer_finish[index]),
                "packed_bytes": sum(work.packed.total_bytes for work in parts),
                "dram_read_bytes": int(moved[:, 0].sum()),
                "dram_write_bytes": int(moved[:, 1].sum()),
                "entries": sum(work.packed.entries for work in parts),
                "fillers": sum(work.packed.fillers for work in parts),
                "dense_macs": sum(work.geometry.weights * work.tiling.pixels for work in works),
                "useful_macs": sum(work.multiplications for work in works),
                "passes": sum(work.tiling.passes for work in works),
                "own_cycles": bounds[index].own_cycles,
                "bound_by": bounds[index].bound_by,
                "bound_share": bounds[index].share,
                "next_bound": bounds[index].next_resource,
                "headroom": bounds[index].headroom,
            }
        )
    return pd.DataFrame(rows)


def mapping_frame(workload: Workload) -> pd.DataFrame:
    """Per layer: the order of loops that was chosen and the DRAM reads it expects, beside those of the simple
    order (`dchw.mapping.search`) and the least there can be: everything once."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "layer": one.layer,
                "outermost": "bands" if one.choice.bands_outermost else "parts",
                "part_rows": one.choice.part_rows,
                "tile_pixels": one.choice.tile,
                "band_pixels": one.choice.tile * one.choice.band_tiles,
                "column_blocks": one.choice.blocks,
                "partial_sums": str(one.choice.sums) if one.choice.blocks > 1 else "",
                "weight_bytes": one.cost.weight_bytes,
                "input_bytes": one.cost.input_bytes,
                "partial_sum_bytes": one.cost.sum_bytes,
                "simple_bytes": one.simple.dram_bytes,
                "least_bytes": one.least_bytes,
                "orders": one.considered,
                "given": ", ".join(one.given),
            }
            for one in workload.mapping
        ]
    )
