"""Replaying traces: closed forms, ways of injection, channels, mappings, results, command line."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.dram.address import address_map, locate
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.replay import replay
from dchw.dram.standard import standard, standard_names
from dchw.quantities import ConfigError
from dchw.traces import STREAMS, TraceChunk, requests, write_trace

SEQUENTIAL = np.arange(2048) * 32
READS = np.zeros(2048, bool)


def test_fixed_memory_needs_bytes_over_rate_plus_latency():
    memory = FixedMemory(clock="1 GHz", bytes_per_cycle=8, latency=100)
    result = dchw.replay((SEQUENTIAL, READS), memory)
    assert result.cycles == 1 + 2048 * 32 // 8 + 100
    assert result.share_of_peak == pytest.approx(8192 / 8293)
    slower = dchw.replay((SEQUENTIAL, READS), memory.replace("rest_of_chip", 0.5))
    assert slower.cycles == 1 + 2 * 2048 * 32 // 8 + 100


def test_one_at_a_time_is_the_sum_of_latencies():
    result = replay((SEQUENTIAL, READS), "LPDDR4-3200", inject="oneatatime", refresh="noref")
    # row hit: RD one clock after acceptance, nRL + nDQSCK + nBL + 3 = 42; the 32 rows: also nRCD = 29; 24 of them
    # replace another: also nRP = 29, counted from the last clock of 2 to the last of 4
    hit, rows = 1 + 42, 2048 // 64
    assert result.cycles == 2048 * hit + rows * 29 + (rows - 8) * 27
    assert (result.row_hits, result.row_misses, result.row_conflicts) == (2048 - rows, 8, rows - 8)
    assert result.latency_percentile(50) == hit
    assert result.latency_mean == pytest.approx(result.cycles / 2048)


def test_open_rows_stream_at_peak_on_lpddr4():
    result = replay((SEQUENTIAL[:512], READS[:512]), "LPDDR4-3200", refresh="noref")
    # after the first activate one burst of 8 clocks follows another; the last ends 42 clocks after its command
    assert result.cycles == 1 + 29 + 511 * 8 + 42
    assert result.commands["RD"] == 512


def test_timed_requests_wait_for_their_cycle():
    trace = requests(np.arange(4) * 4096 * 1024, np.zeros(4, bool), cycle=np.arange(4) * 1000)
    result = replay(trace, "LPDDR4-3200", inject="timed", refresh="noref")
    assert result.latency_percentile(100) == result.latency_max
    assert result.cycles == 3000 + result.latency_max


def test_channels_share_a_stream_and_count_every_burst_once():
    one = replay((SEQUENTIAL, READS), "LPDDR4-3200")
    four = replay((SEQUENTIAL, READS), "LPDDR4-3200", channels=4)
    assert four.commands["RD"] == one.commands["RD"] == 2048
    assert list(four.banks().groupby("channel")["reads"].sum()) == [512] * 4
    assert four.cycles < one.cycles / 3
    assert four.peak_gbps == 4 * one.peak_gbps


def test_large_requests_are_split_into_bursts():
    whole = replay(requests([64, 4100], [False, True], size_bytes=[100, 8]), "LPDDR5-6400")
    assert (whole.requests, whole.bursts) == (2, 5)  # 64..163 touches bursts 2..5, 4100..4107 one
    assert whole.traffic_bytes == {("unknown", "read"): 100, ("unknown", "write"): 8}


def test_traffic_is_kept_by_stream():
    stream = np.arange(2048) % len(STREAMS)
    result = replay(requests(SEQUENTIAL, READS, stream=stream), "LPDDR5-6400")
    assert sum(result.traffic_bytes.values()) == 2048 * 32
    assert result.traffic_bytes["codes", "read"] == 187 * 32


@pytest.mark.parametrize("policy", ["open", "closed", "timeout"])
def test_row_policies_do_what_they_say(policy):
    apart = np.arange(64) * 64 * 1024 * 1024 % (1 << 29)
    trace = requests(apart, np.zeros(64, bool), cycle=np.arange(64) * 5000)
    options = Controller(row_policy=policy, refresh="noref")
    result = replay(trace, "LPDDR4-3200", inject="timed", controller=options)
    assert (result.row_conflicts > 0) == (policy == "open")
    assert result.commands["RDA"] == (64 if policy == "closed" else 0)
    assert (result.commands["PREpb"] > 0) == (policy != "closed")


@pytest.mark.parametrize("name", standard_names())
@pytest.mark.parametrize("mapping", ["robaracoch", "mop4clxor", "ro-bg-ba-co3-ra-ch-co"])
def test_a_mapping_is_one_to_one(name, mapping):
    std = standard(name).replace("organisation.ranks", 2)
    bits = address_map(std, mapping, channels=4)
    places = {locate(bits, address) for address in range(0, 32 * 4096, 32)}
    assert len(places) == 4096
    channel, bank, row, column = (max(values) for values in zip(*places, strict=True))
    assert channel == 3
    assert bank < 2 * std.organisation.banks
    assert row < std.organisation.rows
    assert column < std.organisation.columns


def test_named_mappings_by_hand():
    """LPDDR5: 5 bits of burst, 6 of column, 2 of bank group, 2 of bank, 15 of row."""
    std = standard("LPDDR5-6400")
    address = (7 << 15) | (2 << 13) | (1 << 11) | (0b101101 << 5) | 9
    assert locate(address_map(std), address) == (0, 1 * 4 + 2, 7, 0b101101)
    # mop4clxor: column 1:0, group, bank, column 5:2, row; then group ^= column 1:0, bank ^= 3:2, row ^= 5:4
    address = (7 << 15) | (0b1011 << 11) | (2 << 9) | (1 << 7) | (0b01 << 5)
    assert locate(address_map(std, "mop4clxor"), address) == (0, (1 ^ 0b01) * 4 + (2 ^ 0b11), 7 ^ 0b10, 0b101101)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("ro-ba-bg-ra-co", "'ch' has 1 address bits; the mapping gives 0"),
        ("ro-ba-bg-ra-co9-ch", "mapping 'ro-ba-bg-ra-co9-ch' and organisation: 'co' has 6 address bits"),
        ("row-ba-bg-ra-co-ch", "got 'row'"),
        ("ro-ba-bg-ra-co-co-ch", "'co' appears twice without a number of bits"),
        ("robaracohc", "did you mean 'robaracoch'"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(mapping, message):
    with pytest.raises(ConfigError) as fault:
        address_map(standard("LPDDR5-6400"), mapping, channels=2)
    assert message in str(fault.value)


def test_wrong_choices_are_named():
    with pytest.raises(ConfigError, match="did you mean 'backtoback'"):
        replay((SEQUENTIAL, READS), "LPDDR5-6400", inject="backtobak")
    with pytest.raises(ConfigError, match="channels: expected a power of two"):
        replay((SEQUENTIAL, READS), "LPDDR5-6400", channels=3)
    with pytest.raises(ConfigError, match="trace: expected a path"):
        replay(5, "LPDDR5-6400")


def test_occupancy_over_time_adds_up_to_the_mean():
    result = replay((np.tile(SEQUENTIAL, 6), np.arange(6 * 2048) % 3 == 0), "LPDDR4-3200")
    frame = result.occupancy()
    clocks = frame["to_clock"] - frame["from_clock"]
    for queue in ("read", "write"):
        mean = (frame[f"{queue}_queue_mean"] * clocks).sum() / clocks.sum()
        assert mean == pytest.approx(result.queue_mean(queue))
    assert int(clocks.sum()) == result.last_clock


def test_an_empty_trace_is_a_result():
    result = replay((np.zeros(0, np.int64), np.zeros(0, bool)), "LPDDR5-6400")
    assert (result.cycles, result.requests, result.energy_pj, result.latency_mean) == (0, 0, 0.0, 0.0)
    assert result.latency_percentile(99) == 0


def test_chunks_are_dropped_as_they_are_used():
    gc.collect()
    gc.freeze()  # what was there before need not be looked through each time
    alive: list[weakref.ref[TraceChunk]] = []

    def chunks():
        for start in range(20):
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 2
            made = requests(SEQUENTIAL + start * 65536, READS)
            alive.append(weakref.ref(made))
            yield made

    try:
        assert replay(chunks(), "LPDDR5-6400").requests == 20 * 2048
    finally:
        gc.unfreeze()


def test_latencies_banks_and_queues_account_for_every_request():
    writes = np.arange(2048) % 4 == 0
    result = replay((SEQUENTIAL * 65, writes), "LPDDR5-6400", channels=2)
    latencies, banks, queues = result.latencies(), result.banks(), result.occupancy()
    reads = sum(count for _, count in latencies)
    assert reads == 1536
    assert sum(cycles * count for cycles, count in latencies) == pytest.approx(reads * result.latency_mean)
    assert (latencies[-1][0], result.latency_percentile(100)) == (result.latency_max,) * 2
    assert banks[["reads", "writes"]].sum().tolist() == [result.commands["RD"], result.commands["WR"]]
    assert int(banks["activates"].sum()) == result.commands["ACT1"]
    assert banks["share_of_accesses"].sum() == pytest.approx(1)
    for name, column in (("read", "read_queue_mean"), ("write", "write_queue_mean")):
        filled = (queues[column] * (queues["to_clock"] - queues["from_clock"])).sum()
        assert filled / (2 * result.last_clock) == pytest.approx(result.queue_mean(name))


@pytest.mark.parametrize("most", [1, 7, 512])
def test_queue_fill_can_be_told_in_fewer_intervals(most):
    result = replay((SEQUENTIAL, READS), "LPDDR5-6400")
    fine, coarse = result.occupancy(), result.occupancy(most)
    assert len(coarse) <= most
    assert (coarse["from_clock"].iloc[0], coarse["to_clock"].iloc[-1]) == (0, result.last_clock)

    def total(frame):
        return (frame["read_queue_mean"] * (frame["to_clock"] - frame["from_clock"])).sum()

    assert total(coarse) == pytest.approx(total(fine))


def test_command_line(tmp_path):
    write_trace(tmp_path / "small.trace", requests(SEQUENTIAL, READS))
    ran = CliRunner().invoke(
        group,
        ["replay", str(tmp_path / "small.trace"), "--dram", "LPDDR5-6400", "--json", "--csv", str(tmp_path / "a.csv")],
    )
    assert ran.exit_code == 0, ran.output
    content = json.loads(ran.stdout)
    want = replay((SEQUENTIAL, READS), "LPDDR5-6400")
    assert content["cycles"] == want.cycles
    assert content["commands"] == want.commands
    assert "assumed" in content["energy_scope"]
    assert [(row["cycles"], row["reads"]) for row in content["reads_by_latency"]] == want.latencies()
    assert content["banks"] == want.banks().to_dict("records")
    assert content["queues"] == want.occupancy().to_dict("records")
    assert (tmp_path / "a.csv").read_text().startswith("kind,name,value\n")
    table = CliRunner().invoke(group, ["replay", str(tmp_path / "small.trace"), "--dram", "LPDDR5-6400"])
    assert "scope: LPDDR5-6400 device" in table.output
    for title in ("Read latency (cycles)", "Banks", "Queues over time (mean requests)"):
        assert title in table.output


def test_a_trace_that_does_not_fit_the_memory_is_named():
    where = np.array([0, (1 << 30) - 32, 1 << 30, 1 << 33])
    run = replay((where, np.zeros(4, bool)), "LPDDR5-6400")
    assert run.beyond_capacity == run.summary()["requests_beyond_capacity"] == 2
    assert run.notes[0] == (
        "2 of 4 requests reach beyond the memory and wrap around; the first is request 3 at 0x40000000, beyond the "
        "1 GiB of the memory."
    )
    assert replay((where, np.zeros(4, bool)), "LPDDR5-6400", channels=2).beyond_capacity == 1
    assert replay((where[:2], np.zeros(2, bool)), "LPDDR5-6400").beyond_capacity == 0


def test_progress_is_told_in_requests_of_arrays():
    told = []
    replay((SEQUENTIAL, READS), "LPDDR4-3200", on_progress=lambda done, whole: told.append((done, whole)))
    assert told[0] == (0, len(SEQUENTIAL))
    assert told[-1] == (len(SEQUENTIAL), len(SEQUENTIAL))
