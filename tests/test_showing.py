"""Objects show themselves in a line, and in a notebook in a small table; figures hold what was measured."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from functools import cache

import pandas as pd
import pytest

import dchw
from dchw import showing
from dchw.formats import STORAGE_FORMATS
from dchw.quantities import DchwError


@cache
def network() -> dchw.CompressedNetwork:
    found = dchw.load_network("lenet-300-100")
    assert isinstance(found, dchw.CompressedNetwork)
    return found


@cache
def run() -> dchw.SimResult:
    return dchw.simulate(network(), "phone-lpddr5x", "shared")


@cache
def table() -> pd.DataFrame:
    return dchw.compare(network(), "phone-lpddr5x", storages=["dense-int8", "shared"])


def public() -> Iterator[object]:
    """Everything a user gets hold of, and what its fields hold, one step down."""
    tops: list[object] = [
        network(),
        network().graph,
        run(),
        run().memory,
        run().bound,
        run().coverage,
        run().plot,
        table().plot,
        dchw.machine("phone-lpddr5x"),
        dchw.Recipe(density={f"layer{i}": 0.1 for i in range(100)}),
        dchw.sram(size_bytes=32768, word_bits=64, node_nm=45),
        dchw.study({"networks": "lenet-300-100", "vary": {"huffman.units": [4, 8]}}),
        *STORAGE_FORMATS.values(),
        *network().layers,
        *network().graph.operations,
        *network().graph.layers,
    ]
    for top in tops:
        yield top
        if dataclasses.is_dataclass(top):
            for field in dataclasses.fields(top):
                value = getattr(top, field.name)
                if type(value).__module__.startswith("dchw.") and "dram" not in type(value).__module__:
                    yield value


def test_a_line_is_short_and_telling() -> None:
    for one in public():
        text = repr(one)
        assert len(text) <= showing.LONGEST, (type(one), text)
        assert " object at 0x" not in text, type(one)


def test_what_digests_are_made_of_shows_all_it_holds() -> None:
    """A program's digest is made of the text of its units: that must not be cut."""
    phone = dchw.machine("phone-lpddr5x")
    for unit in phone.units.values():
        assert all(f"{name}=" in repr(unit) for name in type(unit).model_fields)


def test_a_run_says_what_it_is() -> None:
    text = repr(run())
    for word in ("lenet-300-100", "shared", "phone-lpddr5x", f"{run().cycles:,} cycles", "bound by"):
        assert word in text


def test_a_long_line_is_cut() -> None:
    assert len(showing.line("Network", "n", *["x" * 100] * 9)) == showing.LONGEST


def test_tables_in_a_notebook_are_small_and_escaped() -> None:
    for one in (run(), network(), network().graph, dchw.machine("phone-lpddr5x"), run().memory):
        assert len(one._repr_html_()) < 3000  # type: ignore[union-attr]
    rows = showing.table("<b>", ("a",), [(f"<{i}>",) for i in range(50)])
    assert "<b>" not in rows
    assert "and 38 more" in rows


@pytest.mark.parametrize("name", ["energy", "traffic", "roofline", "timeline"])
def test_figures_of_a_run(name: str) -> None:
    figure = getattr(run().plot, name)()
    assert figure.layout.title.text.startswith("lenet-300-100 / shared on phone-lpddr5x")
    assert len(figure.data) >= 1


def test_figures_add_up() -> None:
    energy = run().plot.energy()
    factor = {"pJ": 1, "nJ": 1e3, "µJ": 1e6}[energy.layout.xaxis.title.text.split("(")[1].rstrip(")")]
    assert sum(sum(bar.x) for bar in energy.data) * factor == pytest.approx(run().energy_pj, rel=1e-4)
    traffic = run().plot.traffic()
    factor = {"B": 1, "kB": 1e3}[traffic.layout.xaxis.title.text.split("(")[1].rstrip(")")]
    assert sum(sum(bar.x) for bar in traffic.data) * factor == pytest.approx(run().dram_bytes, rel=1e-4)


def test_every_roof_has_every_layer_below_it() -> None:
    figure = run().plot.roofline()
    layers = [operation.name for operation in network().layers]
    panels = {(trace.xaxis or "x"): list(trace.text) for trace in figure.data if "markers" in trace.mode}
    roofs = {(trace.xaxis or "x") for trace in figure.data if trace.mode == "lines"}
    assert len(roofs) >= 3
    assert panels == dict.fromkeys(roofs, layers)


@pytest.mark.parametrize("name", ["energy", "traffic", "latency"])
def test_figures_of_a_table_that_travelled(name: str) -> None:
    there = pickle.loads(pickle.dumps(table()))
    figure = getattr(there[there["storage"] == "shared"].plot, name)()
    assert {storage for bar in figure.data for storage in bar.y} == {"shared"}


def test_a_table_without_the_columns_says_so() -> None:
    with pytest.raises(DchwError, match="expected a column 'latency_us'"):
        table()[["storage", "cycles"]].plot.latency()
