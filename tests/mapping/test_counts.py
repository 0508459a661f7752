"""Is every count what the firings imply, and is a fault in either noticed?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import dchw
from dchw.formats import STORAGE_FORMATS, Need
from dchw.graph.geometry import Geometry
from dchw.lowering.counts import EventCount, count_events
from dchw.lowering.lower import lower
from dchw.mapping.workload import Workload, map_network
from dchw.program.program import FiringNode, Program, Work
from dchw.quantities import SimulationError
from dchw.run.implied import check_counts, implied_counts
from dchw.vocabulary import Event
from tests.mapping.layers import convolution, fully_connected, small_machine

CODED = [name for name, form in STORAGE_FORMATS.items() if Need.DECODER in form.needs]
NETWORKS = {
    "fc": fully_connected(37, 50, batch=3),
    "conv": convolution(),
    "grouped": convolution(channels=4, rows=8, groups=2),
}


def counted(storage: str, name: str = "conv", *, warm: bool = False, **changes: object) -> tuple[
    Workload, Program, tuple[EventCount, ...]
]:  # fmt: skip
    workload = map_network(NETWORKS[name], small_machine(**changes), storage)
    program = lower(workload, warm=warm)
    return workload, program, count_events(workload, program)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("storage", STORAGE_FORMATS)
def test_counts_are_what_the_firings_imply(storage: str, name: str, warm: bool) -> None:
    check_counts(*counted(storage, name, warm=warm))


@pytest.mark.parametrize("size", ["4 KiB", "8 KiB"])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("storage", CODED)
def test_layers_decoded_at_load_are_decoded_as_often_as_they_are_loaded(storage: str, warm: bool, size: str) -> None:
    """Kept decoded in half of the SRAM, decoded again every pass, or in the SRAM from the run before."""
    workload, program, counts = counted(
        storage, warm=warm, huffman__placement="load", weight_sram__size_bytes=size, huffman__chunk_entries=16
    )
    check_counts(workload, program, counts)
    decoded = sum(count.count for count in counts if count.event is Event.SYMBOL_DECODE)
    work = workload.stages[0].layer
    assert decoded % (work.coded.symbols * len(work.coded.bits)) == 0
    assert (decoded == 0) == (not any(node.unit == "huffman" for node in program.nodes))


@pytest.mark.parametrize("storage", [*CODED, "dense-int8", "palette", "bitmask"])
def test_one_event_too_many_is_caught_in_every_count_that_firings_imply(storage: str) -> None:
    workload, program, counts = counted(storage)
    tied = {key for key, implied in implied_counts(workload, program).items() if implied}
    assert len(tied) >= 6
    for place, count in enumerate(counts):
        key = (count.layer, count.unit, count.event, count.stream)
        if key not in tied and count.event is not Event.DMA_REQUEST:
            continue
        wrong = dataclasses.replace(count, count=count.count + 1)
        with pytest.raises(SimulationError, match=rf"{count.event}.*as its firings imply; counted"):
            check_counts(workload, program, (*counts[:place], wrong, *counts[place + 1 :]))


@pytest.mark.parametrize("storage", [*CODED, "dense-int8", "palette", "bitmask"])
def test_work_that_firings_do_and_nobody_counts_is_caught(storage: str) -> None:
    workload, program, counts = counted(storage)
    untied = () if workload.stages[0].layer.form.needs else (Work.ENTRIES,)  # nothing is looked up or decoded
    for key in program.work:
        if key[2] in untied:
            continue
        more = dataclasses.replace(program, work={**program.work, key: program.work[key] + 1})
        with pytest.raises(SimulationError, match="as its firings imply; counted"):
            check_counts(workload, more, counts)


def test_a_request_that_is_not_asked_for_is_caught() -> None:
    workload, program, counts = counted("huffman")
    nodes = list(program.nodes)
    at = next(i for i, node in enumerate(nodes) if node.name == "dma.weights")
    node = nodes[at]
    assert isinstance(node, FiringNode)
    nodes[at] = dataclasses.replace(node, occupied=node.occupied[1:], layer=node.layer[1:])
    with pytest.raises(SimulationError, match="dma_request, as its firings imply"):
        check_counts(workload, dataclasses.replace(program, nodes=tuple(nodes)), counts)


def test_every_run_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: every look-up counted twice."""
    from dchw.run import simulation

    def doubled(workload: Workload, program: Program) -> tuple[EventCount, ...]:
        return tuple(
            dataclasses.replace(c, count=2 * c.count) if c.event is Event.CODEBOOK_LOOKUP else c
            for c in count_events(workload, program)
        )

    monkeypatch.setattr(simulation, "count_events", doubled)
    with pytest.raises(SimulationError, match=r"codebook: expected .* codebook_lookup of codes"):
        dchw.simulate(NETWORKS["fc"], small_machine())


def test_a_tile_of_more_groups_than_16_bits_hold_is_all_worked() -> None:
    """300 x 300 pixels of one lane: the array's work must not fall when the tile grows past 65,535."""
    shape = Geometry(in_channels=2, out_channels=1, in_size=(300, 300))
    weights = {"c": np.array([[[[1.0]], [[2.0]]]], np.float32)}
    x = {"c": np.ones((2, 300, 300), np.float32)}
    network = dchw.compress(dchw.Network.from_arrays("n", weights, geometry={"c": shape}, inputs=x))
    target = dchw.machine("phone-lpddr5x").replace("pe_array.lanes", 1).replace("pe_array.accumulators", 100_000)
    target = target.replace("activation_sram.size_bytes", "8 MiB").replace("activation_sram.banks", 128)
    busy = {}
    for tile in (65_535, 65_537, 90_000):
        timing = dchw.simulate(network, target.replace("pe_array.tile", tile)).timing
        busy[tile] = max(times.busy for name, times in timing.nodes.items() if name.startswith("pe["))
    assert max(busy.values()) < 1.02 * min(busy.values())
