"""A comparison as one self-contained HTML file that reads like a paper's evaluation section, and as tables on disk.

The page holds everything it needs, plotly's script once, and loads nothing; equal results give equal bytes. Tables are
built once from results (`dchw.reports.report_tables`); text and figures only format them.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from dchw.extras import extras_named
from dchw.quantities import DchwError
from dchw.reports.report_tables import ReportTables, build_tables, write_tables
from dchw.reports.style import Heading
from dchw.reports.templating import write_page

if TYPE_CHECKING:
    import pandas as pd

    from dchw.compression.compressed import CompressedNetwork
    from dchw.dram.idle import IdleState
    from dchw.machines.machine import Machine
    from dchw.run.sim_result import SimResult

__all__ = ["Heading", "ReportTables", "build_tables", "write_report", "write_tables"]

_VERSIONED = ("dchw", "numpy", "numba", "torch", "plotly")


SUFFIXES = (".html", ".htm", ".pdf")
"""What a report may be written as; any other name is written as HTML."""


def write_report(
    path: str | Path,
    network: CompressedNetwork,
    machine: Machine,
    results: Mapping[str, SimResult],
    frame: pd.DataFrame,
    *,
    command: str,
    error_pct: Mapping[str, float] | None = None,
    fps: float | None = None,
    dram_idle: IdleState = "self-refresh",
    heading: Heading | None = None,
) -> ReportTables:
    """Write a comparison as one HTML file, or as PDF where ``path`` ends so; gives the tables it was made from.

    ``results`` holds a run per storage format, the first being "before" and the last "after"; ``frame`` is what
    `dchw.compare` gave for them. ``command`` repeats the run. ``error_pct`` maps storage formats to error rates;
    ``fps`` adds the energy of a frame at that rate. Raises DchwError where the file cannot be written.
    """
    with extras_named():
        import plotly  # noqa: F401

        from dchw.reports.page import render

    if not results or list(frame["storage"]) != list(results):
        raise DchwError(
            f"report: expected one result per row of the comparison, {', '.join(frame['storage'])}; got "
            f"{', '.join(results) or 'none'}; pass the results that the comparison was made of"
        )
    if error_pct is not None:
        frame = frame.assign(error_pct=[error_pct.get(name, float("nan")) for name in frame["storage"]])
    tables = build_tables(network, machine, results, frame, fps=fps, dram_idle=dram_idle)
    page = render(tables, network, machine, results, command=command, versions=versions(), heading=heading or Heading())
    write_page(page, path)
    return tables


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that a result may depend on."""
    found = {"Python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
