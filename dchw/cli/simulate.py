"""``dchw simulate``: one run of a compressed network on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dchw.cli.output import print_json, print_table, progress, quiet
from dchw.cli.running import chosen_machine, default_storage, load_compressed, run_options

if TYPE_CHECKING:
    from dchw.dram.idle import IdleState
    from dchw.dram.results import MemoryRun
    from dchw.run.simulation import Engine


_LAYER_COLUMNS = ("layer", "own_cycles", "bound_by", "headroom", "dram_read_bytes")
_MAPPING_COLUMNS = ("layer", "outermost", "part_rows", "band_pixels", "column_blocks", "simple_bytes", "least_bytes")
_MAPPING_NOTES = (
    "weight_bytes and input_bytes are the DRAM reads that the order expects, simple_bytes those of the simple order, "
    "least_bytes everything read once; orders is how many were compared.",
)

_RESIDENCY_NOTES = (
    "stays is the share that needs no DRAM: of weights in every inference but the first, of tensors always; "
    "only_compressed marks weights that would not stay whole as int8.",
)


@click.command(name="simulate")
@click.argument("file")
@click.option("--storage", default=default_storage, show_default="as compressed", help="Storage format of the weights.")
@run_options
@click.option(
    "--arithmetic",
    type=click.Choice(["float32", "fixed16", "none"]),
    default="float32",
    show_default=True,
    help="What outputs are computed in; none: timing only.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the energy rows as .csv or .parquet.")
@click.option(
    "--timeline", type=click.Path(path_type=Path), help="Write a timeline for Perfetto; NAME.gz is compressed."
)
@click.option("--layer", multiple=True, help="Bound timeline and trace to this layer (repeatable).")
@click.option("--dram-trace", type=click.Path(path_type=Path), help="Write the DRAM requests of the run.")
@click.option(
    "--explain", is_flag=True, help="Also every layer's order of loops, beside the simple one, and what stays."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    file: str,
    machine_name: str,
    settings: tuple[str, ...],
    storage: str,
    engine: Engine,
    batch: int,
    warm: bool,
    arithmetic: str,
    fps: float | None,
    dram_idle: IdleState,
    prototxt: Path | None,
    out: Path | None,
    timeline: Path | None,
    layer: tuple[str, ...],
    dram_trace: Path | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Run FILE (a .dchw file or a published release) on a machine: cycles, traffic and energy."""
    import pandas as pd

    import dchw
    from dchw.costs import per_frame
    from dchw.files import write_frame
    from dchw.quantities import DchwError, nearest
    from dchw.run.simulation import run_program

    network = load_compressed(file, prototxt)
    target = chosen_machine(machine_name, settings)
    with progress() as bar:
        mapping = bar.add_task("mapping layers", total=len(network.uses))
        running = bar.add_task("firings", total=None, visible=False)
        result = dchw.simulate(
            network,
            target,
            storage,
            engine,
            batch=batch,
            warm=warm,
            arithmetic=arithmetic,
            record=timeline is not None and not layer,
            on_mapping=lambda done, total: bar.update(mapping, completed=done, total=total),
            on_progress=lambda done, total: bar.update(running, completed=done, total=total, visible=True),
        )
    if out is not None:
        write_frame(result.to_frame(), out)
    unknown = [name for name in layer if name not in result.outline.layers]
    if unknown:
        raise DchwError(f"{file}: no layer {unknown[0]!r}; {nearest(unknown[0], result.outline.layers)}")
    if timeline is not None:
        from dchw.engines.timeline import layer_window, write_timeline

        timing = result.timing
        if layer:
            spans = [layer_window(timing, result.outline.layers.index(name)) for name in layer]
            window = (min(first for first, _ in spans), max(end for _, end in spans))
            timing = run_program(result.program, engine, record=True, window=window)
        step = write_timeline(timeline, result.program, timing)
        if step > 1 and not quiet():
            click.echo(f"dchw: {timeline}: thinned to {step} cycles; --layer bounds it for every firing", err=True)
    if dram_trace is not None:
        from dchw.engines.memory_trace import write_program_trace

        write_program_trace(dram_trace, result.outline, result.timing, layers=layer or None)
    energy = result.costs.by("category")
    summary = {
        "network": network.name,
        "machine": target.name,
        "storage": storage,
        "engine": engine,
        "coverage": result.coverage.share,
        "cycles": result.cycles,
        "seconds": result.seconds,
        "dram_read_bytes": result.dram_read_bytes,
        "dram_write_bytes": result.dram_write_bytes,
        "bandwidth_gbps": result.bandwidth_gbps,
        "energy_pj": result.energy_pj,
        "energy_range_pj": list(result.costs.energy_range_pj),
        "inferences_per_s": result.inferences_per_s,
        "inferences_per_j": result.inferences_per_j,
        "energy_by_category_pj": energy,
        "stream_bytes": {stream.value: size for stream, size in result.stream_bytes().items()},
        "area_mm2": result.costs.area_mm2,
        "bound_by": result.bound.bound_by,
        "bound": str(result.bound),
        "residency": result.residency,
        "notes": list(result.notes),
        "warnings": list(result.costs.warnings),
    }
    memory = result.memory
    frame = None if fps is None else per_frame(result.costs, fps, target, dram_idle)
    if frame is not None:
        summary |= {"fps": fps, "energy_per_frame_pj": frame.energy_pj, "power_at_fps_mw": frame.power_mw}
    if as_json:
        events: dict[str, int] = {}
        for count in result.counts:
            events[f"{count.unit}.{count.event}"] = events.get(f"{count.unit}.{count.event}", 0) + count.count
        digest = result.timing.program_digest
        content = {
            **summary,
            "program_digest": digest,
            "events": events,
            "layers": result.layers_frame().to_dict("records"),
        }
        if memory is not None:
            content["memory"] = {**memory.figures(), **memory.details()}
        if explain:
            content["mapping"] = result.mapping_frame().to_dict("records")
            content["residency"] = result.residency_frame().to_dict("records")
        print_json("simulate", content)
        return
    low, high = (end / 1e3 for end in result.costs.energy_range_pj)
    head = f"{network.name} on {target.name}, {storage}, {'warm' if warm else 'cold'}, engine {engine}"
    facts = [
        f"{result.cycles:,} cycles = {result.seconds * 1e6:.2f} us; {result.dram_read_bytes:,} B read and "
        f"{result.dram_write_bytes:,} B written at {result.bandwidth_gbps:.2f} GB/s; {result.energy_pj / 1e3:,.1f} nJ "
        f"({low:,.0f} to {high:,.0f} with all figures low or high)",
        f"{_rate(result.inferences_per_s)} inferences a second, {_rate(result.inferences_per_j)} for a joule.",
        f"Bound by {result.bound}.",
        result.residency,
        *_memory_facts(memory),
        f"DRAM energy: {result.costs.scope}.",
        *(f"Note: {note}" for note in result.brief_notes),
        *(f"Warning: {warning}" for warning in result.costs.warnings),
    ]
    print_table(head, result.layers_frame(), facts, main=_LAYER_COLUMNS)
    print_table("Bytes by stream, as packed and as they crossed the DRAM", result.streams_frame(), _STREAM_NOTES)
    if explain:
        print_table("Order of loops of every layer", result.mapping_frame(), _MAPPING_NOTES, main=_MAPPING_COLUMNS)
        print_table("What stays on the chip", result.residency_frame(), _RESIDENCY_NOTES)
    print_table(
        "Energy by unit",
        pd.DataFrame({"unit": list(by := result.costs.by("unit")), "nJ": [v / 1e3 for v in by.values()]}),
    )
    if frame is not None:
        parts = frame.to_frame()[["part", "unit", "energy_pj", "seconds", "confidence"]]
        note = f"{frame.energy_pj / 1e3:,.0f} nJ a frame, {frame.power_mw:.3g} mW on average."
        print_table(f"Energy of a frame at {fps:g} frames per second", parts, [note])
    nodes = result.units_frame()
    kinds = nodes["node"].str.replace(r"\[\d+\]$", "", regex=True).rename("kind of node")
    means = nodes.groupby(["unit", kinds], sort=False)[["busy_cycles", "stall_cycles", "idle_cycles"]].mean()
    print_table("Cycles of a node, mean over the nodes of a kind", means.round(1).reset_index())


_STREAM_NOTES = (
    "again: what reading exceeds packing by, ends of bursts and weights that are read in several passes; tensors are "
    "not packed.",
)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _memory_facts(memory: MemoryRun | None) -> list[str]:
    """Bandwidth, rows, latencies and queues of the run's DRAM; all of it, and by bank and over time, with --json."""
    if memory is None:
        return []
    return [
        f"DRAM {memory.standard}: {memory.achieved_gbps:.2f} GB/s from its first request to the end of the run, "
        f"{memory.share_of_peak:.1%} of peak; row hits, misses, conflicts: {memory.row_hits:,}, {memory.row_misses:,}, "
        f"{memory.row_conflicts:,}; read latency in DRAM clocks: mean {memory.latency_mean:.1f}, "
        f"p50 {memory.latency_percentile(50)}, p99 {memory.latency_percentile(99)}, most {memory.latency_max}; "
        f"mean queue fill: {memory.queue_mean('read'):.1f} reads, {memory.queue_mean('write'):.1f} writes"
    ]
