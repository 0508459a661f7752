"""Run in a copy of the package in which every recipe was followed: prints, as JSON, what a user then sees."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import dchw
from dchw.graph.forward import forward
from dchw.machines.machine import preset_names
from tests.mapping.layers import fully_connected

NETWORK, PHONE = fully_connected(37, 50), "phone-lpddr5x"


def formats() -> dict[str, Any]:
    table = dchw.compare(NETWORK, PHONE, storages=["dense-int8", "palette", "palette-bytes", "huffman"])
    columns = ["packed_bytes", "energy_nj"]
    return {row["storage"]: {name: float(row[name]) for name in columns} for _, row in table.iterrows()}


def cycles(engine: str) -> int:
    return dchw.simulate(NETWORK, PHONE, "palette-bytes", engine=engine).cycles  # type: ignore[arg-type]


def unit() -> dict[str, Any]:
    result = dchw.simulate(NETWORK, PHONE, "huffman")
    rows, area = result.to_frame(), result.costs.area_frame().set_index("unit")
    events = sorted(set(rows[rows["unit"] == "checksum"]["event"]))
    return {"events": events, "area_mm2": float(area.loc["checksum", "area_mm2"])}


def standard() -> dict[str, Any]:
    trace = np.arange(4000) * 32, np.zeros(4000, bool)
    mine, base = (dchw.replay(trace, name, refresh="noref") for name in ("LPDDR5-4000", "LPDDR5-6400"))
    return {"seconds": mine.seconds, "seconds_6400": base.seconds}


def operator() -> dict[str, Any]:
    if importlib.util.find_spec("onnx") is None:
        return {}
    from tests.importers.onnx_models import node, saved

    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), [node("Celu", "x", "y")], {}, (5,))
        network = dchw.load_network(path)
    x = np.linspace(-3, 3, 5, dtype=np.float32)[None]
    got = forward(network, {"x": x})[network.operations[-1].name]
    wanted = np.maximum(x, 0) + np.minimum(np.exp(x) - 1, 0)
    return {"kinds": [str(op.kind) for op in network.operations], "largest_error": float(np.abs(got - wanted).max())}


def preset() -> dict[str, Any]:
    one, four = (dchw.simulate(NETWORK, name, "dense-int8").cycles for name in ("phone-one-channel", PHONE))
    return {"listed": "phone-one-channel" in preset_names(), "cycles": one, "cycles_of_four": four}


def section() -> dict[str, bool]:
    if importlib.util.find_spec("plotly") is None:
        return {}
    from dchw.reports.report_tables import build_tables

    results = {name: dchw.simulate(NETWORK, PHONE, name) for name in ("dense-int8", "huffman")}
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        dchw.report(list(results.values()), page)
        text = page.read_text(encoding="utf-8")
    table = dchw.compare(NETWORK, PHONE, storages=list(results))
    tables = build_tables(NETWORK, dchw.machine(PHONE), results, table)
    return {
        "on_the_page": "<li>huffman: " in text,
        "in_the_contents": '">8. Entries</a>' in text,
        "as_a_table": "entries" in tables.named(),
    }


if __name__ == "__main__":
    shown = {
        "formats": formats(),
        "format_cycles": {engine: cycles(engine) for engine in ("fast", "reference")},
        "unit": unit(),
        "standard": standard(),
        "operator": operator(),
        "preset": preset(),
        "section": section(),
    }
    sys.stdout.write(json.dumps(shown) + "\n")
