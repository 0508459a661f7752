"""Energy of a memory from what its channels did: per command, background by bank state, refresh, input and output.

From data-sheet currents, after the formulas DRAMPower 6.2 uses (V I summed over the rails, t in clocks times tCK)::

    activate         V (IDD0 - IDD3N) tRAS              precharge   V (IDD0 - IDD2N) tRP, per bank
    read, write      V (IDD4R|W - I3) burst             refresh     V (IDD5AB - IB) tRFCab, V (I5PB - IDD3N) tRFCpb
    background       V IDD2N while all banks are closed; else V Irho and V (IDD3N - Irho) for each open bank
    input, output    VDDQ (IDD4R|WQ - IDD3NQ) burst     where the currents of the interface rail are known

with rho the share of the standby rise that comes with the first open bank (``bank_share``), B the banks,
Irho = (B rho IDD3N + (1 - rho) IDD2N) / (B rho + 1 - rho), IB = Irho + B (IDD3N - Irho),
I5PB = (IDD5PB tREFI/8 - IDD2N (tREFI/8 - tRFCpb)) / tRFCpb and I3 = IDD3N, or 2 IDD3N - Irho with ``group_reads``.
Banks in refresh count as open. Where IDD4 was measured at another data rate (``measured_at``), a burst's range runs
from the currents as listed to those times the ratio of the rates: the core's charge stays, so that it is taken at the
upper end, while a terminated interface draws the same current for less time and is taken as listed. Where no such
currents are known, input and output may be given as DRAMPower has it, by the edges and levels of signals
(`SignalEdges`)::

    a burst of n beats   (data toggling n / 2 + strobes n / 2) edges, each its energy
                         + (data high + strobes / 2) n / beats per clock x tCK x V^2 / R
    clock, all the time  clock lines: one edge each tCK, and high half of the time
    commands             each rising edge of a command and address line, and V^2 / R while it is high, counted command
                         by command from its code, row, column and bank (`dchw.dram.codes`)

Without currents, the assumed energy per streamed bit is divided as the standard file says. Not in either:
power-down and temperature, and the controller and PHY on the chip unless a machine states them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from dchw.dram.currents import AssumedEnergy, MeasuredCurrents, Rail, SignalEdges, Spread
from dchw.dram.device import account_power
from dchw.dram.lines import account_lines
from dchw.dram.options import FixedMemory
from dchw.dram.standard import Standard
from dchw.dram.state import State
from dchw.technology.figure import Confidence, Figure
from dchw.vocabulary import Event

BACKGROUND_CLOSED = "background_precharged"
BACKGROUND_OPEN = "background_open"
BACKGROUND_BANKS = "background_per_open_bank"
READ_IO = "dram_read_io"
WRITE_IO = "dram_write_io"
CLOCK_IO = "dram_clock_io"
COMMAND_EDGES = "dram_command_edges"
COMMAND_LEVELS = "dram_command_levels"
CONTROLLER_AND_PHY = "controller_and_phy"
"""Row of the chip's own side of the interface, per bit moved, where a machine states it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyRow:
    """``count`` times ``each``: commands in pJ per command, background in pJ per second."""

    event: str
    count: float
    each: Figure

    @property
    def energy_pj(self) -> float:
        """Nominal energy."""
        return self.count * self.each.nominal


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What the channels of a memory did, summed over them; bank-state times are sums over ranks, in seconds."""

    activates: int
    precharges: int
    reads: int
    writes: int
    refreshes_all_bank: int
    refreshes_per_bank: int
    closed_seconds: float
    open_seconds: float
    open_bank_seconds: float
    command_rises: int
    """Rising edges of all command and address lines; 0 where they are not counted."""
    command_high_seconds: float
    """Seconds that these lines are high, summed over them."""


def activity(std: Standard, state: State, clocks: int) -> Activity:
    """The activity of channels that have all been run up to the same clock ``clocks``."""
    have, f = std.commands, state.fixed[0]
    names = list(have.clocks)
    issued = state.live.counts.sum(axis=(0, 1))
    ranks = int(f.ranks)
    for m in state.live:
        account_lines(f, m, clocks)
        for rank in range(ranks):
            account_power(m, rank, clocks)
    any_open = int(state.live["any_open_clocks"][:, :ranks].sum())
    open_banks = int(state.live["open_bank_clocks"][:, :ranks].sum())
    rises, highs = int(state.live["line_rises"].sum()), int(state.live["line_highs"].sum())
    seconds = std.period_ns * 1e-9

    def count(*roles: str | None) -> int:
        return sum(int(issued[names.index(role)]) for role in roles if role is not None)

    return Activity(
        activates=count(have.activate),
        precharges=int(state.live.precharged.sum()),
        reads=count(have.read, have.read_precharge),
        writes=count(have.write, have.write_precharge),
        refreshes_all_bank=count(have.refresh_all),
        refreshes_per_bank=count(have.refresh_bank),
        closed_seconds=(len(state.live) * ranks * clocks - any_open) * seconds,
        open_seconds=any_open * seconds,
        open_bank_seconds=open_banks * seconds,
        command_rises=rises,
        command_high_seconds=highs / max(1, int(f.code_rate)) * seconds,
    )


@lru_cache(maxsize=64)
def energy_each(std: Standard) -> Mapping[str, Figure]:
    """Energy of every event of a standard: pJ per command, and pJ per second for background rows."""
    model = std.energy
    each = _from_currents(std, model) if isinstance(model, MeasuredCurrents) else _from_assumption(std, model)
    return MappingProxyType(each)


def _from_currents(std: Standard, model: MeasuredCurrents) -> dict[str, Figure]:
    source, confidence = std.sources[model.source], Confidence(model.confidence)
    faster = std.clock.data_rate / (model.measured_at or std.clock.data_rate)
    listed, scaled = _current_energies(std, model, 1.0), _current_energies(std, model, faster)
    return {
        event: Figure(
            listed[event] if event in _IO else scaled[event],
            min(listed[event], scaled[event]),
            max(listed[event], scaled[event]),
            _unit(event),
            source,
            confidence,
        ).because(f"DRAM: burst currents of {std.name} from another data rate")
        for event in listed
    }


def _current_energies(std: Standard, model: MeasuredCurrents, faster: float) -> dict[str, float]:
    """Energies by event, with what bursts draw above standby times ``faster``."""
    banks, rho = std.organisation.banks, model.bank_share
    ns = std.period_ns
    ras, rp = std.role_cycles("row_active") * ns, std.role_cycles("row_precharge") * ns
    burst = std.role_cycles("burst") * ns
    refresh = std.role_cycles("refresh_cycle") * ns
    bank_refresh = std.role_cycles("bank_refresh_cycle") * ns
    eighth = std.role_cycles("refresh_interval") * ns / 8
    energy = dict.fromkeys((*_COMMANDS, *_BACKGROUND, *_IO), 0.0)

    def shared(rail: Rail) -> float:
        return (banks * rho * rail.IDD3N + (1 - rho) * rail.IDD2N) / (banks * rho + 1 - rho)

    for rail in model.rails:
        volts, one = rail.voltage, shared(rail)
        standby = 2 * rail.IDD3N - one if model.group_reads else rail.IDD3N
        all_banks = one + banks * (rail.IDD3N - one)
        # mA x V x ns = pJ; mA x V x 1e9 = pJ per second
        energy[Event.ROW_ACTIVATE] += volts * (rail.IDD0 - rail.IDD3N) * ras
        energy[Event.ROW_PRECHARGE] += volts * (rail.IDD0 - rail.IDD2N) * rp
        energy[Event.DRAM_READ] += volts * faster * (rail.IDD4R - standby) * burst
        energy[Event.DRAM_WRITE] += volts * faster * (rail.IDD4W - standby) * burst
        energy[Event.REFRESH_ALL_BANK] += volts * (rail.IDD5AB - all_banks) * refresh
        if bank_refresh:
            while_refreshing = (rail.IDD5PB * eighth - rail.IDD2N * (eighth - bank_refresh)) / bank_refresh
            energy[Event.REFRESH_PER_BANK] += volts * (while_refreshing - rail.IDD3N) * bank_refresh
        energy[BACKGROUND_CLOSED] += volts * rail.IDD2N * 1e9
        energy[BACKGROUND_OPEN] += volts * one * 1e9
        energy[BACKGROUND_BANKS] += volts * (rail.IDD3N - one) * 1e9
    if isinstance(model.io, SignalEdges):
        energy |= _from_edges(std, model.io)
    elif model.io is not None:
        energy[READ_IO] = model.io.voltage * faster * (model.io.IDD4RQ - model.io.IDD3NQ) * burst
        energy[WRITE_IO] = model.io.voltage * faster * (model.io.IDD4WQ - model.io.IDD3NQ) * burst
    return energy


def _from_edges(std: Standard, io: SignalEdges) -> dict[str, float]:
    beats, ns = std.organisation.burst_beats, std.period_ns
    high_watts = io.voltage**2 / io.resistance_ohm

    def burst(strobes: int) -> float:
        edges = (io.data_lines * io.toggling + strobes) * beats / 2
        high_ns = (io.data_lines * io.high + strobes / 2) * beats / io.beats_per_clock * ns
        return edges * io.pj_per_edge + high_ns * high_watts * 1e3

    each_second = io.clock_lines * (std.clock_hz * io.pj_per_edge + high_watts / 2 * 1e12)
    return {
        READ_IO: burst(io.read_strobe_lines),
        WRITE_IO: burst(io.write_strobe_lines),
        CLOCK_IO: each_second / std.organisation.ranks,  # one clock for all ranks of a channel
        COMMAND_EDGES: io.pj_per_edge,
        COMMAND_LEVELS: high_watts * 1e12,
    }


def _from_assumption(std: Standard, model: AssumedEnergy) -> dict[str, Figure]:
    org, split = std.organisation, model.split
    burst_bits, row_bits = org.burst_size * 8, org.row_size * 8
    row = split.activate + split.precharge
    factors = dict.fromkeys((*_COMMANDS, *_BACKGROUND, *_IO), 0.0) | {
        Event.ROW_ACTIVATE: split.activate * row_bits,
        Event.ROW_PRECHARGE: split.precharge * row_bits,
        Event.DRAM_READ: split.column * burst_bits,
        Event.DRAM_WRITE: split.column * burst_bits,
        READ_IO: split.io * burst_bits,
        WRITE_IO: split.io * burst_bits,
        Event.REFRESH_ALL_BANK: model.refresh_row_cycles.all_bank * row * row_bits,
        Event.REFRESH_PER_BANK: model.refresh_row_cycles.per_bank * row * row_bits,
        BACKGROUND_CLOSED: split.background * std.peak_bytes_per_second * 8 / org.ranks,
        BACKGROUND_OPEN: split.background * std.peak_bytes_per_second * 8 / org.ranks,
    }
    bit, source = model.streaming_pj_per_bit, std.sources[model.source]
    return {
        event: Figure(
            factor * bit.nominal, factor * bit.low, factor * bit.high, _unit(event), source, Confidence.ASSUMED
        ).because(f"DRAM: {source}")
        for event, factor in factors.items()
    }


_COMMANDS = (
    Event.ROW_ACTIVATE,
    Event.ROW_PRECHARGE,
    Event.DRAM_READ,
    Event.DRAM_WRITE,
    Event.REFRESH_ALL_BANK,
    Event.REFRESH_PER_BANK,
)
_BACKGROUND = (BACKGROUND_CLOSED, BACKGROUND_OPEN, BACKGROUND_BANKS)
_IO = (READ_IO, WRITE_IO, CLOCK_IO, COMMAND_EDGES, COMMAND_LEVELS)


def _unit(event: str) -> str:
    return "pJ/s" if event in (*_BACKGROUND, CLOCK_IO, COMMAND_LEVELS) else "pJ"


def energy_rows(std: Standard, done: Activity) -> tuple[EnergyRow, ...]:
    """The energy account of a memory: one row per event that happened, background in seconds."""
    each = energy_each(std)
    counts = {
        Event.ROW_ACTIVATE: done.activates,
        Event.ROW_PRECHARGE: done.precharges,
        Event.DRAM_READ: done.reads,
        Event.DRAM_WRITE: done.writes,
        Event.REFRESH_ALL_BANK: done.refreshes_all_bank,
        Event.REFRESH_PER_BANK: done.refreshes_per_bank,
        READ_IO: done.reads,
        WRITE_IO: done.writes,
        BACKGROUND_CLOSED: done.closed_seconds,
        BACKGROUND_OPEN: done.open_seconds,
        BACKGROUND_BANKS: done.open_bank_seconds,
        CLOCK_IO: done.closed_seconds + done.open_seconds,
        COMMAND_EDGES: done.command_rises,
        COMMAND_LEVELS: done.command_high_seconds,
    }
    return tuple(
        EnergyRow(event=str(event), count=count, each=each[event])
        for event, count in counts.items()
        if count and each[event].high
    )


def controller_and_phy(spread: Spread) -> Figure:
    """pJ per bit that the controller and PHY on the chip take, as a machine states it."""
    source = "controller and PHY as the machine states them, no public figure"
    return Figure(spread.nominal, spread.low, spread.high, "pJ", source, Confidence.ASSUMED).because(
        "DRAM: controller and PHY"
    )


def scope(part: Standard | FixedMemory, interface: Spread | None = None) -> str:
    """What the energy of a memory covers, in words for every table that shows it.

    ``interface`` is what a machine states of its controller and PHY, in pJ per bit.
    """
    if isinstance(part, FixedMemory):
        return "fixed memory: no DRAM energy is counted"
    chip = "without controller and PHY"
    if interface is not None:
        span = f"{interface.low:g} / {interface.nominal:g} / {interface.high:g}"
        chip = f"with controller and PHY, assumed {span} pJ per bit"
    model = part.energy
    if isinstance(model, AssumedEnergy):
        bit = model.streaming_pj_per_bit
        return (
            f"{part.name} device, I/O and background: assumed {bit.low:g} / {bit.nominal:g} / {bit.high:g} pJ per bit "
            f"at streaming peak, no public currents; {chip}"
        )
    io = "without I/O rail"
    if isinstance(model.io, SignalEdges):
        io = "I/O of data, strobe, clock, command and address lines from counted edges"
        if part.counted_codes is None:
            io = "I/O of data, strobe and clock lines from counted edges, without command and address lines"
    elif model.io is not None:
        io = "with I/O rail"
    return f"{part.name} device and background from {model.confidence} currents, {io}; {chip}"


def total_pj(rows: tuple[EnergyRow, ...]) -> float:
    """Nominal sum of rows."""
    return math.fsum(row.energy_pj for row in rows)
