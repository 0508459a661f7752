"""The DRAM model against Ramulator 2.1 (timing, every reference run) and DRAMPower 6.2 (energy on equal currents)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.dram.currents import MeasuredCurrents, Rail, SignalEdges
from dchw.dram.energy import (
    BACKGROUND_BANKS,
    BACKGROUND_CLOSED,
    BACKGROUND_OPEN,
    CLOCK_IO,
    READ_IO,
    WRITE_IO,
    Activity,
    activity,
    energy_rows,
)
from dchw.dram.layout import TRACE_MAX
from dchw.dram.replay import ReplayResult, replay
from dchw.dram.standard import Standard, standard
from dchw.events import Event
from dchw.tables import read_table
from dchw.validate import Check

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Trace = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]

CYCLES_LIMIT = COUNTS_LIMIT = ENERGY_LIMIT = 0.01
LATENCY_LIMIT = 0.03
_KIB, _MIB, _BURST = 1 << 10, 1 << 20, 32


def reference_traces() -> dict[str, Trace]:
    """The five traces of the reference runs: addresses and whether each is written; all bursts of 32 bytes."""
    front_to_back = np.arange(0, _MIB, _BURST)
    chunk = front_to_back // (2 * _KIB)
    step = np.arange(0, 512 * _KIB, 2 * _BURST)
    two = np.stack([step, step + _BURST, 8 * _MIB + step, 8 * _MIB + step + _BURST], axis=1).ravel()
    apart = np.arange(8192)

    def reads(addresses: npt.NDArray[np.int64]) -> Trace:
        return addresses, np.zeros(len(addresses), bool)

    return {
        "seq_read": reads(front_to_back),
        "seq_rw30": (front_to_back, 3 * chunk % 10 < 3),  # whole 2 KiB chunks are written
        "stride_64k": reads(apart * 64 * _KIB),
        "stride_2k": reads(apart * 2 * _KIB),
        "two_streams": reads(two),
    }


def run() -> list[Check]:
    """All comparisons; see the titles."""
    traces = reference_traces()
    results = {
        (row["standard"], row["config"], row["trace"]): _replay(row["standard"], row["config"], traces[row["trace"]])
        for row in read_table("dram_ramulator.csv")
    }
    full = _timing_table(results)
    return [_summary(full), _timing(full), _energy(results), _interface(results)]


def _replay(name: str, config: str, trace: Trace) -> ReplayResult:
    mapping, refresh, *variant, inject = config.split("-")
    on = standard(name)
    if variant == ["rrd3.75faw15"]:
        for timing, cycles in (("nRRDS", 4), ("nRRDL", 4), ("nFAW", 16)):
            on = on.replace(f"timings.{timing}.cycles", cycles)
    choices: dict[str, Any] = {"refresh": refresh, "inject": inject}
    return replay(trace, on, mapping=mapping, keep_commands=TRACE_MAX, **choices)


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


def _error(computed: float, published: float) -> float:
    return abs(computed - published) / abs(published) if published else float(computed != 0)


def _timing_table(results: dict[tuple[str, str, str], ReplayResult]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for row in read_table("dram_ramulator.csv"):
        key = (row["standard"], row["config"], row["trace"])
        for metric, value in _computed(results[key]).items():
            published = float(row[metric])
            rows.append((*key, metric, value, published, 100 * _error(value, published)))
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


_PLACEHOLDER = Rail(
    name="VDD1", voltage="1.2 V", IDD0="56.25 mA", IDD2N="33.75 mA", IDD3N="35 mA", IDD4R="157.5 mA",  # type: ignore[arg-type]
    IDD4W="135 mA", IDD5AB="118 mA", IDD5PB="74 mA",  # type: ignore[arg-type]
)  # fmt: skip
"""DRAMPower's LPDDR5 test file (d8b980a, lpddr5.json): not the currents of any part, for formulas only."""


def _with_currents(on: Standard) -> Standard:
    """A standard with the currents the reference run used."""
    if isinstance(on.energy, MeasuredCurrents):
        return on
    # the reference's standby with one bank open lies midway between closed and all banks open
    share = 1 / (on.organisation.banks + 1)
    model = MeasuredCurrents(
        kind="currents",
        confidence="assumed",
        bank_share=share,
        group_reads=True,
        rails=(_PLACEHOLDER,),
        source=on.energy.source,
    )
    return on.model_copy(update={"energy": model})


def _energy(results: dict[tuple[str, str, str], ReplayResult]) -> Check:
    import pandas as pd

    columns = {
        "energy_act_pJ": Event.ROW_ACTIVATE,
        "energy_pre_pJ": Event.ROW_PRECHARGE,
        "energy_rd_pJ": Event.DRAM_READ,
        "energy_wr_pJ": Event.DRAM_WRITE,
        "energy_ref_ab_pJ": Event.REFRESH_ALL_BANK,
        "energy_background_pre_pJ": BACKGROUND_CLOSED,
        "energy_background_act_shared_pJ": BACKGROUND_OPEN,
        "energy_background_act_banks_pJ": BACKGROUND_BANKS,
    }
    rows = []
    for row in read_table("dram_drampower.csv"):
        config = row["config"].removesuffix("-placeholder_currents")
        result = results[row["standard"], config, row["trace"]]
        assert isinstance(result.part, Standard)
        on = _with_currents(result.part)
        own = activity(on, result.state, result.last_clock)
        accounts = [{r.event: r.energy_pj for r in energy_rows(on, done)} for done in (own, _as_read(result, own))]
        parts = {
            name: [done.get(event, 0.0) for done in accounts] + [float(row[name])] for name, event in columns.items()
        }
        interface = sum(float(row[name]) for name in row if name.startswith("energy_interface"))
        sums = [sum(part[k] for part in parts.values()) for k in range(2)]
        parts["energy_core_total_pJ"] = [*sums, float(row["energy_total_pJ"]) - interface]
        for name, (by_us, as_read, published) in parts.items():
            errors = (100 * _error(by_us, published), 100 * _error(as_read, published))
            rows.append((row["standard"], row["trace"], name, by_us, as_read, published, *errors))
    names = [
        "standard",
        "trace",
        "part",
        "computed_pj",
        "as_read_pj",
        "drampower_pj",
        "computed_error_percent",
        "error_percent",
    ]
    table = pd.DataFrame(rows, columns=names)
    totals = table[table["part"] == "energy_core_total_pJ"]
    within = (table["error_percent"] <= 100 * ENERGY_LIMIT).all()
    return Check(
        title="DRAM energy on equal currents against DRAMPower 6.2 (d8b980a)",
        table=table,
        limits=f"every part of the trace as DRAMPower reads it, and our own totals, within {ENERGY_LIMIT:.0%}",
        passed=bool(within and (totals["computed_error_percent"] <= 100 * ENERGY_LIMIT).all()),
        notes=(
            "Scope: device core and background. LPDDR4 and LPDDR4X on data-sheet currents; LPDDR5 and LPDDR5X on the "
            "placeholder currents of DRAMPower's tests, which compare formulas and are never defaults here.",
            "Two readings of one trace: an LPDDR4 activation may begin (first of its four clocks) two clocks before "
            "the end of tRFC; DRAMPower then closes that bank again when the refresh ends, so that one precharge per "
            "refresh and the time until the next activation are missing. as_read_pj repeats that; computed_pj, which "
            "this package reports, does not.",
            "Interface energy is left out on both sides here; the next table compares it.",
        ),
    )


_FOUR = {"data_lines": 16, "read_strobe_lines": 4, "write_strobe_lines": 4, "clock_lines": 2, "beats_per_clock": 2}
_FIVE = _FOUR | {"read_strobe_lines": 2, "write_strobe_lines": 0}
_LINES = {
    "LPDDR4-3200": ("1.1 V", _FOUR),
    "LPDDR4X-4266": ("0.6 V", _FOUR),
    "LPDDR5-6400": ("0.5 V", _FIVE),
    "LPDDR5X-8533": ("0.5 V", _FIVE),
}
"""What DRAMPower (d8b980a) was run with: toggling and high 0.5, 1 pJ per edge, 1 megohm, and two beats per CK in all of
them; LPDDR5's VDDQ is inferred from its static energies."""


def _interface(results: dict[tuple[str, str, str], ReplayResult]) -> Check:
    import pandas as pd

    rows = []
    for row in read_table("dram_drampower.csv"):
        result = results[row["standard"], row["config"].removesuffix("-placeholder_currents"), row["trace"]]
        assert isinstance(result.part, Standard)
        on = _with_currents(result.part)
        assert isinstance(on.energy, MeasuredCurrents)
        volts, lines = _LINES[row["standard"]]
        edges = SignalEdges(voltage=volts, pj_per_edge=1, resistance_ohm=1e6, **lines)  # type: ignore[arg-type]
        on = on.model_copy(update={"energy": on.energy.model_copy(update={"io": edges})})
        account = {r.event: r.energy_pj for r in energy_rows(on, activity(on, result.state, result.last_clock))}
        device = account[READ_IO]
        controller = account.get(WRITE_IO, 0.0) + account[CLOCK_IO]
        theirs = {
            side: sum(float(row[f"energy_interface_{side}_{kind}_pJ"]) for kind in ("dynamic", "static"))
            for side in ("dram", "controller")
        }
        commands = sum(result.commands[name] for name in result.commands if not name.startswith(("CAS", "ACT2")))
        left = theirs["controller"] - controller
        rows.append(
            (
                *(row["standard"], row["trace"], device, theirs["dram"], 100 * _error(device, theirs["dram"])),
                *(controller, theirs["controller"], left, left / commands, 100 * left / sum(theirs.values())),
            )
        )
    names = ["standard", "trace", "dram_pj", "drampower_dram_pj", "error_percent", "controller_pj"]
    names += ["drampower_controller_pj", "left_pj", "left_pj_per_command", "left_percent"]
    table = pd.DataFrame(rows, columns=names)
    within = (table["error_percent"] <= 100 * ENERGY_LIMIT).all()
    return Check(
        title="DRAM interface energy from signal edges against DRAMPower 6.2 (d8b980a)",
        table=table,
        limits=(
            f"what the DRAM drives within {ENERGY_LIMIT:.0%}; what the controller drives without command and address "
            f"lines: the rest is {_CA_EDGES[0]} to {_CA_EDGES[1]} edges per command"
        ),
        passed=bool(within and table["left_pj_per_command"].between(*_CA_EDGES).all()),
        notes=(
            "Scope: data, strobe and clock lines, rising edges and time high. Not modelled: command and address lines "
            "(left_pj), whose edges depend on the row, column and bank bits of each command and on the standard's "
            "command codes, which neither the traces' counts nor the reference figures hold; and WCK, of which "
            "DRAMPower's figures hold no edges.",
            "1 pJ per edge and 1 megohm are placeholders of DRAMPower's files, so no standard here uses them; the I/O "
            "rows of results come from interface currents (LPDDR4, 4X) or from the assumed set.",
        ),
    )


_CA_EDGES = (2, 12)
"""Rising edges that a command can plausibly cause on six or seven command and address lines in two to four clocks."""


def _as_read(result: ReplayResult, own: Activity) -> Activity:
    """The activity of a run as DRAMPower reads its command trace: a refresh ends by closing all banks."""
    assert isinstance(result.part, Standard)
    have, lasting = result.part.commands, result.part.role_cycles("refresh_cycle")
    trace = result.command_trace()
    is_open: set[int] = set()
    changes: list[tuple[int, int, str, int]] = []
    for clock, command, bank in zip(trace["clock"], trace["command"], trace["bank"], strict=True):
        if command in (have.activate, have.precharge, have.precharge_all, have.refresh_all):
            changes.append((int(clock), 1, command, int(bank)))
        if command == have.refresh_all:
            changes.append((int(clock) + lasting, 0, "end", 0))
    precharges = open_clocks = bank_clocks = since = 0
    banks = range(result.part.organisation.banks)
    for clock, _, command, bank in [*sorted(changes), (result.last_clock, 2, "stop", 0)]:
        span = max(0, min(clock, result.last_clock) - since)
        open_clocks += span * bool(is_open)
        bank_clocks += span * len(is_open)
        since += span
        if command == have.activate:
            is_open.add(bank)
        elif command == have.precharge:
            precharges += bank in is_open
            is_open.discard(bank)
        elif command == have.precharge_all:
            precharges += len(is_open)
            is_open.clear()
        elif command == have.refresh_all:
            is_open.update(banks)
        else:
            is_open.clear()
    second = result.part.period_ns * 1e-9
    return replace(
        own,
        precharges=precharges,
        closed_seconds=(result.last_clock - open_clocks) * second,
        open_seconds=open_clocks * second,
        open_bank_seconds=bank_clocks * second,
    )
