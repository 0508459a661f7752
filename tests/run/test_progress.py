"""What a run tells of its progress: there is a total from the first word on, and it is about right."""

from __future__ import annotations

import pytest

import dchw
from dchw.lowering import lower
from dchw.run import simulation


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("storage", ["huffman", "dense-int8", "palette-huffman"])
def test_firings_have_a_total_before_the_first(storage, windowed, monkeypatch):
    if windowed:  # the engine itself then knows of the windows it has seen only
        monkeypatch.setattr(simulation, "fits_one_window", lambda workload: False)
        monkeypatch.setattr(lower.LoweredWindows.__init__, "__kwdefaults__", {"warm": False, "firings": 5_000})
    network, told = dchw.load_network("lenet-5"), []
    dchw.simulate(network, "phone-lpddr5x", storage, on_progress=lambda *count: told.append(count))
    (begun, expected), (done, total) = told[0], told[-1]
    assert (begun, done) == (0, total)
    assert 0.85 * total <= expected <= 1.15 * total if windowed else expected == total
    assert all(finished <= said for finished, said in told)


def test_a_total_is_not_that_of_the_first_window(monkeypatch):
    monkeypatch.setattr("dchw.engines.fast.engine.FIRINGS_PER_CALL", 1_000)
    monkeypatch.setattr(simulation, "fits_one_window", lambda workload: False)
    monkeypatch.setattr(lower.LoweredWindows.__init__, "__kwdefaults__", {"warm": False, "firings": 5_000})
    told = []
    dchw.simulate(dchw.load_network("lenet-5"), "phone-lpddr5x", on_progress=lambda *count: told.append(count))
    between = told[1:-1]
    assert len(between) > 50
    assert [done for done, _ in between] == sorted(done for done, _ in between)
    assert all(total >= told[0][1] for _, total in between)


def test_layers_have_a_total_before_the_first():
    network, told = dchw.load_network("lenet-5"), []
    dchw.simulate(network, "phone-lpddr5x", on_mapping=lambda *count: told.append(count))
    assert told == [(done, 4) for done in range(5)]
