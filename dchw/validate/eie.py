"""EIE's six layers: time, idle share by queue depth, and scaling, beside what the paper prints.

EIE's own layers were never published, only their shapes and densities. Here every weight and every activation is
non-zero with the published density, independently of all others (SYNTHETIC values: only where zeros lie matters), and
every parameter of the machine is one that the paper's text states. Nothing is fitted.

*Theoretical* time is what the paper calls it: entries of the broadcast columns, fillers included, over 64 elements and
the clock. *Actual* time runs from the first broadcast to the last entry's multiplication; the hand-over of sums and the
DRAM that this project's machine has besides are left out. Inputs of more than 4,096 values, which EIE works in several
passes because its register files hold no more, are worked in one pass: passes move the times by less than 1 %.

Whole runs (`dchw.validate.eie_runs`: packed bits, decoded again, fast engine) are made for one seed; the other seeds
draw the non-zeros of the broadcast columns only and go through `broadcast_cycles`, which must give the whole runs'
cycles exactly.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dchw.compile import kernel
from dchw.compression.relative_index import encode_runs
from dchw.machines.machine import Machine, machine
from dchw.quantities import ceil_div
from dchw.validate import Check
from dchw.validate.eie_runs import (
    INDEX_BITS,
    PUBLISHED_CHIP_MW,
    EieLayer,
    Int64s,
    WholeRun,
    eie_layers,
    rng_of,
)

SEEDS = 10
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
ELEMENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RAW_LIMIT_PCT = 12.0
MATCHED_LIMIT_PCT = 5.0

PUBLISHED_GAIN_256 = 3.25
"""Throughput of 256 elements over 64, as the paper prints it; its Table V gives 5.2, of which the clock is 1.5."""


def checks() -> list[Check]:
    """All checks against EIE."""
    target = machine("eie-64pe-45nm")
    layers = eie_layers()
    return [
        whole_runs(layers, target),
        times(layers, target),
        matched_times(layers, target),
        idle_share(layers),
        scaling(layers),
    ]


@kernel
def broadcast_cycles(work: Any, depth: int) -> Any:
    """Cycles from the first broadcast to the last entry of an array that waits for nothing but its queues.

    ``work`` int64[columns, elements] entries of each broadcast column on each element, fillers included; an element
    without any takes a cycle. A column is broadcast one cycle after the last, and not before every element has taken
    the column ``depth`` before it; what is broadcast in cycle c can start in c + 1; a slot is free one cycle after its
    column started.
    """
    columns, elements = work.shape
    free = np.zeros(elements, np.int64)
    taken = np.zeros(depth, np.int64)
    push = np.int64(-1)
    for column in range(columns):
        push += 1
        if column >= depth:
            push = max(push, taken[column % depth] + 1)
        latest = np.int64(0)
        for p in range(elements):
            start = max(free[p], push + 1)
            latest = max(latest, start)
            free[p] = start + max(work[column, p], 1)
        taken[column % depth] = latest
    return max(free.max(), push + 1)


def random_nonzeros(layer: EieLayer, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """bool[broadcast columns, outputs]: where the weights of the columns with a non-zero activation are."""
    columns = int(rng.binomial(layer.inputs, layer.activation_density))
    return rng.random((columns, layer.outputs), dtype=np.float32) < np.float32(layer.weight_density)


def entries_per_element(nonzeros: npt.NDArray[np.bool_], elements: int) -> Int64s:
    """int64[columns, elements]: entries of each column on each element, fillers included; row r is on r mod P."""
    columns, rows = nonzeros.shape
    padded = np.zeros((columns, ceil_div(rows, elements) * elements), np.bool_)
    padded[:, :rows] = nonzeros
    runs = np.ascontiguousarray(padded.reshape(columns, -1, elements).transpose(0, 2, 1)).reshape(
        columns * elements, -1
    )
    offsets = np.append(0, np.cumsum(np.count_nonzero(runs, axis=1)))
    positions = np.flatnonzero(runs) % runs.shape[1]
    _, _, bounds = encode_runs(positions, np.ones(positions.size, np.uint16), offsets, INDEX_BITS)
    return np.diff(bounds).reshape(columns, elements)


def expected_entries(layer: EieLayer, elements: int) -> float:
    """Mean entries of all broadcast columns with independent zeros, fillers included.

    In a slice of n rows at density d, the weight at row i (from 0) is behind at least 16 m zeros with probability
    (1 - d)^(16 m) where i >= 16 m, and every 16 zeros take a filler: n d + sum over m of (n - 16 m) d (1 - d)^(16 m).
    """
    step, d = 1 << INDEX_BITS, layer.weight_density
    total = 0.0
    for element in range(elements):
        n = ceil_div(layer.outputs - element, elements)
        total += n * d + sum((n - k) * d * (1 - d) ** k for k in range(step, n, step))
    return total * layer.inputs * layer.activation_density


def matched(layer: EieLayer, target: Machine) -> EieLayer:
    """The layer at the weight density whose expected theoretical time is the published one."""
    elements = target.pe_array.elements
    wanted = layer.theoretical_us * 1e-6 * target.clock_hz * elements
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        below = expected_entries(replace(layer, weight_density=middle), elements) < wanted
        low, high = (middle, high) if below else (low, middle)
    return replace(layer, weight_density=low)


def whole_runs(layers: list[EieLayer], target: Machine, seed: int = 0) -> Check:
    """Every layer packed, decoded, lowered and run by the fast engine, beside the recurrence on the same entries."""
    rows = []
    for layer in layers:
        run = WholeRun.of(layer, target, seed)
        again = int(broadcast_cycles(run.work, target.pe_array.queue_depth))
        rows.append(
            {
                "layer": layer.name,
                "entries": run.entries,
                "fillers_pct": 100 * run.fillers / run.entries,
                "packed_mib": run.packed_bytes / 2**20,
                "resident": run.resident,
                "engine_cycles": run.cycles,
                "recurrence_cycles": again,
                "actual_us": _us(run.cycles, target),
                "published_us": layer.actual_us,
                "chip_mw": run.chip_mw,
            }
        )
    table = pd.DataFrame(rows)
    return Check(
        title="EIE: whole runs of six SYNTHETIC layers in format shared, weights in SRAM (warm)",
        table=table,
        limits="the recurrence gives the engine's cycles exactly, and all weights are resident",
        passed=bool((table["engine_cycles"] == table["recurrence_cycles"]).all() and table["resident"].all()),
        notes=(
            f"Seed {seed}. entries and packed_mib are of the whole layer; packed_mib includes pointers, for which EIE "
            "has an SRAM of its own.",
            "Inputs of more than 4,096 values run in one pass here and in several in EIE (less than 1 % of the time).",
            "chip_mw is the energy of a run without DRAM over its time. The published "
            f"{PUBLISHED_CHIP_MW} mW are at full rate; `dchw validate energy` says where the rest goes.",
        ),
    )


def times(layers: list[EieLayer], target: Machine, seeds: int = SEEDS) -> Check:
    """Theoretical and actual time at the published densities."""
    table = pd.DataFrame([_times(layer, target, seeds) for layer in layers])
    error = float(table["actual_error_pct"].abs().mean())
    return Check(
        title=f"EIE: times at the published densities, mean of {seeds} seeds",
        table=table,
        limits=f"mean absolute error of actual times at most {RAW_LIMIT_PCT:g} % (it is {error:.1f} %)",
        passed=error <= RAW_LIMIT_PCT,
        notes=(
            "No fitted constant. Densities are printed in whole percent; at 4 % the half percent alone is an eighth.",
            "Open: VGG-6 and Alex-8 do not fit independent zeros. VGG-6 is published with 1.91 times the entries of "
            "its printed densities, the most of all layers; Alex-8 with 1.19, while VGG-8 of nearly the same shape and "
            "density has 0.97. Real zeros cluster; where, the paper does not say.",
        ),
    )


def matched_times(layers: list[EieLayer], target: Machine, seeds: int = SEEDS) -> Check:
    """Actual time where the density of each layer is such that its theoretical time is the published one."""
    table = pd.DataFrame([_times(matched(layer, target), target, seeds) for layer in layers])
    error = float(table["actual_error_pct"].abs().mean())
    return Check(
        title=f"EIE: times with each layer's density set by its theoretical time, mean of {seeds} seeds",
        table=table,
        limits=f"mean absolute error of actual times at most {MATCHED_LIMIT_PCT:g} % (it is {error:.1f} %)",
        passed=error <= MATCHED_LIMIT_PCT,
        notes=(
            "What is left is load imbalance: the paper's actual times are 4 to 22 % over its theoretical ones.",
            "Open: VGG-6 is published 22 % over its theoretical time; independent zeros balance better than that.",
        ),
    )


def idle_share(layers: list[EieLayer], seed: int = 0) -> Check:
    """Share of element cycles without an entry, by queue depth."""
    rows = []
    for layer in layers:
        work = entries_per_element(random_nonzeros(layer, rng_of(layer, seed)), 64)
        in_step = int(np.maximum(work.max(axis=1), 1).sum())
        row: dict[str, Any] = {"layer": layer.name, "in_step": 100 * (1 - work.sum() / (64 * in_step))}
        for depth in DEPTHS:
            row[f"depth_{depth}"] = 100 * (1 - work.sum() / (64 * int(broadcast_cycles(work, depth))))
        rows.append(row)
    table = pd.DataFrame(rows)
    mean = {depth: float(table[f"depth_{depth}"].mean()) for depth in DEPTHS}
    gains = [mean[a] - mean[b] for a, b in pairwise(DEPTHS)]
    shrinking = max(gains[DEPTHS.index(8) :]) < min(gains[: DEPTHS.index(8)])
    return Check(
        title="EIE: idle element cycles in percent, by queue depth",
        table=table,
        limits="doubling the depth beyond 8 gains less than any doubling up to 8, as the paper says",
        passed=shrinking,
        notes=(
            f"mean over the layers: {', '.join(f'{mean[d]:.1f} % at {d}' for d in DEPTHS)}",
            "Open: the paper says that about half of the cycles idle at depth 1; here a slot is free one cycle after "
            "work on its column began, which leaves less idle. in_step is a machine whose elements begin each column "
            f"together, without queues: {table['in_step'].mean():.1f} % on average; the paper's depth 1 may count the "
            "column in work.",
        ),
    )


def scaling(layers: list[EieLayer], seed: int = 0) -> Check:
    """Speed-up over one element, from 1 to 256 elements."""
    rows = []
    for layer in layers:
        nonzeros = random_nonzeros(layer, rng_of(layer, seed))
        cycles = {p: int(broadcast_cycles(entries_per_element(nonzeros, p), 8)) for p in ELEMENTS}
        speed: dict[str, Any] = {f"x{p}": cycles[1] / cycles[p] for p in ELEMENTS}
        rows.append({"layer": layer.name, **speed, "gain_256_over_64": cycles[64] / cycles[256]})
    table = pd.DataFrame(rows)
    gain = float(table["gain_256_over_64"].mean())
    alex7 = float(table.set_index("layer")["gain_256_over_64"]["Alex-7"])
    monotone = bool((table[[f"x{p}" for p in ELEMENTS]].diff(axis=1).iloc[:, 1:] > 0).all(axis=None))
    return Check(
        title="EIE: speed-up by number of elements, queue depth 8",
        table=table,
        limits="every doubling of the elements is faster in every layer",
        passed=monotone,
        notes=(
            f"256 elements over 64 give {gain:.2f} times the throughput on average, {alex7:.2f} on Alex-7; the paper "
            f"prints {PUBLISHED_GAIN_256}, and its Table V (Alex-7) leaves 3.47 without the clock.",
            "Fewer fillers in shorter slices work against the worse balance: a speed-up may pass the elements' number.",
            "Open: the paper does not say which layers and densities its 3.25 averages.",
        ),
    )


def _times(layer: EieLayer, target: Machine, seeds: int) -> dict[str, Any]:
    elements, depth = target.pe_array.elements, target.pe_array.queue_depth
    theoretical, actual = [], []
    for seed in range(seeds):
        work = entries_per_element(random_nonzeros(layer, rng_of(layer, seed)), elements)
        theoretical.append(_us(float(work.sum()) / elements, target))
        actual.append(_us(int(broadcast_cycles(work, depth)), target))
    mean_theoretical, mean_actual = float(np.mean(theoretical)), float(np.mean(actual))
    return {
        "layer": layer.name,
        "density_pct": 100 * layer.weight_density,
        "theoretical_us": mean_theoretical,
        "published_theoretical_us": layer.theoretical_us,
        "theoretical_error_pct": 100 * (mean_theoretical / layer.theoretical_us - 1),
        "actual_us": mean_actual,
        "seeds_us": f"{min(actual):.2f} to {max(actual):.2f}",
        "published_actual_us": layer.actual_us,
        "actual_error_pct": 100 * (mean_actual / layer.actual_us - 1),
    }


def _us(cycles: float, target: Machine) -> float:
    return cycles / target.clock_hz * 1e6
