"""Moving operands between a buffer and the elements of an array: a published energy per word, held against its wires.

Chen, Emer and Sze (Eyeriss, ISCA 2016, Table IV) give the cost of a word that moves within an array of processing
elements as twice a 16-bit multiply-accumulate, from a commercial 65 nm process. Here it is twice the silicon's own
16-bit integer multiply-accumulate, so that it scales as arithmetic does, and a sixteenth of it per bit.
"""

from __future__ import annotations

import math
from dataclasses import replace

from dchw.tables import read_table
from dchw.technology.banks import MEAN_PATH
from dchw.technology.building_blocks import Parts
from dchw.technology.figure import SOURCE_JOINT, Confidence, Figure, Move, exact
from dchw.technology.structures import mac
from dchw.technology.wires import STEINER, transfer_energy

WORD_BITS = 16
"""Width of the word and of the multiply-accumulate that the published cost is stated in."""
CAUSE = "moving operands over the array: a published cost against wires alone"


def array_transfer(parts: Parts, *, elements: int, area_mm2: float) -> Figure:
    """pJ to move one bit between a buffer at the edge of an array and one of its elements.

    Nominal is the published cost. Low is the wire alone that one more element adds to a tree over all of them (what a
    broadcast drives), high the larger of the published cost and a wire of its own right across, every line charged.

    Parameters
    ----------
    parts
        Logic of the array: its 16-bit multiply-accumulate and its node.
    elements
        Processing elements, at least 1.
    area_mm2
        Of the whole array, which sets the length of its wires.
    """
    row = next(
        row
        for row in read_table("ops_energy.csv")
        if (row["group"], row["operation"]) == ("eyeriss_relative", "inter_pe_noc")
    )
    factor = exact(float(row["value"]) / WORD_BITS, "x", f"{row['source']}, {row['operation']}: {row['value']} MACs")
    one = mac(parts, weight_bits=WORD_BITS, activation_bits=WORD_BITS, accumulator_bits=2 * WORD_BITS)
    published = one.energy_pj["mac"].times(factor, "pJ").noted("per bit", Confidence.DERIVED)
    node = parts.logic.node_nm
    tree = transfer_energy(1, STEINER * math.sqrt(area_mm2 / elements), node)
    across = transfer_energy(1, MEAN_PATH * math.sqrt(area_mm2), node)
    low, high = min(published.nominal, tree.nominal), max(published.nominal, across.high)
    return replace(
        published,
        low=min(published.low, low),
        high=max(published.high, high),
        source=f"{published.source}{SOURCE_JOINT}wires alone at the ends of the range",
        moves=(*published.moves, Move(CAUSE, low, high)),
    )
