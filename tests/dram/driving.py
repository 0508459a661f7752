"""Random request lists and the two ways to run them: the kernels, and the per-clock oracle."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from dchw.dram.controller import offer
from dchw.dram.options import Controller
from dchw.dram.standard import Standard, standard, standard_names
from dchw.dram.system import MemorySystem
from tests.oracles.dram import SlowController


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
