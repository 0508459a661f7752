"""On-chip wires: energy and delay by length, and the clock tree.

No table lists wires, so their constants are assumptions with ranges: capacitance per millimetre hardly moves with the
node (Ho, Mai and Horowitz, Proc. IEEE 2001, as known), the supply is the one of CACTI's high-performance devices.
"""

from __future__ import annotations

import math

from dchw.technology.figure import Confidence, Figure, combine
from dchw.technology.logic import Logic
from dchw.technology.scaling import Quantity, check_node, inverter_factor

WIRES = "wires on the chip: capacitance, data toggling"
"""The cause of their ranges."""
WIRE_PF_PER_MM = (0.2, 0.3, 0.4)
"""Low, nominal, high; 0.2 of the wire itself, the rest its repeaters."""
WIRE_NS_PER_MM = (0.05, 0.10, 0.20)
"""Low, nominal, high delay of a repeated wire."""
TOGGLE_SHARE = (0.25, 0.5, 1.0)
"""Low, nominal, high share of data wires that are charged per transfer: half for random data."""
CLOCK_GROUP_BITS = 16
"""Register bits behind one clock gate."""
STEINER = 0.7124
"""Length of the shortest tour through n random points on area A over sqrt(n A) (Beardwood, Halton, Hammersley)."""

# Supply in volts of CACTI 7's itrs-hp devices.
_VDD = {90: 1.2, 65: 1.1, 45: 1.0, 32: 0.9, 22: 0.8}
_SOURCE = "repeated wire, 0.3 pF/mm (0.2 to 0.4, Ho et al. 2001) at CACTI's itrs-hp supply"


def transfer_energy(bits: float, length_mm: float, node_nm: float) -> Figure:
    """pJ to move one word of ``bits`` over a wire, half of the bits charged (a quarter to all)."""
    low, nominal, high = (c * t for c, t in zip(WIRE_PF_PER_MM, TOGGLE_SHARE, strict=True))
    return _scaled(bits * length_mm, (low, nominal, high), node_nm, f"{_SOURCE}, half of the data wires charged")


def wire_delay(length_mm: float) -> Figure:
    """ns along a repeated wire."""
    low, nominal, high = (length_mm * ns for ns in WIRE_NS_PER_MM)
    source = "repeated wire, 0.1 ns/mm (0.05 to 0.2)"
    return Figure(nominal, low, high, "ns", source, Confidence.ASSUMED).because(WIRES)


def clock_tree(register_bits: float, logic_area_mm2: float, logic: Logic, macros: int = 0) -> Figure:
    """pJ per cycle that no gating saves: the tree down to the clock gates, and the gates themselves.

    One gate, taken as one clocked flip-flop, per 16 register bits, spread over the logic's area; ``macros`` are SRAMs,
    each reached by one more gate. The tree's wire is charged and discharged once per cycle.
    """
    gates = math.ceil(register_bits / CLOCK_GROUP_BITS) + macros
    length_mm = STEINER * math.sqrt(gates * logic_area_mm2)
    wire = _scaled(length_mm, WIRE_PF_PER_MM, logic.node_nm, f"clock tree: {_SOURCE}, one gate per 16 register bits")
    return combine((wire, logic.register(1).energy_pj * gates))


def _scaled(amount: float, per_unit: tuple[float, float, float], node_nm: float, source: str) -> Figure:
    check_node(node_nm, "wires")
    within = max(node_nm, min(_VDD))
    low, nominal, high = (amount * value * _vdd(within) ** 2 for value in per_unit)
    figure = Figure(nominal, low, high, "pJ", source, Confidence.ASSUMED).because(WIRES)
    return figure if within == node_nm else figure.times(inverter_factor(Quantity.ENERGY, within, node_nm), "pJ")


def _vdd(node_nm: float) -> float:
    nodes = sorted(_VDD)
    above = next(node for node in nodes if node >= node_nm)
    below = max(node for node in nodes if node <= node_nm)
    share = 0.0 if above == below else (node_nm - below) / (above - below)
    return _VDD[below] * (1 - share) + _VDD[above] * share
