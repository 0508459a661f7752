"""From one process node to another: factors with ranges, and the published 7 nm energies.

Two named methods:

``inverter``
    A simulated fan-out-of-4 inverter at nominal supply (Stillmaker & Baas 2017): Table 2 from 45 nm down to 7 nm, the
    polynomials of the same paper above 45 nm; nodes between by a straight line in log-log. Real blocks gain less than
    an inverter, so the nominal value of a shrink is its lower bound: ``low == nominal``, and ``high`` follows designs.
``published``
    Energies published at 7 nm (TPUv4i), for the arithmetic and the SRAM reads listed there; from 7 nm to the node of
    the logic family on the line in log-log between both published energies, so that machines of several nodes
    compare (SRAM: `dchw.technology.published_sram`). Everything else falls back to ``inverter``.

The far end of the range, per quantity:

- energy of logic: the published arithmetic that gained least from 45 to 7 nm (32-bit multiply, 0.477) fixes a power of
  the node; of SRAM: no gain at all (a published 8 KB array kept 0.75 from 45 to 7 nm, CACTI's keeps less by 22 nm);
- area of logic: the square of the node; of SRAM: the bit cell (CACTI's 146 F^2 at 22 nm, 0.027 um^2 at 7 nm);
- delay and leakage: no gain at all.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from enum import StrEnum
from functools import cache

from dchw.quantities import DchwError
from dchw.tables import read_table
from dchw.technology.figure import Confidence, Figure

MIN_NODE_NM = 7
MAX_NODE_NM = 90
PUBLISHED_NODE_NM = 7
LARGEST_PUBLISHED_NODE_NM = 40
"""Below the own node of every logic family; there the family itself is the published table."""

_TABLE2 = "stillmaker_table2_fo4_inverter"
_POLYNOMIAL = "stillmaker_polynomial_nominal_vdd"
_INVERTER_SOURCE = "inverter scaling (Stillmaker & Baas 2017, Table 2 to 45 nm, polynomials above)"
_LEAKAGE_NOTE = ", the inverter's switching power stands in for leakage"


class Scaling(StrEnum):
    """How figures reach a node their source does not list."""

    INVERTER = "inverter"
    PUBLISHED = "published"


class Quantity(StrEnum):
    """What is scaled."""

    ENERGY = "energy"
    SRAM_ENERGY = "SRAM energy"
    DELAY = "delay"
    AREA = "area"
    SRAM_AREA = "SRAM area"
    LEAKAGE = "leakage"


_COLUMNS = {
    Quantity.ENERGY: "energy_factor_vs_45",
    Quantity.SRAM_ENERGY: "energy_factor_vs_45",
    Quantity.DELAY: "delay_factor_vs_45",
    Quantity.AREA: "area_factor_vs_45",
    Quantity.SRAM_AREA: "area_factor_vs_45",
    Quantity.LEAKAGE: "power_or_leak_factor_vs_45",
}

# CACTI's ITRS tables use a 146 F^2 cell; 0.027 um^2 is the published 7 nm high-density cell.
_BIT_CELL_POWER = math.log(0.027 / (146 * 0.022**2)) / math.log(7 / 22)


def check_node(node_nm: float, where: str, low: float = MIN_NODE_NM, high: float = MAX_NODE_NM) -> None:
    """Raise unless the node lies inside what the tables cover."""
    if not low <= node_nm <= high:
        raise DchwError(
            f"{where}: expected a process node from {low:g} to {high:g} nm; got {node_nm:g} nm; "
            "choose a node inside the range, no table covers others"
        )


def inverter_factor(quantity: Quantity, from_nm: float, to_nm: float) -> Figure:
    """What a figure at ``from_nm`` is multiplied by to hold at ``to_nm`` (unit ``x``); 1 exactly for the same node."""
    check_node(from_nm, f"{quantity} scaling")
    check_node(to_nm, f"{quantity} scaling")
    if from_nm == to_nm:
        return Figure(1.0, 1.0, 1.0, "x", f"no scaling, the source's own node {from_nm:g} nm", Confidence.PUBLISHED)
    inverter = _vs_45(quantity, to_nm) / _vs_45(quantity, from_nm)
    design = (to_nm / from_nm) ** _design_power(quantity)
    bound = ", a lower bound" if to_nm < from_nm else ", an upper bound"
    note = bound + _LEAKAGE_NOTE if quantity is Quantity.LEAKAGE else bound
    return Figure(
        inverter,
        min(inverter, design),
        max(inverter, design),
        "x",
        f"{quantity} {from_nm:g} to {to_nm:g} nm by {_INVERTER_SOURCE}{note}",
        Confidence.ASSUMED,
    ).because(f"node scaling of {quantity} to {to_nm:g} nm")


def scaled(figure: Figure, quantity: Quantity, from_nm: float, to_nm: float) -> Figure:
    """``figure`` moved to another node; untouched where the node is the same."""
    if from_nm == to_nm:
        return figure
    return figure.times(inverter_factor(quantity, from_nm, to_nm), figure.unit)


def check_method(method: Scaling, node_nm: float) -> None:
    """Raise where ``published`` is asked for above the nodes that its two tables span."""
    if method is Scaling.PUBLISHED and not PUBLISHED_NODE_NM <= node_nm <= LARGEST_PUBLISHED_NODE_NM:
        raise DchwError(
            f"scaling method {method!s}: expected {PUBLISHED_NODE_NM} to {LARGEST_PUBLISHED_NODE_NM} nm, between the "
            f"nodes its tables list; got {node_nm:g} nm; use {Scaling.INVERTER!s} there"
        )


@cache
def published_saving() -> float:
    """The 45 to 7 nm energy factor of the published unit that gained least (TPUv4i Table II, 32-bit multiply)."""
    rows = read_table("technology_scaling.csv")
    arithmetic = [row for row in rows if row["method"] == "tpuv4i_reality_check" and "sram" not in row["device"]]
    return max(float(row["energy_factor_vs_45"]) for row in arithmetic)


def _design_power(quantity: Quantity) -> float:
    """Exponent of the node that the far end of the range follows; 0 is no gain."""
    if quantity is Quantity.ENERGY:
        return math.log(published_saving()) / math.log(PUBLISHED_NODE_NM / 45)
    if quantity is Quantity.SRAM_AREA:
        return _BIT_CELL_POWER
    if quantity is Quantity.AREA:
        return 2.0
    return 0.0


@cache
def _curve(quantity: Quantity) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Log node and log factor against 45 nm, ascending."""
    column = _COLUMNS[quantity]
    points = {}
    for row in read_table("technology_scaling.csv"):
        node = float(row["node_nm"])
        if (row["method"] == _TABLE2 and node <= 45) or (row["method"] == _POLYNOMIAL and 45 < node <= MAX_NODE_NM):
            points[math.log(node)] = math.log(float(row[column]))
    nodes = tuple(sorted(points))
    return nodes, tuple(points[node] for node in nodes)


def _vs_45(quantity: Quantity, node_nm: float) -> float:
    nodes, factors = _curve(quantity)
    at = math.log(node_nm)
    right = min(max(bisect_left(nodes, at), 1), len(nodes) - 1)
    share = (at - nodes[right - 1]) / (nodes[right] - nodes[right - 1])
    return math.exp(factors[right - 1] * (1 - share) + factors[right] * share)
