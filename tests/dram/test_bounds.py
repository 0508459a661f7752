"""Every run ends or is refused, and Ctrl-C is heard meanwhile: thresholds at their limits, huge cycles and sizes."""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.config import build
from dchw.dram import injection
from dchw.dram.controller import run_idle
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.standard import standard
from dchw.dram.state import channel_state
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine
from dchw.machines.units.dram import Dram
from dchw.quantities import ConfigError, FileFormatError
from dchw.traces import requests
from dchw.traces.chunk import ADDRESS_MAX, BYTES_MAX, CYCLE_MAX
from tests.parity.test_lpddr import stream

MIXED = np.arange(400) * 64, np.arange(400) % 2 == 0


def test_draining_to_nothing_empties_the_write_queue_and_then_reads() -> None:
    none = dchw.replay(MIXED, "LPDDR5-6400", controller=Controller(write_low=0.0))
    one = dchw.replay(MIXED, "LPDDR5-6400", controller=Controller(write_low=1 / 32))
    assert none.cycles == one.cycles
    assert channel_state("LPDDR5-6400", Controller(write_low=0.0)).fixed[0].write_low == 1


def test_the_rest_of_the_chip_never_holds_every_slot() -> None:
    most = dchw.replay((np.arange(4) * 64, np.zeros(4, bool)), "LPDDR5-6400", controller=Controller(rest_of_chip=0.999))
    assert most.cycles > 1000
    with pytest.raises((ConfigError, ValueError), match="rest_of_chip"):
        Controller(rest_of_chip=0.9996)
    with pytest.raises((ConfigError, ValueError), match="rest_of_chip"):
        FixedMemory.model_validate({"clock": "1 GHz", "bytes_per_cycle": 1, "latency": 0, "rest_of_chip": 0.9996})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"cycle": CYCLE_MAX + 1}, r"cycle: expected at most .* \(let clocks begin at 0\); got 1099511627777"),
        ({"size_bytes": BYTES_MAX + 1}, r"bytes: expected at most .* \(split the request\)"),
        ({"address": ADDRESS_MAX + 1}, "address: expected at most"),
        ({"size_bytes": 0}, "bytes: expected at least 1; got 0"),
        ({"stream": 100}, "stream: expected at most"),
    ],
    ids=["cycle", "bytes", "address", "nothing", "stream"],
)
def test_a_request_beyond_the_bounds_is_refused_by_name(columns: dict[str, int], message: str) -> None:
    given = {"address": 64, **columns}
    with pytest.raises(FileFormatError, match=message):
        requests([given.pop("address")], [False], **given)


def test_the_last_request_within_the_bounds_ends_where_it_should() -> None:
    run = dchw.replay(requests([ADDRESS_MAX], [False], size_bytes=1 << 16), "LPDDR5-6400", refresh="noref")
    assert run.commands["RD"] == (1 << 16) // standard("LPDDR5-6400").organisation.burst_size + 1


@pytest.mark.parametrize("inject", ["backtoback", "oneatatime", "timed"])
@pytest.mark.parametrize("work", [1, 7])
def test_slices_of_any_length_change_nothing(monkeypatch: pytest.MonkeyPatch, inject: str, work: int) -> None:
    rng = np.random.default_rng(5)
    trace = requests(
        rng.integers(0, 1 << 20, 120), rng.random(120) < 0.4, size_bytes=rng.integers(1, 400, 120),
        cycle=np.sort(rng.integers(0, 30_000, 120)),
    )  # fmt: skip
    few = Controller(read_queue=3, write_queue=2, refresh="refab")
    whole = dchw.replay(trace, "LPDDR4-3200", inject=inject, controller=few, channels=2)
    monkeypatch.setattr(injection, "SLICE", work)
    sliced = dchw.replay(trace, "LPDDR4-3200", inject=inject, controller=few, channels=2)
    assert sliced.to_frame().equals(whole.to_frame())


def test_a_hop_that_is_too_short_changes_nothing_either() -> None:
    # the plain recurrence of clocks: a channel run to a clock at once or in steps has issued the same
    for hop in (100, 5_000, 10**6):
        state = channel_state("LPDDR5-6400")
        for clock in range(hop, 10**6 + hop, hop):
            while not run_idle(state, min(clock, 10**6), 3):
                pass
        assert int(state.live[0].counts.sum()) == 10**6 // int(state.fixed[0].refresh_every)


class StoppedError(Exception):
    """What an interrupt is where a kernel returns to Python."""


def test_a_replay_that_idles_for_a_minute_returns_to_python_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    kernel = injection.offer_slice

    def counted(*arguments: object) -> bool:
        done = kernel(*arguments)
        calls.append(int(arguments[-2][injection.CLOCK]))  # type: ignore[index]
        if len(calls) == 3:
            raise StoppedError
        return done

    monkeypatch.setattr(injection, "offer_slice", counted)
    late = requests([0, 0], [False, False], cycle=[0, CYCLE_MAX])
    with pytest.raises(StoppedError):
        dchw.replay(late, "LPDDR5-6400", inject="timed")


def test_a_run_that_waits_for_memory_returns_to_python_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    # 4,000 firings in all: what the memory does counts as well
    program = stream(build(Dram, {"standard": "LPDDR5X-8533", "channels": 1}, where="dram"), 2_000, 8)
    monkeypatch.setattr(engine, "FIRINGS_PER_CALL", 10_000)
    told: list[int] = []
    whole = engine.run(program, on_progress=lambda done, _: told.append(done))
    assert len(told) > 8
    monkeypatch.setattr(engine, "FIRINGS_PER_CALL", 10**9)
    assert first_difference(engine.run(program), whole, program) is None
