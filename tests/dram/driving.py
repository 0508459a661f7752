"""A memory driven from Python; random request lists and the two ways to run them: kernels and the per-clock oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from dchw.dram.address import address_map, locate
from dchw.dram.controller import advance, completions, offer, pending, take_completion
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.standard import Standard, standard, standard_names
from dchw.dram.state import channel_state
from tests.oracles.dram import SlowController


class MemorySystem:
    """A memory driven from Python, clock by clock; see ``dchw.dram.controller`` for what clocks mean."""

    def __init__(
        self,
        source: str | Path | Standard | FixedMemory,
        controller: Controller | None = None,
        *,
        mapping: str = "robaracoch",
        channels: int = 1,
        trace_length: int = 0,
    ) -> None:
        self.part = source if isinstance(source, FixedMemory) else standard(source)
        self.controller = controller or Controller()
        self.bits = address_map(self.part, mapping, channels)
        self.state = channel_state(self.part, self.controller, channels=channels, trace_length=trace_length)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.state.live)

    def locate(self, address: int) -> tuple[int, int, int, int]:
        """Channel, bank, row and column of a byte address."""
        channel, bank, row, column = locate(self.bits, address)
        return int(channel), int(bank), int(row), int(column)

    def offer(self, clock: int, address: int, is_write: bool, tag: int) -> bool:
        """Offer one burst at a clock; true if its channel accepted it."""
        return bool(offer(self.state, self.locate(address)[0], clock, *self.locate(address)[1:], is_write, tag))

    def advance(self, channel: int, until: int) -> int:
        """Run a channel up to a clock or to the first observable thing; the clock reached."""
        return int(advance(self.state, channel, until))

    def completions(self, channel: int) -> list[tuple[int, int]]:
        """Take all (tag, completion clock) that became known."""
        taken = [take_completion(self.state, channel) for _ in range(completions(self.state, channel))]
        return [(int(tag), int(clock)) for tag, clock in taken]

    def pending(self, channel: int) -> int:
        """Requests accepted whose command has not issued."""
        return int(pending(self.state, channel))

    def trace(self, channel: int) -> list[tuple[int, str, int, int, int]]:
        """Commands of a channel so far, as far as they were kept: clock, name, bank, row, column (-1 where none)."""
        if isinstance(self.part, FixedMemory):
            return []
        names = list(self.part.commands.clocks)
        m = self.state.live[channel]
        return [(clock, names[command], *place) for clock, command, *place in m.log[: m.logged].tolist()]


@dataclass(frozen=True)
class Asked:
    bank: int
    row: int
    column: int
    is_write: bool
    gap: int


@st.composite
def setups(draw):
    """A standard (sometimes of two ranks, with frequent refresh) and a controller that fits it."""
    std = standard(draw(st.sampled_from(standard_names())))
    if draw(st.booleans()):
        std = std.replace("organisation.ranks", 2)
    refresh = ["refab", "noref"] if std.commands.refresh_bank is None else ["refab", "refpb", "noref"]
    refresh = draw(st.sampled_from(refresh))
    if draw(st.booleans()):
        often = std.role_cycles("refresh_cycle") + draw(st.integers(40, 400))
        std = std.replace("timings.nREFI.cycles", often)
    options = Controller(
        refresh=refresh,
        row_policy=draw(st.sampled_from(["open", "open", "closed", "timeout"])),
        row_timeout=draw(st.sampled_from([5, 60])),
        read_queue=draw(st.sampled_from([1, 3, 32])),
        write_queue=draw(st.sampled_from([1, 5, 32])),
        rest_of_chip=draw(st.sampled_from([0.0, 0.0, 0.25])),
    )
    return std, options


@st.composite
def request_lists(draw, banks: int, most: int = 60):
    """Streams, gathers and mixtures: few or many banks and rows, bursts of arrivals and pauses."""
    width = draw(st.sampled_from([1, 2, banks]))
    rows = draw(st.sampled_from([1, 2, 4]))
    writes = draw(st.sampled_from([0, 3, 5, 10]))
    one = st.builds(
        Asked,
        bank=st.integers(0, width - 1),
        row=st.integers(0, rows - 1),
        column=st.integers(0, 15),
        is_write=st.integers(0, 9).map(lambda k: k < writes),
        gap=st.sampled_from([0, 0, 0, 1, 2, 25]),
    )
    return draw(st.lists(one, min_size=1, max_size=most))


def run_kernels(std: Standard, options: Controller, asked: list[Asked]) -> tuple[MemorySystem, list[tuple[int, int]]]:
    """The memory after all requests, offered as soon as they are taken, and its completions."""
    memory = MemorySystem(std, options, trace_length=1 << 16)
    clock, done = 0, []
    for tag, r in enumerate(asked):
        clock += r.gap
        while not offer(memory.state, 0, clock, r.bank, r.row, r.column, r.is_write, tag):
            clock += 1
        done += memory.completions(0)
    while memory.pending(0):
        memory.advance(0, memory.state.live[0].clock + 10_000)
        done += memory.completions(0)
    return memory, done


def run_oracle(std: Standard, options: Controller, asked: list[Asked]) -> SlowController:
    """The per-clock controller after the same requests."""
    slow, clock = SlowController(std, options), 0
    for tag, r in enumerate(asked):
        clock += r.gap
        while True:
            while slow.clock < clock:
                slow.tick()
            if slow.offer(r.bank, r.row, r.column, r.is_write, tag):
                break
            clock += 1
    while slow.pending:
        slow.tick()
    return slow
