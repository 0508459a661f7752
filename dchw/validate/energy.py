"""Energy, area and delay against published figures: EIE, Deep Compression's table, LPDDR, and the SRAM model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dchw.dram.replay import replay
from dchw.dram.standard import standard
from dchw.tables import read_table
from dchw.technology.cross_validation import (
    PLAIN,
    InterpolationError,
    cross_validate,
    fresh_points,
)
from dchw.technology.figure import Figure, combine
from dchw.technology.published import published_energy
from dchw.technology.sram import SramMacro, sram
from dchw.validate import Check
from dchw.validate.eie_energy import eie_components, eie_element, eie_total
from dchw.validate.eie_power import eie_layers_power

SRAM_LIMITS = {
    "read_energy_pj": 0.046,
    "write_energy_pj": 0.026,
    "leakage_mw": 0.020,
    "access_time_ns": 0.023,
    "area_mm2": 0.024,
}
"""Median errors of plain log-log interpolation between the points of a table in powers of two: to be beaten."""


def run() -> list[Check]:
    """All checks of this part, for ``dchw validate energy``."""
    return [
        eie_element(),
        eie_components(),
        eie_total(),
        eie_layers_power(),
        deep_compression_table(),
        lpddr_brackets(lpddr_streaming()),
        sram_cross_checks(),
        sram_interpolation(),
    ]


def deep_compression_table() -> Check:
    """The table behind Deep Compression as a preset, and what it says of leaving DRAM."""
    group = "deep_compression_table"
    want = {
        ("int_add", 32): 0.1,
        ("fp_add", 32): 0.9,
        ("register_file_access", 32): 1.0,
        ("int_mult", 32): 3.1,
        ("fp_mult", 32): 3.7,
        ("sram_cache_access", 32): 5.0,
        ("dram_access", 32): 640.0,
    }
    rows = [
        {
            "operation": f"{bits}-bit {operation.replace('_', ' ')}",
            "preset_pj": published_energy(group, operation, bits).nominal,
            "published_pj": value,
        }
        for (operation, bits), value in want.items()
    ]
    ratio = (
        published_energy(group, "dram_access", 32).nominal / published_energy(group, "sram_cache_access", 32).nominal
    )
    rows.append({"operation": "DRAM against SRAM", "preset_pj": ratio, "published_pj": 128.0})
    table = pd.DataFrame(rows)
    return Check(
        title="Deep Compression's energy table (32 bits, 45 nm)",
        table=table,
        limits="the preset holds the published numbers, and DRAM costs 128 times SRAM",
        passed=bool((table["preset_pj"] == table["published_pj"]).all()),
    )


# size, width, quantity, published value, what it is, whether the published value is an upper limit
_CROSS_CHECKS = (
    (8, 64, "read_energy_pj", 10.0, "Horowitz 2014, cache access"),
    (32, 64, "read_energy_pj", 20.0, "Horowitz 2014, cache access"),
    (1024, 64, "read_energy_pj", 100.0, "Horowitz 2014, cache access"),
    (32, 32, "read_energy_pj", 5.0, "EIE Table I"),
    (128, 64, "read_energy_pj", 49.55, "EIE SpmatRead with registers and clock: an upper limit"),
    (16, 16, "read_energy_pj", 9.035, "EIE PtrRead, one of two: an upper limit"),
    (128, 64, "area_mm2", 0.469412, "EIE SpmatRead"),
    (16, 16, "area_mm2", 0.0609245, "EIE PtrRead, one of two"),
)
SRAM_FACTOR = 3.2
"""Largest ratio either way between a published 45 nm figure and the device type that lies farthest from it."""


def sram_cross_checks() -> Check:
    """Published 45 nm SRAM against the three device types."""
    rows = []
    for kib, width, quantity, published, what in _CROSS_CHECKS:
        values = {cell: float(getattr(_at_45(kib, width, cell), quantity)) for cell in _CELLS}
        rows.append(
            {"macro": f"{kib} KiB x {width}", "quantity": quantity}
            | {cell.removeprefix("itrs-"): value for cell, value in values.items()}
            | {"published": published, "published_is": what}
        )
    table = pd.DataFrame(rows)
    ratios = table[["hp", "lop", "lstp"]].div(table["published"], axis=0)
    return Check(
        title="SRAM at 45 nm against published figures",
        table=table,
        limits=f"every device type within a factor of {SRAM_FACTOR} of the published figure",
        passed=bool(((ratios < SRAM_FACTOR) & (ratios > 1 / SRAM_FACTOR)).all(axis=None)),
        notes=(
            "Published figures of one macro lie up to four times apart: choose the device type, do not average.",
            "EIE's pointer read is an upper limit that itrs-lstp passes by 1.5 %.",
        ),
    )


def sram_interpolation(errors: Sequence[InterpolationError] | None = None) -> Check:
    """What the SRAM table gets wrong between its rows: whole sizes and widths left out, and fresh points."""
    errors = [*cross_validate(), *fresh_points()] if errors is None else errors
    table = pd.DataFrame(
        [
            {
                "test": error.test,
                "quantity": error.quantity,
                "points": error.points,
                "median_pct": round(100 * error.median, 2),
                "p90_pct": round(100 * error.p90, 2),
                "max_pct": round(100 * error.maximum, 1),
            }
            for error in errors
        ]
    )
    plain = {(error.test.removesuffix(PLAIN), error.quantity): error for error in errors if error.test.endswith(PLAIN)}
    judged = [
        (error, plain[error.test, error.quantity])
        for error in errors
        if error.quantity in SRAM_LIMITS and (error.test, error.quantity) in plain
    ]
    better = all(mine.median < theirs.median and mine.p90 < theirs.p90 for mine, theirs in judged)
    below = all(mine.median < SRAM_LIMITS[mine.quantity] for mine, _ in judged)
    return Check(
        title="SRAM interpolation",
        table=table,
        limits="medians and 90th percentiles below those of plain log-log interpolation under the same test, and "
        "medians below what it reaches between the points of a table in powers of two (read 4.6 %, write 2.6 %, "
        "leakage 2.0 %, access 2.3 %, area 2.4 %)",
        passed=bool(judged) and better and below,
        notes=("Cycle time steps with the rows of a subarray, a discrete choice: the least certain quantity.",),
    )


LPDDR_STANDARDS = ("LPDDR4-3200", "LPDDR4X-4266")
"""Generations whose energy comes from currents; that of LPDDR5 and 5X is itself a published or assumed energy per bit,
which no table of energies per bit can check."""
STREAMED_BURSTS = 1 << 12


def lpddr_streaming() -> dict[str, Figure]:
    """pJ per bit of a long sequential read, simulated, by generation: device, input and output, background, refresh."""
    out = {}
    for name in LPDDR_STANDARDS:
        burst_bytes = standard(name).organisation.burst_size
        addresses = np.arange(STREAMED_BURSTS, dtype=np.int64) * burst_bytes
        result = replay((addresses, np.zeros(STREAMED_BURSTS, dtype=bool)), name)
        per_bit = 1 / (result.size_bytes * 8)
        out[name.split("-")[0]] = combine(row.each.converted("pJ/bit", row.count * per_bit) for row in result.energy)
    return out


def lpddr_brackets(pj_per_bit: Mapping[str, Figure]) -> Check:
    """Energy per bit of LPDDR at streaming peak (device and I/O, by family) against published figures.

    A bracket spans all rows of the family that hold a whole access; parts of one (I/O or device only) are left out.
    """
    rows = []
    for family, figure in pj_per_bit.items():
        whole = [
            row
            for row in read_table("mobile_dram_energy.csv")
            if row["family"] == family and not row["scope"].startswith(("I/O only", "device"))
        ]
        low, high = (
            choose(float(row[f"{end}_pj_per_bit"]) for row in whole) for choose, end in ((min, "low"), (max, "high"))
        )
        rows.append(
            {
                "family": family,
                "pj_per_bit": round(figure.nominal, 2),
                "bracket_low": low,
                "bracket_high": high,
                "inside": low <= figure.nominal <= high,
                "bracket_from": "; ".join(row["confidence"] for row in whole),
                "figure_from": figure.source,
            }
        )
    table = pd.DataFrame(rows)
    return Check(
        title="LPDDR energy per bit",
        table=table,
        limits="nominal inside the bracket of published figures of its generation",
        passed=bool(table["inside"].all()),
        notes=(
            "The bracket of LPDDR4X is an estimate.",
            "LPDDR5 and 5X are not checked: their energy per bit is assumed from the figures it would be held against.",
        ),
    )


_CELLS = ("itrs-hp", "itrs-lop", "itrs-lstp")


def _at_45(kib: int, width: int, cell: str) -> SramMacro:
    return sram(size_bytes=kib * 1024, word_bits=width, node_nm=45, cell=cell)
