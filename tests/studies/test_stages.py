"""Does a point cost only what changed, and is it still the point that `dchw.simulate` gives?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.config import Config
from dchw.lowering.lower import OpenProgram
from dchw.machines.machine import Machine
from dchw.mapping import workload
from dchw.program.program import FiringNode
from dchw.quantities import DchwError
from dchw.run.comparison import comparison_row
from dchw.studies import point_stages as module
from dchw.studies.columns import BOUND, METRICS
from dchw.studies.point_stages import RunOptions, Stages
from dchw.studies.watching import Watch, array_bytes
from tests.reports.runs import tiny_network

CHANGES: list[dict[str, object]] = [
    {},
    {"huffman.units": 4},
    {"huffman.units": 4, "pe_array.queue_depth": 1},
    {"huffman.output_queue": 1},
    {"clock": "500 MHz"},
    {"dram.channels": 1},
    {"dram.standard": "LPDDR4-3200"},
    {"weight_sram.size_bytes": "16 KiB"},
    {"activation_sram.size_bytes": "1 KiB"},
    {"pe_array.elements": 16, "huffman.chunk_entries": 32},
    {"pe_array.lanes": 1},
    {"huffman.placement": "load"},
    {"huffman.style": "bit_serial"},
    {"silicon.sram_cell": "itrs-hp"},
    {"vector.values_per_cycle": 1},
    {},
]


def test_shared_stages_change_no_figure() -> None:
    network, base, stages = tiny_network(), dchw.machine("phone-lpddr5x"), Stages()
    for changes in CHANGES:
        target = base.replace_all(changes)
        for storage in ("huffman", "dense-int8", "shared"):
            got = stages.row("n", network, target, RunOptions(storage=storage))
            wanted = comparison_row(network, dchw.simulate(network, target, storage))
            told = wanted.keys() - {"storage", "multiplies"}  # columns of the point, or words
            assert {k: got[k] for k in told} == {k: wanted[k] for k in told}


FIELDS: dict[str, list[object]] = {
    "huffman.units": [4, 16, 32],
    "huffman.output_queue": [1, 3, 16],
    "huffman.style": ["table", "bit_serial", "multi_symbol"],
    "huffman.placement": ["use", "load"],
    "pe_array.queue_depth": [1, 2, 8],
    "pe_array.lanes": [1, 4],
    "codebook.latency_cycles": [1, 4],
    "weight_sram.access_cycles": [1, 3],
    "weight_sram.size_bytes": ["4 KiB", "16 KiB", "1 MiB"],
    "activation_sram.size_bytes": ["1 KiB", "256 KiB"],
    "dma.outstanding": [1, 16],
    "dram.channels": [1, 2, 4],
    "dram.standard": ["LPDDR4-3200", "LPDDR5X-8533"],
    "silicon.temperature_k": [300, 330],
    "vector.values_per_cycle": [1, 16],
    "clock": ["400 MHz", "1 GHz"],
}
CHANGED = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in FIELDS.items()})
STORAGES = st.sampled_from(["huffman", "palette-huffman", "shared", "bitmask"])
POINTS = st.lists(st.tuples(STORAGES, st.booleans(), CHANGED), min_size=2, max_size=5)


@settings(max_examples=25, deadline=None)
@given(points=POINTS)
def test_random_points_are_those_of_undisturbed_runs(points: list[tuple[str, bool, dict[str, object]]]) -> None:
    """One after another in one process, in any order, against runs that share nothing; refusals included."""
    network, base, stages = tiny_network(), dchw.machine("phone-lpddr5x"), Stages()
    for storage, warm, changes in points:
        try:
            target = base.replace_all(changes)
        except DchwError:
            continue
        wanted: dict[str, object] | str
        try:
            run = dchw.simulate(network, target, storage, warm=warm)
            wanted = {**comparison_row(network, run), "program_digest": run.timing.program_digest[:16]}
        except DchwError as error:
            wanted = str(error)
        got: dict[str, object] | str
        try:
            got = stages.row("n", network, target, RunOptions(storage=storage, warm=warm))
        except DchwError as error:
            got = str(error)
        if isinstance(wanted, str) or isinstance(got, str):
            assert got == wanted
        else:
            assert {key: got[key] for key in wanted.keys() - {"storage", "multiplies"}} == {
                key: wanted[key] for key in wanted.keys() - {"storage", "multiplies"}
            }


def test_a_figure_that_goes_stale_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A depth that was taken when the program was lowered, and not when it is run."""
    base, stages = dchw.machine("phone-lpddr5x"), Stages()
    network, run = tiny_network(), RunOptions(storage="huffman")
    before = stages.row("n", network, base, run)
    monkeypatch.setattr(OpenProgram, "on", lambda self, machine: self.program)
    shallow = base.replace_all({"huffman.output_queue": 1, "pe_array.queue_depth": 1})
    assert stages.row("n", network, shallow, run)["cycles"] == before["cycles"]
    assert dchw.simulate(network, shallow).cycles != before["cycles"]


def made_by(stages: Stages, target: Machine) -> tuple[int, int, int]:
    """How often mapping, lowering and running were done for one more point."""
    before = stages.made
    stages.row("n", tiny_network(), target, RunOptions(storage="huffman"))
    mapped, lowered, ran = (now - then for now, then in zip(stages.made, before, strict=True))
    return mapped, lowered, ran


@pytest.mark.parametrize(
    ("key", "value", "again"),
    [
        ("silicon.sram_cell", "itrs-hp", (0, 0, 0)),
        ("pe_array.queue_depth", 2, (0, 0, 1)),
        ("huffman.output_queue", 2, (0, 0, 1)),
        ("codebook.latency_cycles", 3, (0, 0, 1)),
        ("weight_sram.access_cycles", 2, (0, 0, 1)),
        ("dram.channels", 1, (1, 0, 1)),
        ("dram.standard", "LPDDR5-6400", (1, 0, 1)),  # bursts of as many bytes
        ("vector.values_per_cycle", 1, (1, 1, 1)),
        ("huffman.units", 4, (1, 1, 1)),
    ],
)
def test_only_what_reads_a_field_is_done_again(key: str, value: object, again: tuple[int, int]) -> None:
    base, stages = dchw.machine("phone-lpddr5x"), Stages()
    assert made_by(stages, base) == (1, 1, 1)
    assert made_by(stages, base) == (0, 0, 0)
    assert made_by(stages, base.replace(key, value)) == again
    assert made_by(stages, base) == (0, 0, 0)


def test_points_that_share_lists_follow_one_another(tmp_path: Path) -> None:
    """In a study that names them the other way round; blocks of one network and format stay whole and in order."""
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    vary = {"dram.channels": [1, 2], "huffman.units": [4, 8], "pe_array.queue_depth": [1, 2]}
    points = dchw.study(
        {"networks": str(tmp_path / "tiny.dchw"), "storages": ["shared", "huffman"], "vary": vary}
    ).points
    order = points.order(np.arange(16))
    assert sorted(order) == list(range(16))
    values = [points.at(int(index)) for index in order]
    assert [value["storage"] for value in values] == ["shared"] * 8 + ["huffman"] * 8
    assert [value["huffman.units"] for value in values] == [4, 4, 4, 4, 8, 8, 8, 8] * 2
    for value in values:
        points.evaluate(value)
    assert points._stages.made[1] == 4


def test_a_stage_that_begins_to_read_a_field_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No list of fields can go stale: what mapping reads is seen as it reads it."""
    original = workload.map_network

    def map_network(network: object, machine: Machine, *rest: object, **options: object) -> object:
        assert machine.vector.values_per_cycle
        return original(network, machine, *rest, **options)  # type: ignore[arg-type]

    base, stages = dchw.machine("phone-lpddr5x"), Stages()
    monkeypatch.setattr(module, "map_network", map_network)
    assert made_by(stages, base) == (1, 1, 1)
    assert made_by(stages, base.replace("vector.values_per_cycle", 1)) == (1, 1, 1)


def test_memory_is_bounded() -> None:
    base, stages = dchw.machine("phone-lpddr5x"), Stages(workload_bytes=1, program_bytes=1, run_bytes=1)
    for units in (4, 8, 16):
        assert made_by(stages, base.replace("huffman.units", units)) == (1, 1, 1)
    assert made_by(stages, base.replace("huffman.units", 16)) == (0, 0, 0)
    assert made_by(stages, base.replace("huffman.units", 4)) == (1, 1, 1)


def test_points_of_equal_programs_follow_one_another(tmp_path: Path) -> None:
    """Prices turn faster than anything that a run depends on, so that the latest run is all that has to be kept."""
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    vary = {"silicon.sram_cell": ["itrs-hp", "itrs-lop"], "pe_array.queue_depth": [1, 2], "huffman.units": [4, 8]}
    points = dchw.study({"networks": str(tmp_path / "tiny.dchw"), "vary": vary}).points
    points._stages = Stages(run_bytes=1)
    for index in points.order(np.arange(8)):
        points.evaluate(points.at(int(index)))
    assert points._stages.made[1:] == (2, 4)


def test_what_is_kept_is_counted_whole() -> None:
    """Nodes and links have slots and no dictionary; their lists are nearly all that a program takes."""
    on = dchw.machine("phone-lpddr5x")
    program = OpenProgram(workload.map_network(tiny_network(), on, "huffman"), on, warm=False).program
    firing = [node for node in program.nodes if isinstance(node, FiringNode)]
    lists = {id(node.occupied): node.occupied for node in firing}
    lists |= {id(held): held for link in program.links for held in (link.given_by, link.taken_by) if held is not None}
    assert len(lists) > len(firing)
    assert array_bytes(program) >= sum(held.nbytes for held in lists.values() if held.base is None)


def test_watching_sees_fields_properties_and_whole_sections() -> None:
    base = dchw.machine("phone-lpddr5x")
    watch = Watch(base)
    assert isinstance(watch.config, Machine)
    assert watch.config.huffman.units == 32
    assert watch.config.reader_supply == base.reader_supply
    read = set(watch.reads)
    assert {"huffman.units", "weight_sram.banks", "weight_sram.word_bits"} <= read
    assert not any(place.startswith("dram") for place in read)
    assert watch.config.dram.dump() == base.dram.dump()
    assert "dram" in watch.reads
    watch.close()


def test_a_property_with_a_plain_value_counts_as_a_field() -> None:
    watch = Watch(dchw.machine("phone-lpddr5x"))
    assert watch.config.dram.burst_bytes == 32
    assert watch.reads == {"dram.burst_bytes"}
    assert watch.config.dram.peak_bytes_per_cycle(10**9) > 0
    assert {"dram.standard", "dram.channels"} < watch.reads
    watch.close()


def test_sections_that_stay_in_a_result_are_plain_and_count_whole() -> None:
    base = dchw.machine("phone-lpddr5x")
    watch = Watch(base)
    kept: tuple[dict[str, Config], int] = ({"memory": watch.config.dram}, watch.config.clock_hz)
    settled = watch.settle(kept)
    watch.close()
    assert settled[0]["memory"] is base.dram
    assert watch.reads == {"dram", "clock_hz"}


def test_every_figure_of_a_run_has_a_column() -> None:
    row = Stages().row("n", tiny_network(), dchw.machine("phone-lpddr5x"), RunOptions(storage="huffman"))
    assert set(row) == {*METRICS, BOUND, "program_digest"}


def test_an_error_rate_is_given_only_where_it_was_measured() -> None:
    network, target = tiny_network(), dchw.machine("phone-lpddr5x")
    assert Stages().row("n", network, target, RunOptions(storage="huffman"))["error_pct"] is None
    measured = replace(network, results={"error_percent": 1.5})
    rows = {
        s: Stages().row("n", measured, target, RunOptions(storage=s))["error_pct"] for s in ("huffman", "dense-int8")
    }
    assert rows == {"huffman": 1.5, "dense-int8": None}
