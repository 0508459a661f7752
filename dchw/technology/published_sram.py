"""Energy of an SRAM access from published tables, by size and node, for machines whose arithmetic comes from them too.

Two tables list reads of 64 bits for 8 KiB, 32 KiB and 1 MiB: Horowitz (ISSCC 2014) at 45 nm and TPUv4i's Table II at
7 nm. Between sizes, and between the two nodes, a read lies on the line in log-log; above 1 MiB the last line goes on.
Below 8 KiB the line goes to a register file of 0.5 to 1 KiB, taken at the geometric middle, and beyond that on. Deep
Compression's table has one at 45 nm, 1 pJ for 32 bits, hence 2 pJ for 64 and a fifth of Horowitz' read of 8 KiB; at 7
nm, where none is published, it is that share of the table's own read of 8 KiB. That table does not say how large the
file is: the size is that of Eyeriss', which gives it what one of its 16-bit multiply-accumulates takes, a sixth of an
access to its buffer. The high end reads the table by its ratio instead, a fifth of its own cache, which EIE takes for
Horowitz' 32 KiB: twice as much.

No table says how many ports its memories have. They are taken to have one; the high end of one with a read and a write
port has what CACTI gives the second port, a fifth to two fifths more.

Published reads hardly fall from 45 to 7 nm where an inverter's energy falls tenfold, and CACTI's macros are cheaper
than either; which of them holds for a given chip is not known, so a range spans all of them.
"""

from __future__ import annotations

import math
from functools import cache

from dchw.technology.figure import SOURCE_JOINT, Confidence, Figure
from dchw.technology.published import published_energy
from dchw.technology.scaling import PUBLISHED_NODE_NM

PUBLISHED_BITS = 64
"""Width of the published accesses."""
_TABLES = {PUBLISHED_NODE_NM: "tpuv4i_table2", 45: "horowitz_isscc14"}
_NAMES = {8 << 10: "sram_8KB_read", 32 << 10: "sram_32KB_read", 1 << 20: "sram_1MB_read"}
_REGISTER_FILE_BYTES = math.sqrt(0.5 * 1.0) * 1024
_CAUSE = "SRAM access energy: published tables against CACTI scaled"


def published_read(size_bytes: float, node_nm: float) -> Figure:
    """pJ of a 64-bit read of an SRAM of ``size_bytes`` at 7 to 45 nm; above nominal, the dearer register file."""
    value, high = (_at(size_bytes, node_nm, by_ratio) for by_ratio in (False, True))
    sources = [_curve(node, False)[0] for node in _TABLES]
    exact = node_nm == PUBLISHED_NODE_NM
    at = "by size in log-log" if exact else f"by size and node in log-log to {node_nm:g} nm"
    note = f"64-bit reads {at}"
    if size_bytes < min(_NAMES):
        note += ", below 8 KiB towards a register file of Eyeriss' size"
    if size_bytes < _REGISTER_FILE_BYTES:
        note += ", and beyond it, where nothing is published"
    source = SOURCE_JOINT.join((*(sources[:1] if exact else sources), note))
    return Figure(value, value, high, "pJ", source, Confidence.INTERPOLATED)


def published_access(modelled: Figure, share: float, size_bytes: float, node_nm: float, ports: float = 1.0) -> Figure:
    """``share`` of a published 64-bit read in place of the energy ``modelled`` by CACTI and node scaling.

    ``share`` is what CACTI gives for the access (its width, a write) over a 64-bit read of the same size, ``ports``
    what it gives for the ports over one. The range spans the published values and the modelled range.
    """
    read = published_read(size_bytes, node_nm) * share
    source = SOURCE_JOINT.join((read.source, "width and writes in CACTI's ratio"))
    low, high = min(read.nominal, modelled.low), max(read.high * max(ports, 1.0), modelled.high)
    return Figure(read.nominal, low, high, "pJ", source, Confidence.DERIVED).because(_CAUSE)


def _at(size_bytes: float, node_nm: float, by_ratio: bool) -> float:
    logs = [_on_line(_curve(node, by_ratio)[1], math.log(size_bytes)) for node in _TABLES]
    share = math.log(node_nm / PUBLISHED_NODE_NM) / math.log(45 / PUBLISHED_NODE_NM)
    return math.exp(logs[0] * (1 - share) + logs[1] * share)


@cache
def _curve(node: int, by_ratio: bool) -> tuple[str, tuple[tuple[float, float], ...]]:
    """Source, and (log size, log pJ) ascending, of the published reads at a node and the register file below them."""
    listed = {size: published_energy(_TABLES[node], name, PUBLISHED_BITS) for size, name in _NAMES.items()}
    points = tuple((math.log(size), math.log(figure.nominal)) for size, figure in listed.items())
    small = (math.log(_REGISTER_FILE_BYTES), points[0][1] + math.log(_register_file_share(by_ratio)))
    return listed[8 << 10].source.rsplit(",", 1)[0], (small, *points)


def _register_file_share(by_ratio: bool) -> float:
    """A 64-bit access to a register file over one to 8 KiB, both published at 45 nm.

    The register file's own figure decides, or ``by_ratio`` what it is of the cache of its table: that cache's 5 pJ for
    32 bits is a read of 8 KiB in Horowitz' table and half a read of 32 KiB, which EIE says it is.
    """
    table = "deep_compression_table"
    file = published_energy(table, "register_file_access", 32).nominal * PUBLISHED_BITS / 32
    if by_ratio:
        cache_read = published_energy(table, "sram_cache_access", 32).nominal * PUBLISHED_BITS / 32
        file *= published_energy(_TABLES[45], _NAMES[32 << 10], PUBLISHED_BITS).nominal / cache_read
    return file / published_energy(_TABLES[45], _NAMES[8 << 10], PUBLISHED_BITS).nominal


def _on_line(points: tuple[tuple[float, float], ...], at: float) -> float:
    """The piecewise line through ``points``; its outer pieces go on beyond both ends."""
    right = next((i for i, (x, _) in enumerate(points) if x >= at and i > 0), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
