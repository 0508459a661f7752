"""Does whoever puts a program together hold handles, and is a link what it was made as?"""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.formats import STORAGE_FORMATS
from dchw.lowering.context import Lowering
from dchw.lowering.lower import expected_firings, most_firings
from dchw.mapping.workload import map_network
from dchw.program.builder import ProgramBuilder
from dchw.quantities import ConfigError, SimulationError
from tests.mapping.layers import fully_connected, small_machine


def test_a_link_has_one_depth() -> None:
    builder = ProgramBuilder(memory="dram")
    source, target = builder.node("source", "dma"), builder.node("target", "dma")
    link = builder.link(source, target, what="items", depth=2)
    assert builder.link(source, target, what="items", depth=2) is link
    for terms in ({"depth": 3}, {}, {"depth": 2, "latency": 1}, {"depth": 2, "initial": 1}):
        with pytest.raises(SimulationError, match=r"as it was made; got .*; state them in one place"):
            builder.link(source, target, what="items", **terms)


def test_a_node_is_made_once() -> None:
    builder = ProgramBuilder(memory="dram")
    builder.node("source", "dma")
    for name in ("source", "memory"):
        with pytest.raises(
            SimulationError, match="expected to be made once; got a second; keep the first one's handle"
        ):
            builder.node(name, "dma")


def test_nodes_stand_in_the_order_of_their_first_firings_and_idle_ones_are_left_out() -> None:
    builder = ProgramBuilder(memory="dram")
    first, second, _ = (builder.node(name, "dma") for name in ("first", "second", "idle"))
    assert second.fire([1, 2], 0).tolist() == [0, 1]
    assert first.fire([3], 0).tolist() == [0]
    assert second.fire([4], 0).tolist() == [2]  # indices run on
    program = builder.freeze(clock_hz=1, layers=("layer",), memory=None, notes=())
    assert [node.name for node in program.nodes] == ["second", "first"]


def test_an_item_that_nobody_gives_is_caught() -> None:
    builder = ProgramBuilder(memory="dram")
    source, target = builder.node("source", "dma"), builder.node("target", "dma")
    link = builder.link(source, target, what="items")
    link.give(source.fire([1], 0))
    link.take(np.repeat(target.fire([1], 0), 2))
    with pytest.raises(SimulationError, match="expected 2 items to be given; got 1 and 0 initial ones"):
        builder.freeze(clock_hz=1, layers=("layer",), memory=None, notes=())


def test_nodes_belong_to_the_units_that_hold_them() -> None:
    target = small_machine()
    nodes = Lowering(map_network(fully_connected(8, 8), target), warm=False).nodes
    assert (nodes.decoder(1).unit, nodes.element(0).unit, nodes.deliver.unit) == ("huffman", "pe_array", "weight_sram")
    assert nodes.decoder(1) is nodes.decoder(1)
    with pytest.raises(ConfigError, match="expected one of its own units; got a Vector"):
        target.name_of(dchw.machine("embedded-lpddr4").vector)


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
@pytest.mark.parametrize("placement", ["use", "load"])
@pytest.mark.parametrize("rows", [1, 5, 37])
def test_what_sizes_say_of_firings_is_never_too_few(storage: str, placement: str, rows: int) -> None:
    """Whether a run needs windows is decided by it alone where it says no."""
    target = small_machine(huffman__placement=placement, pe_array__lanes=1)
    workload = map_network(fully_connected(rows, 50, active=1.0), target, storage)
    assert most_firings(workload) >= expected_firings(workload)
