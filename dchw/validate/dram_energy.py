"""The DRAM energy model against DRAMPower 6.2 on equal currents: device core and background, and the interface.

One command trace, two readings: ours, and the one DRAMPower took of it (``as_read``), where they differ. Formulas are
compared exactly under DRAMPower's reading; under ours the totals are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dchw.dram.currents import MeasuredCurrents, Rail, SignalEdges
from dchw.dram.energy import (
    BACKGROUND_BANKS,
    BACKGROUND_CLOSED,
    BACKGROUND_OPEN,
    CLOCK_IO,
    COMMAND_EDGES,
    COMMAND_LEVELS,
    READ_IO,
    WRITE_IO,
    Activity,
    activity,
    energy_rows,
)
from dchw.dram.replay import ReplayResult
from dchw.dram.standard import Standard, standard
from dchw.tables import read_table
from dchw.validate import Check
from dchw.validate.dram_runs import Trace, reference_replay, relative_error
from dchw.vocabulary import Event

if TYPE_CHECKING:
    import pandas as pd

ENERGY_LIMIT = 0.01


_PLACEHOLDER = Rail(
    name="VDD1", voltage="1.2 V", IDD0="56.25 mA", IDD2N="33.75 mA", IDD3N="35 mA", IDD4R="157.5 mA",  # type: ignore[arg-type]
    IDD4W="135 mA", IDD5AB="118 mA", IDD5PB="74 mA",  # type: ignore[arg-type]
)  # fmt: skip
"""DRAMPower's LPDDR5 test file (d8b980a, lpddr5.json): not the currents of any part, for formulas only."""


def _with_currents(on: Standard) -> Standard:
    """A standard with the currents the reference run used."""
    if isinstance(on.energy, MeasuredCurrents):
        return on.model_copy(update={"energy": on.energy.model_copy(update={"measured_at": None})})
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


def _compared(rows: list[tuple[Any, ...]], what: str, total: str) -> tuple[pd.DataFrame, bool]:
    """Rows of standard, trace, ``what``, and energy computed, as read and published, with errors; if all is within.

    Within ENERGY_LIMIT must be every figure as read, and those computed of ``total``.
    """
    import pandas as pd

    readings = {"computed_pj": "computed_error_percent", "as_read_pj": "error_percent"}
    table = pd.DataFrame(rows, columns=["standard", "trace", what, *readings, "drampower_pj"])
    for reading, error in readings.items():
        pairs = zip(table[reading], table["drampower_pj"], strict=True)
        table[error] = [100 * relative_error(computed, published) for computed, published in pairs]
    bound = [table["error_percent"], table["computed_error_percent"][table[what] == total]]
    return table, all(bool((errors <= 100 * ENERGY_LIMIT).all()) for errors in bound)


def core(results: dict[tuple[str, str, str], ReplayResult]) -> Check:
    """Energy of device and background, part by part; ``results`` by standard, config and trace."""
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
        accounts = [
            {r.event: r.energy_pj for r in energy_rows(on, done)} for done in (own, _activity_as_read(result, own))
        ]
        parts = {
            name: [done.get(event, 0.0) for done in accounts] + [float(row[name])] for name, event in columns.items()
        }
        interface = sum(float(row[name]) for name in row if name.startswith("energy_interface"))
        sums = [sum(part[k] for part in parts.values()) for k in range(2)]
        parts["energy_core_total_pJ"] = [*sums, float(row["energy_total_pJ"]) - interface]
        rows += [(row["standard"], row["trace"], name, *figures) for name, figures in parts.items()]
    table, within = _compared(rows, "part", "energy_core_total_pJ")
    return Check(
        title="DRAM energy on equal currents against DRAMPower 6.2 (d8b980a)",
        table=table,
        limits=f"every part of the trace as DRAMPower reads it, and our own totals, within {ENERGY_LIMIT:.0%}",
        passed=within,
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


def _activity_as_read(result: ReplayResult, own: Activity) -> Activity:
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


def by_edges(name: str) -> Standard:
    """A standard with the reference's currents, and its interface by signal edges."""
    on = _with_currents(standard(name))
    assert isinstance(on.energy, MeasuredCurrents)
    volts, lines = _LINES[name]
    edges = SignalEdges(voltage=volts, pj_per_edge=1, resistance_ohm=1e6, **lines)  # type: ignore[arg-type]
    return on.model_copy(update={"energy": on.energy.model_copy(update={"io": edges})})


def codes_as_read(on: Standard) -> Standard:
    """A standard with the command codes as DRAMPower applied them to the reference traces.

    LPDDR4: a burst's number in its row stood for its column address, whose bits 2 and 3 are always low; CA0 and CA1 of
    ACT-2 are R17 and R18. LPDDR5: both parts of an activation together, at the first one's clock, and no CAS.
    """
    assert on.codes is not None
    words, each = dict(on.codes.words), on.codes.columns_per_burst
    second, have = on.commands.activate_second, on.commands
    if second is None:
        words[have.activate] = words[have.activate].replace("H H R6", "R17 R18 R6")
        for name in (have.read, have.write):
            words[name] = words[name].replace("| C2 C3", "| L L")
        each = 1
    else:
        words[have.activate] += f" | {words[second]}"
        words |= {name: "" for name in (second, have.sync_read, have.sync_write) if name is not None}
    codes = on.codes.model_copy(update={"words": words, "columns_per_burst": each})
    return on.model_copy(update={"codes": codes})


def interface(traces: dict[str, Trace]) -> Check:
    """Interface energy by who drives the lines, and the total energy with it."""
    rows = []
    for row in read_table("dram_drampower.csv"):
        config, name = row["config"].removesuffix("-placeholder_currents"), row["standard"]
        own, as_read = (
            sides(reference_replay(on, config, traces[row["trace"]]))
            for on in (by_edges(name), codes_as_read(by_edges(name)))
        )
        theirs = {
            side: sum(float(row[f"energy_interface_{side}_{kind}_pJ"]) for kind in ("dynamic", "static"))
            for side in ("dram", "controller")
        } | {"total": float(row["energy_total_pJ"])}
        rows += [(name, row["trace"], side, own[side], as_read[side], theirs[side]) for side in theirs]
    table, within = _compared(rows, "driven_by", "total")
    return Check(
        title="DRAM interface energy from signal edges against DRAMPower 6.2 (d8b980a), and the total with it",
        table=table,
        limits=f"both sides with the codes DRAMPower applied, and our own totals, within {ENERGY_LIMIT:.0%}",
        passed=within,
        notes=(
            "Scope: rising edges and time high of data, strobe and clock lines, and of command and address lines from "
            "the code, row, column and bank of every command. total: device core, background and interface. Not in "
            "either: chip select, and WCK, of which DRAMPower's figures hold no edges.",
            "Two readings of one trace: as_read_pj has the codes as DRAMPower was given them. For LPDDR4 a burst's "
            "number in its row stood for its column address, so that four address bits never moved; for LPDDR5 the "
            "second part of an activation follows the first at once and CAS commands are left out. computed_pj, which "
            "this package reports, has every command with its full address at its own clock.",
            "What is left of error_percent is the end of a run: a last write's data, or one clock.",
            "1 pJ per edge and 1 megohm are placeholders of DRAMPower's files, so no standard here uses them; the I/O "
            "rows of results come from interface currents (LPDDR4, 4X) or from the assumed set.",
        ),
    )


def sides(result: ReplayResult) -> dict[str, float]:
    """Interface energy by who drives the lines, and the total energy of a run."""
    account = {row.event: row.energy_pj for row in result.energy}
    controller = sum(account.get(event, 0.0) for event in (WRITE_IO, CLOCK_IO, COMMAND_EDGES, COMMAND_LEVELS))
    return {"dram": account[READ_IO], "controller": controller, "total": result.energy_pj}
