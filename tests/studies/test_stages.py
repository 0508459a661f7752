"""Does a point cost only what changed, and is it still the point that `dchw.simulate` gives?"""

from __future__ import annotations

from dataclasses import replace

import pytest

import dchw
from dchw.config import Config
from dchw.machines.machine import Machine
from dchw.mapping import workload
from dchw.run.comparison import comparison_row
from dchw.studies import point_stages as module
from dchw.studies.columns import BOUND, METRICS
from dchw.studies.point_stages import RunOptions, Stages
from dchw.studies.watching import Watch
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


def made_by(stages: Stages, target: Machine) -> tuple[int, int]:
    before = stages.made
    stages.row("n", tiny_network(), target, RunOptions(storage="huffman"))
    return (stages.made[0] - before[0], stages.made[1] - before[1])


@pytest.mark.parametrize(
    ("key", "value", "again"),
    [
        ("silicon.sram_cell", "itrs-hp", (0, 0)),
        ("pe_array.queue_depth", 2, (0, 1)),
        ("huffman.output_queue", 2, (0, 1)),
        ("dram.channels", 1, (1, 1)),
        ("huffman.units", 4, (1, 1)),
    ],
)
def test_only_what_reads_a_field_is_done_again(key: str, value: object, again: tuple[int, int]) -> None:
    base, stages = dchw.machine("phone-lpddr5x"), Stages()
    assert made_by(stages, base) == (1, 1)
    assert made_by(stages, base) == (0, 0)
    assert made_by(stages, base.replace(key, value)) == again
    assert made_by(stages, base) == (0, 0)


def test_a_stage_that_begins_to_read_a_field_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No list of fields can go stale: what mapping reads is seen as it reads it."""
    original = workload.map_network

    def map_network(network: object, machine: Machine, *rest: object, **options: object) -> object:
        assert machine.vector.values_per_cycle
        return original(network, machine, *rest, **options)  # type: ignore[arg-type]

    base, stages = dchw.machine("phone-lpddr5x"), Stages()
    monkeypatch.setattr(module, "map_network", map_network)
    assert made_by(stages, base) == (1, 1)
    assert made_by(stages, base.replace("vector.values_per_cycle", 1)) == (1, 1)


def test_memory_is_bounded() -> None:
    base, stages = dchw.machine("phone-lpddr5x"), Stages(most_bytes=1)
    for units in (4, 8, 16):
        assert made_by(stages, base.replace("huffman.units", units)) == (1, 1)
    assert made_by(stages, base.replace("huffman.units", 16)) == (0, 0)
    assert made_by(stages, base.replace("huffman.units", 4)) == (1, 1)


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
