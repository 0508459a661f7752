"""`dchw.report`: runs that are at hand as one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dchw.arguments import checked
from dchw.costs.frames import check_frame_rate
from dchw.quantities import DchwError
from dchw.reports import Heading, ReportTables, write_report
from dchw.run.comparison import comparison_frame
from dchw.run.sim_result import SimResult

if TYPE_CHECKING:
    from dchw.compression.compressed import CompressedNetwork
    from dchw.dram.idle import IdleState
    from dchw.machines.machine import Machine


@checked
def report(
    results: SimResult | Iterable[SimResult] | Mapping[str, SimResult],
    path: str | Path,
    *,
    fps: float | None = None,
    dram_idle: IdleState = "self-refresh",
    title: str = "",
    author: str = "",
    date: str = "",
) -> ReportTables:
    """Write runs as a self-contained HTML report; networks and machines side by side where there are several.

    Parameters
    ----------
    results
        One run, or several in different storage formats, as `simulate` gives them or `compare` hands to ``on_result``
        (a mapping by format will do). The first is "before" and the last "after" compression. Runs of several networks
        or on several machines make a page with a column for each network on each machine.
    path
        The file: HTML, or PDF where its name ends so (printed by Chromium).
    fps
        Also give the energy of a frame at so many frames per second.
    title, author, date
        Stand above the report; without a title it names network and machine.
    dram_idle
        What the DRAM does between frames: ``"self-refresh"`` or ``"power-down"``.

    Returns
    -------
    ReportTables
        The tables that the report is made of, as DataFrames; side by side with columns ``network`` and ``machine``.

    Raises
    ------
    DchwError
        For two runs of one network on one machine in one storage format, for more than eight columns side by side, for
        what is no run, and where the file cannot be written.

    Examples
    --------
    >>> import dchw, numpy as np, pathlib, tempfile
    >>> weight = np.random.default_rng(0).standard_normal((64, 128), dtype=np.float32)
    >>> network = dchw.compress(dchw.Network.from_arrays("fc", weights={"fc": weight}), dchw.Recipe(density=0.1))
    >>> runs = [dchw.simulate(network, "phone-lpddr5x", storage) for storage in ("dense-int8", "shared")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tables = dchw.report(runs, pathlib.Path(folder, "fc.html"))
    >>> list(tables.comparison["storage"])
    ['dense-int8', 'shared']
    """
    runs = _runs(results)
    if fps is not None:
        check_frame_rate(fps)
    groups = _grouped(runs)
    heading = Heading(title=title, author=author, date=date)
    if len(groups) > 1:
        from dchw.reports.side_by_side_page import Column, write_side_by_side

        columns = [
            Column.of(network, machine, by_storage, comparison_frame(network, [*by_storage.values()]),
                      fps=fps, dram_idle=dram_idle)
            for network, machine, by_storage in groups
        ]  # fmt: skip
        return write_side_by_side(path, columns, command="dchw.report", heading=heading)
    network, machine, by_storage = groups[0]
    return write_report(
        path,
        network,
        machine,
        by_storage,
        comparison_frame(network, runs),
        command="dchw.report",
        fps=fps,
        dram_idle=dram_idle,
        heading=heading,
    )


def _grouped(runs: Iterable[SimResult]) -> list[tuple[CompressedNetwork, Machine, dict[str, SimResult]]]:
    """Runs by network and machine, in the order of their first."""
    groups: list[tuple[CompressedNetwork, Machine, dict[str, SimResult]]] = []
    for run in runs:
        assert run.network is not None
        found = [g for g in groups if g[0] is run.network and g[1] == run.workload.given]
        if not found:
            found = [(run.network, run.workload.given, {})]
            groups += found
        if found[0][2].setdefault(run.workload.storage, run) is not run:
            raise DchwError(f"report: expected one run a storage format; got two of {run.workload.storage}; leave one")
    return groups


def _runs(results: object) -> list[SimResult]:
    if isinstance(results, SimResult):
        results = [results]
    elif isinstance(results, Mapping):
        results = list(results.values())
    found = list(results) if isinstance(results, Iterable) and not isinstance(results, str) else [results]
    wrong = [run for run in found if not isinstance(run, SimResult) or run.network is None]
    if wrong or not found:
        got = "none" if not found else type(wrong[0]).__name__
        raise DchwError(f"report: expected runs as dchw.simulate gives them; got {got}; simulate first")
    return [run for run in found if isinstance(run, SimResult)]
