"""A buffer of several equal banks behind one port: macros, the wires to them, the multiplexer that joins them."""

from __future__ import annotations

import math
from dataclasses import replace

from dchw.quantities import DchwError
from dchw.technology.figure import combine
from dchw.technology.logic import Logic
from dchw.technology.sram import SramMacro
from dchw.technology.wires import transfer_energy, wire_delay

MEAN_PATH = 0.75
"""Mean way from the middle of an edge of a square to a point in it, in sides: half a side in, a quarter across."""
LONGEST_PATH = 1.5
"""The same to the far corner."""


def banked(macro: SramMacro, banks: int) -> SramMacro:
    """``banks`` copies of ``macro`` in a square, one access to one bank at a time; 1 bank is the macro itself.

    An access adds its word and address on a wire of the mean path, and a read the multiplexer over the banks; access
    time adds the longest path and the multiplexer, cycle time is the macro's. Wires run above the macros and take no
    area.
    """
    if banks < 1:
        raise DchwError(f"banked sram: banks: expected at least 1; got {banks}; give the number of equal macros")
    if banks == 1:
        return macro
    side_mm = math.sqrt(macro.area_mm2 * banks)
    mux = Logic(node_nm=macro.node_nm).mux(banks, macro.word_bits)
    assert mux.area_mm2 is not None
    assert mux.leakage_mw is not None
    assert mux.delay_ns is not None
    address_bits = max(1, (macro.words * banks - 1).bit_length())
    wires = transfer_energy(macro.word_bits + address_bits, MEAN_PATH * side_mm, macro.node_nm)
    return replace(
        macro,
        size_bytes=macro.size_bytes * banks,
        read=combine((macro.read, wires, mux.energy_pj)),
        write=combine((macro.write, wires)),
        leakage=combine((macro.leakage * banks, mux.leakage_mw)),
        access=combine((macro.access, wire_delay(LONGEST_PATH * side_mm), mux.delay_ns)),
        area=combine((macro.area * banks, mux.area_mm2)),
    )
