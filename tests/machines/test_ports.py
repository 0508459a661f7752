"""Are the links a unit declares those that its nodes have in a program, by name and direction?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import dchw
from dchw.formats import STORAGE_FORMATS, storage_format
from dchw.lowering.lower import lower
from dchw.machines.machine import Machine
from dchw.machines.units.codebook import CodebookLookup
from dchw.machines.units.unit import Direction
from dchw.mapping.workload import map_network
from dchw.program.program import Program
from tests.mapping.layers import fully_connected, small_machine

SIGNALS = {"acknowledgements", "chunks used up", "inputs complete", "stored tensors"}
"""Links that tell something and carry no data."""
BEHIND = "blocks"
"""Of tensors that are read behind a layer: only where an operation there has one in DRAM."""

Ends = Mapping[str, set[tuple[str, Direction]]]


def ends_of_links(program: Program) -> Ends:
    """By unit: what comes in and goes out over links to other units that carry data; credits do not."""
    unit = {node.name: node.unit for node in program.nodes}
    ends: dict[str, set[tuple[str, Direction]]] = {name: set() for name in unit.values()}
    for link in program.links:
        what = link.name.rpartition(" (")[2].removesuffix(")")
        source, target = unit[link.source], unit[link.target]
        if source != target and not link.initial and what not in SIGNALS:
            ends[source].add((what, Direction.OUT))
            ends[target].add((what, Direction.IN))
    return ends


def declared(machine: Machine, storage: str) -> Ends:
    form = storage_format(storage)
    setting = machine.setting(form.needs, form.positions)
    return {
        name: {(what, port.direction) for what, port in unit.links(setting).items()}
        for name, unit in machine.units.items()
        if unit.involved(setting) and not isinstance(unit, CodebookLookup)  # inside the array: no nodes of its own
    }


@pytest.mark.parametrize("placement", ["use", "load"])
@pytest.mark.parametrize("storage", STORAGE_FORMATS)
def test_declared_links_are_those_of_programs(storage: str, placement: str) -> None:
    machine = small_machine(huffman__placement=placement, activation_sram__size_bytes="1 KiB")
    program = lower(map_network(fully_connected(37, 50), machine, storage))
    found = ends_of_links(program)
    ports = declared(machine, storage)
    assert found.keys() == ports.keys()
    for name, ends in found.items():
        assert ends == {end for end in ports[name] if end[0] != BEHIND}, name


def test_blocks_behind_a_layer_go_where_they_are_declared_to_go() -> None:
    import torch

    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x)) + x

    torch.manual_seed(0)
    network = dchw.compress(dchw.Network.from_module(Residual(), torch.rand(64, 64)), dchw.Recipe(density=0.5))
    machine = small_machine(activation_sram__size_bytes="1 KiB")
    found = ends_of_links(lower(map_network(network, machine, "huffman", batch=64)))
    assert (BEHIND, Direction.OUT) in found["activation_sram"] & declared(machine, "huffman")["activation_sram"]
    assert (BEHIND, Direction.IN) in found["vector"] & declared(machine, "huffman")["vector"]


def test_a_link_that_nobody_declared_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the array forgets that columns come in."""
    array = type(small_machine().pe_array)
    right = array.links

    def forgetful(unit: object, setting: object) -> dict[str, object]:
        return {what: port for what, port in right(unit, setting).items() if what != "columns"}  # type: ignore[arg-type]

    monkeypatch.setattr(array, "links", forgetful)
    with pytest.raises(AssertionError, match="pe_array"):
        test_declared_links_are_those_of_programs("huffman", "use")
