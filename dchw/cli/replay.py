"""``dchw replay``: a trace of DRAM requests through a DRAM standard."""

from __future__ import annotations

import sys
from typing import Any

import click

from dchw.cli.output import print_json, print_table, progress


@click.command()
@click.argument("trace", type=click.Path(dir_okay=False))
@click.option("--dram", required=True, metavar="STANDARD", help="A standard by name, or a YAML file of one.")
@click.option("--mapping", help="robaracoch, mop4clxor or an order of bits.  [default: the standard's]")
@click.option("--refresh", type=click.Choice(["refab", "refpb", "noref"]), help="[default: the standard's]")
@click.option(
    "--inject", type=click.Choice(["backtoback", "oneatatime", "timed"]), default="backtoback", show_default=True
)
@click.option(
    "--format",
    "trace_format",
    type=click.Choice(["parquet", "ramulator", "ramulator1", "dramsim3"]),
    help="Format of TRACE.  [default: told by its content]",
)
@click.option("--channels", type=click.IntRange(min=1, max=1024), default=1, show_default=True)
@click.option("--row-policy", type=click.Choice(["open", "closed", "timeout"]), default="open", show_default=True)
@click.option("--rest-of-chip", type=float, default=0.0, show_default=True, help="Share of the bus others hold.")
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False), help="Also write all figures as CSV.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def command(
    trace: str,
    dram: str,
    mapping: str | None,
    refresh: Any,
    inject: Any,
    trace_format: Any,
    channels: int,
    row_policy: str,
    rest_of_chip: float,
    csv_path: str | None,
    as_json: bool,
) -> None:
    """Run TRACE through a DRAM standard: Parquet, lines of Ramulator 1 or 2 or of DRAMsim3, also through gzip."""
    from dchw.config import build
    from dchw.dram.options import Controller
    from dchw.dram.replay import replay
    from dchw.files import write_frame

    options = build(Controller, {"row_policy": row_policy, "rest_of_chip": rest_of_chip}, where="controller")
    with progress() as bar:
        task = bar.add_task("trace", total=None)
        result = replay(
            trace,
            dram,
            mapping=mapping,
            refresh=refresh,
            inject=inject,
            channels=channels,
            controller=options,
            trace_format=trace_format,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if csv_path is not None:
        write_frame(result.to_frame(), csv_path)
    if as_json:
        print_json("replay", _content(result))
    else:
        _tables(result)
    sys.stdout.flush()


def _content(result: Any) -> dict[str, Any]:
    return {
        **result.summary(),
        "commands": result.commands,
        "traffic_bytes": {f"{stream} {way}": size for (stream, way), size in result.traffic_bytes.items()},
        "energy": [
            {
                "event": row.event,
                "count": row.count,
                "energy_each_pj": row.each.nominal,
                "energy_each_low_pj": row.each.low,
                "energy_each_high_pj": row.each.high,
                "energy_pj": row.energy_pj,
                "source": row.each.source,
                "confidence": str(row.each.confidence),
            }
            for row in result.energy
        ],
        "energy_scope": result.scope,
        "notes": list(result.notes),
        **result.details(),
    }


def _tables(result: Any) -> None:
    import pandas as pd

    summary = result.summary()
    print_table("Replay", pd.DataFrame([(k, _shown(v)) for k, v in summary.items()], columns=["figure", "value"]))
    if result.commands:
        print_table("Commands", pd.DataFrame(result.commands.items(), columns=["command", "count"]))
    traffic = [(stream, way, size) for (stream, way), size in result.traffic_bytes.items()]
    print_table("Traffic", pd.DataFrame(traffic, columns=["stream", "way", "bytes"]))
    print_table("Read latency (cycles)", _latency_bars(result))
    if len(banks := result.banks()):
        print_table("Banks", banks)
    print_table("Queues over time (mean requests)", result.occupancy(most=16))
    rows = [(r.event, r.count, r.each.nominal, r.energy_pj, str(r.each.confidence)) for r in result.energy]
    if rows:
        frame = pd.DataFrame(rows, columns=["event", "count", "energy_each_pj", "energy_pj", "confidence"])
        print_table("Energy", frame, (f"scope: {result.scope}",))
    else:
        click.echo(f"scope: {result.scope}")
    for note in result.notes:
        click.echo(f"Note: {note}")


def _shown(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _latency_bars(result: Any) -> Any:
    """The latency histogram in a dozen bins: from, to (excluded), reads, share and a bar."""
    import pandas as pd

    found = result.latencies()
    total = sum(reads for _, reads in found)
    width = max(1, -(-(found[-1][0] + 1 - found[0][0]) // 12)) if found else 1
    bins: dict[int, int] = {}
    for cycles, reads in found:
        bins[cycles // width * width] = bins.get(cycles // width * width, 0) + reads
    rows = [(k, k + width, n, n / total, "#" * round(40 * n / max(bins.values()))) for k, n in bins.items()]
    return pd.DataFrame(rows, columns=["from", "below", "reads", "share", "bar"])
