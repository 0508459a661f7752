"""Moving operands between a buffer and the elements of an array: a published energy per word, held against its wires.

Chen, Emer and Sze (Eyeriss, ISCA 2016, Table IV) give the cost of a word that moves within an array of processing
elements as twice a 16-bit multiply-accumulate, from a commercial 65 nm process. Here it is twice the silicon's own
16-bit integer multiply-accumulate, so that it scales as arithmetic does, and a sixteenth of it per bit.

That is a way across the array, some millimetres of wire. A broadcast goes it once and passes all elements on a tree:
each that takes the word adds its piece of the tree. Whether every element should be charged the published cost instead,
as the paper's analysis of its own network does, is the high end of the range.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

from dchw.tables import read_table
from dchw.technology.banks import MEAN_PATH
from dchw.technology.building_blocks import Parts
from dchw.technology.figure import SOURCE_JOINT, Confidence, Figure, Move, exact
from dchw.technology.structures import mac
from dchw.technology.wires import STEINER, transfer_energy

WORD_BITS = 16
"""Width of the word and of the multiply-accumulate that the published cost is stated in."""
TRANSFER_CAUSE = "moving operands over the array: a published cost against wires alone"
TAKE_CAUSE = "elements that take a broadcast: a tree of wires against the published cost for each"


def array_transfer(parts: Parts, area_mm2: float) -> Figure:
    """pJ to move one bit between a buffer at the edge of an array of ``area_mm2`` and one of its elements.

    Nominal is the published cost; the range reaches to a wire of the mean way across alone, half of its bits or all
    of them charged.
    """
    published, wire = _published(parts), _wire(parts, MEAN_PATH * math.sqrt(area_mm2))
    low, high = min(published.nominal, wire.nominal), max(published.nominal, wire.high)
    return replace(
        published,
        low=min(published.low, low),
        high=max(published.high, high),
        source=f"{published.source}{SOURCE_JOINT}wires alone at the ends of the range",
        moves=(*published.moves, Move(TRANSFER_CAUSE, low, high)),
    )


def broadcast_take(parts: Parts, elements: int, area_mm2: float) -> Figure:
    """pJ for one bit of a broadcast in one of ``elements`` that takes it: its piece of the shortest tree over all.

    The high end is the published cost of a transfer for every element.
    """
    wire, published = _wire(parts, STEINER * math.sqrt(area_mm2 / elements)), _published(parts)
    high = max(wire.nominal, published.nominal)
    return replace(
        wire,
        high=max(wire.high, published.high),
        source=f"{wire.source}{SOURCE_JOINT}high end: {published.source}",
        moves=(*wire.moves, Move(TAKE_CAUSE, wire.nominal, high)),
    )


def _wire(parts: Parts, length_mm: float) -> Figure:
    return transfer_energy(1, length_mm, parts.logic.node_nm)


@lru_cache(maxsize=64)
def _published(parts: Parts) -> Figure:
    """The published cost of one bit at the node of the parts."""
    row = next(
        row
        for row in read_table("ops_energy.csv")
        if (row["group"], row["operation"]) == ("eyeriss_relative", "inter_pe_noc")
    )
    factor = exact(float(row["value"]) / WORD_BITS, "x", f"{row['source']}, {row['operation']}: {row['value']} MACs")
    one = mac(parts, weight_bits=WORD_BITS, activation_bits=WORD_BITS, accumulator_bits=2 * WORD_BITS)
    return one.energy_pj["mac"].times(factor, "pJ").noted("per bit", Confidence.DERIVED)
