"""The report's page: what its template shows, as text and numbers already formatted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dchw.reports import page_rows as rows
from dchw.reports.figures import draw
from dchw.reports.report_tables import ReportTables
from dchw.reports.style import Heading, number, quantity, whole
from dchw.reports.templating import script_json, template, with_contents
from dchw.run.verdict import against

if TYPE_CHECKING:
    from dchw.compression.compressed import CompressedNetwork
    from dchw.machines.machine import Machine
    from dchw.run.sim_result import SimResult


def render(
    tables: ReportTables,
    network: CompressedNetwork,
    machine: Machine,
    results: Mapping[str, SimResult],
    *,
    command: str,
    versions: Mapping[str, str],
    heading: Heading,
) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    storages = list(results)
    last = results[storages[-1]]
    compared = {_baseline(tables), storages[-1]}
    drawings = draw(tables, machine)
    return with_contents(
        template("report.html.j2").render(
            heading=heading,
            network=network,
            machine=machine,
            storages=storages,
            before=storages[0],
            after=storages[-1],
            headline=_headline(tables),
            leading=_leading(tables),
            verdict=tables.comparison.attrs.get("verdict", []),
            baseline=_baseline(tables),
            dominant={"before": _dominant(tables, storages[0]), "after": _dominant(tables, storages[-1])},
            labels=_labels(network, results),
            setup=_setup(network, machine, last, command, versions),
            in_no_layer=rows.in_no_layer(network.coverage),
            recipe=list(_flat(network.recipe)),
            measured=list(_flat(network.results)),
            machine_rows=list(_flat(machine.dump())),
            comparison=rows.before_after(tables),
            layers=rows.layer_rows(tables),
            units=rows.unit_rows(tables),
            shapes=rows.shape_rows(tables),
            assumptions=rows.assumption_rows(tables),
            bounds=rows.bound_rows(tables),
            streams=rows.stream_rows(tables),
            traffic_gap=rows.traffic_gap(tables),
            rows=rows.cost_rows(tables),
            frames=rows.frame_rows(tables),
            sources=rows.records(tables.sources),
            scope=last.costs.scope,
            notes=[
                *(f"{storage}: {result.residency}" for storage, result in results.items() if storage in compared),
                *_distinct(note for result in results.values() for note in result.notes),
            ],
            warnings=_distinct(warning for result in results.values() for warning in result.costs.warnings),
            figures=drawings,
            specs={key: script_json(drawing.spec) for key, drawing in drawings.items()},
            plotly=get_plotlyjs(),
        )
    )


def _labels(network: CompressedNetwork, results: Mapping[str, SimResult]) -> list[str]:
    """What on this page is made up, in capitals where it shows."""
    found = []
    if any("synthetic" in note.lower() and "weights" in note.lower() for note in network.graph.notes):
        found.append("SYNTHETIC WEIGHTS")
    if any(result.workload.activations == "synthetic" for result in results.values()):
        found.append("SYNTHETIC ACTIVATIONS")
    return found


def _headline(tables: ReportTables) -> list[dict[str, str]]:
    """The row that the verdict is about against the baseline; a ratio never calls more less."""
    rows = tables.comparison.set_index("storage")
    base, last = (rows.loc[name].to_dict() for name in (_baseline(tables), _leading(tables)))
    facts = (
        (("smaller file", "larger file", "the same file"), "file_bytes", 1.0, "B"),
        (("less DRAM read", "more DRAM read", "the same DRAM read"), "dram_read_bytes", 1.0, "B"),
        (("shorter latency", "longer latency", "the same latency"), "latency_us", 1e-6, "s"),
        (("less energy", "more energy", "the same energy"), "energy_nj", 1e-9, "J"),
    )
    found = []
    for words, column, factor, unit in facts:
        ratio, _, label = against(base[column], last[column], *words).rpartition("x ")
        detail = f"{quantity(base[column] * factor, unit)} → {quantity(last[column] * factor, unit)}"
        found.append({"ratio": f"{ratio}×" if ratio else "=", "label": label, "detail": detail})
    return found


def _baseline(tables: ReportTables) -> str:
    return str(tables.comparison.attrs.get("baseline", tables.comparison["storage"].iloc[0]))


def _leading(tables: ReportTables) -> str:
    """The row of the least energy besides the baseline, as in the verdict; the baseline where it is alone."""
    energies = tables.comparison.set_index("storage")["energy_nj"].drop(_baseline(tables))
    return str(energies.idxmin()) if len(energies) else _baseline(tables)


def _dominant(tables: ReportTables, storage: str) -> str:
    """The component with the most energy and its share."""
    part = tables.components[tables.components["storage"] == storage].set_index("category")["energy_pj"]
    return f"{part.idxmax()} ({number(100 * part.max() / part.sum())} %)"


def _setup(
    network: CompressedNetwork, machine: Machine, result: SimResult, command: str, versions: Mapping[str, str]
) -> list[tuple[str, str]]:
    workload = result.workload
    weights = sum(layer.codes.size for layer in network.layers)
    kept = sum(layer.nonzeros for layer in network.layers)
    start = "warm: weights that fit are in SRAM" if result.warm else "cold: all weights come from DRAM"
    rows = [
        (
            "Network",
            f"{network.name}: {len(network.layers)} layers, {whole(weights)} weights, {number(100 * kept / weights)} % "
            f"of them kept; {whole(result.costs.work.macs // workload.batch)} MACs per inference uncompressed",
        ),
        ("Coverage", network.coverage.sentence()),
        (
            "Machine",
            f"{machine.name}: {machine.description} ({number(machine.clock_hz / 1e6, 4)} MHz, "
            f"{machine.silicon.node_nm} nm)",
        ),
        ("Machine’s source", machine.source),
        (
            "Run",
            f"batch {workload.batch}, {start}; {workload.origin}; engine {result.engine}",
        ),
        ("Program", f"digest {result.timing.program_digest[:16]}" if result.timing.program_digest else "no digest"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    seeds = [f"{key} {value}" for key, value in (*_flat(network.recipe), *_flat(network.results)) if "seed" in key]
    if workload.activations == "synthetic":
        seeds.append(f"synthetic activations {workload.seed}")
    rows.append(("Seeds", "; ".join(_distinct(seeds)) or "none used"))
    rows.append(("Repeat with", command))
    return rows


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    """Nested plain values as dotted keys and text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", str(value)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
