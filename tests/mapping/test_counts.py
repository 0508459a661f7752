"""Is every count, made from firings, what the workload implies, and is a fault in either noticed?"""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dchw
from dchw.formats import STORAGE_FORMATS, Need
from dchw.graph.geometry import Geometry
from dchw.lowering import entry_firings
from dchw.lowering.counts import EventCount, count_events
from dchw.lowering.lower import lower
from dchw.machines.machine import Machine
from dchw.machines.units.unit import Count, Setting, Unit
from dchw.mapping.workload import Workload, map_network
from dchw.program.flow import Flow
from dchw.program.program import FiringNode, Program
from dchw.quantities import SimulationError
from dchw.run.implied import check_counts
from dchw.run.simulation import run_program
from dchw.vocabulary import Event, Stream
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
    return workload, program, count_events(workload.machine, workload.storage, program.layers, program.flows)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("storage", STORAGE_FORMATS)
def test_counts_are_what_the_work_implies(storage: str, name: str, warm: bool) -> None:
    check_counts(*counted(storage, name, warm=warm))


def test_bands_of_unequal_passes_are_decoded_once_a_pass_of_their_own() -> None:
    """Two parts of rows in two bands of pixels, of 69 and 68 passes."""
    small = small_machine(weight_sram__size_bytes="2 KiB", activation_sram__size_bytes="6 KiB")
    workload = map_network(convolution(rows=128, size=33, density=0.8), small, "huffman")
    assert [stage.layer.tiling.passes for stage in workload.stages] == [69, 69, 68, 68]
    program = lower(workload)
    check_counts(workload, program, count_events(small, "huffman", program.layers, program.flows))


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


SEVERAL = [*CODED, "dense-int8", "palette", "bitmask"]


@pytest.mark.parametrize("placement", ["use", "load"])
@pytest.mark.parametrize("storage", SEVERAL)
def test_one_event_too_many_or_none_is_caught_in_every_count(storage: str, placement: str) -> None:
    workload, program, counts = counted(storage, huffman__placement=placement)
    assert len(counts) >= 12
    for place, count in enumerate(counts):
        wrong = dataclasses.replace(count, count=count.count + 1)
        for instead in ((wrong,), ()):
            with pytest.raises(SimulationError, match=rf"{count.event}.*as its work implies; counted"):
                check_counts(workload, program, (*counts[:place], *instead, *counts[place + 1 :]))


def test_an_event_that_nothing_implies_is_caught() -> None:
    workload, program, counts = counted("dense-int8")
    more = dataclasses.replace(counts[0], unit="huffman", event=Event.SYMBOL_DECODE, stream=Stream.CODES)
    with pytest.raises(SimulationError, match="huffman: expected 0 symbol_decode"):
        check_counts(workload, program, (*counts, more))


def _one_more(flow: Flow, name: str) -> list[Flow]:
    """Flows with one more of a quantity, of each stream where it has several."""
    value = getattr(flow, name)
    if isinstance(value, int):
        return [dataclasses.replace(flow, **{name: value + 1})]
    more = []
    for stream, amount in value.items():
        if isinstance(amount, int):
            more.append(dataclasses.replace(flow, **{name: Counter({**value, stream: amount + 1})}))
            continue
        for part in dataclasses.fields(amount):
            wrong = dataclasses.replace(amount, **{part.name: getattr(amount, part.name) + WINDOW})
            more.append(dataclasses.replace(flow, **{name: {**value, stream: wrong}}))
    return more


WINDOW = 64
"""More bits than a decode unit looks at."""


@pytest.mark.parametrize("style", ["table", "bit_serial", "multi_symbol"])
@pytest.mark.parametrize("storage", SEVERAL)
def test_what_firings_let_through_and_nobody_asked_for_is_caught(storage: str, style: str) -> None:
    workload, program, _ = counted(storage, huffman__style=style, weight_sram__banks=2)
    form = workload.stages[0].layer.form
    unread = {"layer", "values", "pointer_reads"} | ({"entries"} if not form.needs else set())
    unread |= set() if Need.CODEBOOK in form.needs else {"codebook_values"}
    for name in (field.name for field in dataclasses.fields(Flow) if field.name not in unread):
        for flow in _one_more(program.flows[0], name):
            if style != "multi_symbol" and name == "decoded" and _differs(flow, program.flows[0], "look_ups"):
                continue
            if style == "multi_symbol" and name == "decoded" and _differs(flow, program.flows[0], "symbols"):
                continue
            wrong = dataclasses.replace(program, flows=(flow, *program.flows[1:]))
            counts = count_events(workload.machine, storage, wrong.layers, wrong.flows)
            with pytest.raises(SimulationError, match="as its work implies; counted"):
                check_counts(workload, wrong, counts)


def test_a_pointer_too_many_is_caught() -> None:
    memory = {"size_bytes": "4 KiB", "banks": 8, "word_bits": 16}
    workload, program, counts = counted("shared", weight_sram__pointer_memory=memory)
    check_counts(workload, program, counts)
    wrong = dataclasses.replace(program, flows=tuple(_one_more(program.flows[0], "pointer_reads")))
    with pytest.raises(SimulationError, match="pointer_read of pointers, as its work implies"):
        check_counts(workload, wrong, count_events(workload.machine, "shared", wrong.layers, wrong.flows))


def _differs(one: Flow, other: Flow, part: str) -> bool:
    return any(getattr(one.decoded[s], part) != getattr(other.decoded[s], part) for s in other.decoded)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("np.int64)[self.job])", "np.int64)[self.job] + 1)"),
        ("entry_bits + word_bits - 1) // word_bits", "entry_bits) // word_bits"),
        (".sum(axis=0)[self.job].sum()", ".sum(axis=0).sum()"),
    ],
)
def test_faults_in_going_through_entries_are_caught(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    source = inspect.getsource(entry_firings)
    assert source.count(right) == 1, right
    space = dict(vars(entry_firings))
    exec(inspect.getsource(entry_firings.WorkedJobs).replace(right, wrong), space)
    monkeypatch.setattr(entry_firings, "WorkedJobs", space["WorkedJobs"])
    with pytest.raises(SimulationError, match="as its work implies; counted"):
        dchw.simulate(NETWORKS["conv"], small_machine(), "shared")


UNITS = {type(unit): name for name, unit in small_machine().units.items()}


@pytest.mark.parametrize("kind", [kind for kind in UNITS if kind.counts is not Unit.counts], ids=lambda k: k.__name__)
def test_a_fault_in_what_a_unit_counts_is_caught_by_the_run(monkeypatch: pytest.MonkeyPatch, kind: type[Unit]) -> None:
    right = kind.counts
    target = small_machine()
    program = lower(map_network(NETWORKS["fc"], target, "huffman"))
    setting = target.setting(STORAGE_FORMATS["huffman"].needs, positions=True)
    events = list(right(target.units[UNITS[kind]], program.flows[0], setting))
    assert events
    for place in range(len(events)):

        def planted(unit: Unit, flow: Flow, setting: Setting, place: int = place) -> Iterator[Count]:
            for number, count in enumerate(right(unit, flow, setting)):
                yield dataclasses.replace(count, count=count.count + 1) if number == place else count

        monkeypatch.setattr(kind, "counts", planted)
        with pytest.raises(SimulationError, match=rf"{events[place].event}.*as its work implies; counted"):
            dchw.simulate(NETWORKS["fc"], target, "huffman")


def test_a_request_that_is_not_asked_for_is_caught() -> None:
    workload, program, counts = counted("huffman")
    nodes = list(program.nodes)
    at = next(i for i, node in enumerate(nodes) if node.name == "dma.weights")
    node = nodes[at]
    assert isinstance(node, FiringNode)
    nodes[at] = dataclasses.replace(node, occupied=node.occupied[1:], layer=node.layer.part(1, len(node.layer)))
    with pytest.raises(SimulationError, match="dma_request, as its work implies"):
        check_counts(workload, dataclasses.replace(program, nodes=tuple(nodes)), counts)


def test_every_run_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: every look-up counted twice."""
    from dchw.run import simulation

    def doubled(machine: Machine, storage: str, *flows: Any) -> tuple[EventCount, ...]:
        return tuple(
            dataclasses.replace(c, count=2 * c.count) if c.event is Event.CODEBOOK_LOOKUP else c
            for c in count_events(machine, storage, *flows)
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
        workload = map_network(network, target.replace("pe_array.tile", tile))
        timing = run_program(lower(workload), "fast")  # no table prices queues of such tiles
        busy[tile] = max(times.busy for name, times in timing.nodes.items() if name.startswith("pe["))
    assert max(busy.values()) < 1.02 * min(busy.values())
