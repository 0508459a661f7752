"""Energies per access and operation as single papers list them, for presets that repeat a paper's arithmetic."""

from __future__ import annotations

from dchw.quantities import DchwError, nearest
from dchw.tables import read_table
from dchw.technology.figure import Confidence, Figure

GROUPS = ("deep_compression_table", "eie_table1", "horowitz_isscc14", "tpuv4i_table2")


def published_energy(group: str, operation: str, bits: int) -> Figure:
    """pJ of one access or operation exactly as the group's paper lists it, with the range it gives.

    ``deep_compression_table`` is the table behind Deep Compression: ``sram_cache_access`` 5 pJ and ``dram_access``
    640 pJ for 32 bits at 45 nm. Raises DchwError naming what the group lists.
    """
    if group not in GROUPS:
        raise DchwError(
            f"published energies: group: expected one of {', '.join(GROUPS)}; got {group!r}; {nearest(group, GROUPS)}"
        )
    rows = [row for row in read_table("ops_energy.csv") if row["group"] == group]
    for row in rows:
        if row["operation"] == operation and int(row["bits"]) == bits:
            return Figure(
                float(row["value"]),
                float(row["low"]),
                float(row["high"]),
                "pJ",
                f"{row['source']}, {bits}-bit {operation.replace('_', ' ')}",
                Confidence.PUBLISHED,
            ).because(f"range given by {row['source']}")
    listed = ", ".join(f"{row['operation']} ({row['bits']} bit)" for row in rows)
    raise DchwError(
        f"published energies: {group}: expected an operation the paper lists; got {operation} ({bits} bit); "
        f"use one of {listed}"
    )
