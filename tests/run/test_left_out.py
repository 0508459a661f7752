"""A format that a machine cannot work is left out of a comparison and named; asked for by name it is an error."""

from __future__ import annotations

import pytest

import dchw
from dchw.quantities import SimulationError
from dchw.run import comparison
from tests.reports.runs import tiny_network


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = comparison.map_network

    def refuse(network, machine, storage, **options):
        if storage.startswith("palette"):
            raise dchw.DchwError(f"layer fc, {storage}: needs 3202 blocks; the staging buffer holds 2048; raise it")
        return mapped(network, machine, storage, **options)

    monkeypatch.setattr(comparison, "map_network", refuse)


@pytest.mark.usefixtures("refusing")
def test_what_a_machine_refuses_is_left_out_and_named() -> None:
    table = dchw.compare(tiny_network(), "phone-lpddr5x")
    assert not table["storage"].str.startswith("palette").any()
    assert set(table.attrs["left_out"]) == {"palette", "palette-huffman"}
    assert "needs 3202 blocks" in table.attrs["left_out"]["palette"]


@pytest.mark.usefixtures("refusing")
def test_a_named_format_is_not_left_out() -> None:
    for options in ({"storages": ["dense-int8", "palette"]}, {"baseline": "palette"}):
        with pytest.raises(dchw.DchwError, match="3202 blocks"):
            dchw.compare(tiny_network(), "phone-lpddr5x", **options)


def test_a_fault_of_the_simulator_is_never_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SimulationError("this is a fault of the simulator")

    monkeypatch.setattr(comparison, "run_workload", fail)
    with pytest.raises(SimulationError):
        dchw.compare(tiny_network(), "phone-lpddr5x")
