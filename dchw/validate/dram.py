"""The DRAM model against Ramulator 2.1 (timing, every reference run) and DRAMPower 6.2 (energy on equal currents)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dchw.dram.effects import of_alternatives, share_of_peak, without_unverified_rules
from dchw.dram.replay import ReplayResult
from dchw.dram.sections import Defaults
from dchw.dram.standard import Standard, standard, standard_names
from dchw.tables import read_table
from dchw.validate import Check, dram_energy
from dchw.validate.dram_runs import reference_replay, reference_traces, relative_error

if TYPE_CHECKING:
    import pandas as pd

CYCLES_LIMIT = COUNTS_LIMIT = 0.01
LATENCY_LIMIT = 0.03
STREAM_LIMIT = 0.88


def run() -> list[Check]:
    """All comparisons; see the titles."""
    traces = reference_traces()
    results = {
        (row["standard"], row["config"], row["trace"]): reference_replay(
            standard(row["standard"]), row["config"], traces[row["trace"]]
        )
        for row in read_table("dram_ramulator.csv")
    }
    full = _timing_table(results)
    return [_summary(full), _timing(full), _choices(), dram_energy.core(results), dram_energy.interface(traces)]


def _computed(result: ReplayResult) -> dict[str, float]:
    assert isinstance(result.part, Standard)
    have, counts = result.part.commands, result.commands

    def count(*names: str | None) -> int:
        return sum(counts[name] for name in set(names) if name is not None)

    return {
        "total_cycles": result.cycles,
        "num_ACT": count(have.activate),
        "num_PRE": count(have.precharge),
        "num_PREab": count(have.precharge_all),
        "num_RD": count(have.read),
        "num_WR": count(have.write),
        "num_REFab": count(have.refresh_all),
        "num_REFpb": count(have.refresh_bank),
        "num_CAS": count(have.sync_read, have.sync_write),
        "avg_read_latency_cycles": result.latency_mean,
        "p50_read_latency_cycles": result.latency_percentile(50),
        "p99_read_latency_cycles": result.latency_percentile(99),
        "max_read_latency_cycles": result.latency_max,
        "row_hits": result.row_hits,
        "row_misses": result.row_misses,
        "row_conflicts": result.row_conflicts,
    }


_LIMITS = {
    "total_cycles": CYCLES_LIMIT,
    "avg_read_latency_cycles": LATENCY_LIMIT,
    "p99_read_latency_cycles": LATENCY_LIMIT,
}


def _limit(metric: str) -> float | None:
    return COUNTS_LIMIT if metric.startswith("num_") else _LIMITS.get(metric)


def _timing_table(results: dict[tuple[str, str, str], ReplayResult]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for row in read_table("dram_ramulator.csv"):
        key = (row["standard"], row["config"], row["trace"])
        for metric, value in _computed(results[key]).items():
            published = float(row[metric])
            rows.append((*key, metric, value, published, 100 * relative_error(value, published)))
    names = ["standard", "config", "trace", "metric", "computed", "ramulator", "error_percent"]
    return pd.DataFrame(rows, columns=names)


def _within(table: pd.DataFrame) -> bool:
    limits = table["metric"].map(_limit)
    bound = limits.notna()
    return bool((table["error_percent"][bound] <= 100 * limits[bound].astype(float)).all())


def _timing_limits() -> str:
    return (
        f"cycles within {CYCLES_LIMIT:.0%}, ACT, PRE, RD, WR, REF and CAS counts within {COUNTS_LIMIT:.0%}, mean and "
        f"99th-percentile read latency within {LATENCY_LIMIT:.0%}, on every run"
    )


def _summary(full: pd.DataFrame) -> Check:
    groups = {name: name for name in _LIMITS} | {m: "commands" for m in full["metric"] if m.startswith("num_")}
    grouped = full.assign(figure=full["metric"].map(groups).fillna("other figures"))
    worst = grouped.pivot_table(index="standard", columns="figure", values="error_percent", aggfunc="max")
    shown = ["total_cycles", "commands", "avg_read_latency_cycles", "p99_read_latency_cycles", "other figures"]
    names = ["cycles_%", "commands_%", "mean_latency_%", "p99_latency_%", "other_figures_%"]
    table = worst[shown].set_axis(names, axis=1).reset_index()
    runs = full[["standard", "config", "trace"]].drop_duplicates()
    table.insert(1, "runs", table["standard"].map(runs["standard"].value_counts()))
    same = full.groupby(["standard", "config", "trace"])["error_percent"].max() < 1e-3
    table.insert(2, "runs_exact", table["standard"].map(same.groupby("standard").sum()))
    return Check(
        title="DRAM timing: largest error against Ramulator 2.1 (c5b1c3a), per standard",
        table=table,
        limits=_timing_limits(),
        passed=_within(full),
        notes=(
            f"{int(same.sum())} of {len(same)} runs agree in every figure (means to the six digits of the reference).",
            "Known deviations from Ramulator, none of which these runs reach: with commands of two clocks (LPDDR6) the "
            "second part of an activation is issued early enough never to miss its window; writes whose row is being "
            "opened still answer reads and absorb writes to their address; with several ranks each one is refreshed "
            "bank by bank at the full rate, and data bursts of two ranks are kept apart by rules Ramulator lacks.",
            "Per-bank refresh of one stream on LPDDR4 is slow (4.3 GB/s against 5.9) because stream and refresh settle "
            "on the same bank; Ramulator shows the same.",
        ),
    )


def _timing(full: pd.DataFrame) -> Check:
    return Check(
        title="DRAM timing: every figure of every run",
        table=full,
        limits=_timing_limits(),
        passed=_within(full),
    )


def _choices() -> Check:
    import pandas as pd

    rows, streamed = [], {}
    for name in standard_names():
        std = standard(name)
        order, refresh = std.defaults.mapping, std.defaults.refresh
        streamed[name] = share_of_peak(std, order, refresh)
        plain = share_of_peak(std, Defaults().mapping, Defaults().refresh)
        rows.append((name, f"{order}, {refresh}: stream % of peak", 100 * streamed[name], 100 * plain))
        effects = {
            " ".join(f"{timing}={cycles}" for timing, cycles in other.timings.items()): effect
            for other, effect in zip(std.alternatives, of_alternatives(std, order, refresh), strict=True)
        }
        two = std.replace("organisation.ranks", 2)
        effects["two ranks without rules of no table"] = without_unverified_rules(two, order, refresh)
        for change, effect in effects.items():
            for pattern, percent in effect._asdict().items():
                rows.append((name, f"{change}: % clocks, {pattern}", percent, 0.0))
    table = pd.DataFrame(rows, columns=["standard", "choice", "value", "plain"])
    grouped = [name for name in streamed if standard(name).organisation.bank_groups > 1]
    return Check(
        title="DRAM choices: what the default order and refresh, unverified timings and rules of no table change",
        table=table,
        limits=f"a stream of reads at {STREAM_LIMIT:.0%} of peak or more on {', '.join(grouped)}",
        passed=all(streamed[name] >= STREAM_LIMIT for name in grouped),
        notes=(
            f"plain: {Defaults().mapping} with {Defaults().refresh}, or nothing changed. Patterns of "
            "dchw/dram/effects.py on one channel: a stream of reads, random reads, random reads and writes.",
            "Results name unverified timings, and rules of no table that are in force, with these effects.",
        ),
    )
