"""Loops of units' timing rules that numpy cannot express."""

from __future__ import annotations

from typing import Any

import numpy as np

from dchw.compile import kernel


@kernel
def delivery_cycles(
    style: int, gap_bits: Any, code_bits: Any, weights_covered: Any, chunk_offsets: Any, parameters: Any
) -> Any:
    """Delivery cycle of every entry within its chunk: the rule of `machines.units.huffman_decoder`, by style.

    ``style`` is the index in DecoderStyle; ``parameters`` int64[6]: bits per cycle, window bits, most symbols, weights
    per cycle x 1024, bits of a supply slot, cycles between supply slots.
    """
    serial, window, most, rate, slot_bits, slot_cycles = parameters
    out = np.empty(gap_bits.size, np.int64)
    for c in range(chunk_offsets.size - 1):
        ready = np.int64(-1)  # when the decoder alone would deliver
        late = np.int64(0)  # how much the supply of bits has held it back so far
        bits = np.int64(0)
        weights = np.int64(0)
        gaps = np.int64(0)
        codes = np.int64(0)
        taken = most
        slots_end = np.int64(slot_bits)  # bits that have arrived when the slots so far are over
        arrived = np.int64(0)
        for i in range(chunk_offsets[c], chunk_offsets[c + 1]):
            g = np.int64(gap_bits[i])
            k = np.int64(code_bits[i])
            bits += g + k
            if style == 0:
                ready += max(1, (max(g, k) + serial - 1) // serial)
            elif style == 1:
                ready += 1
            elif style == 2:
                gaps += g
                codes += k
                if taken == most or gaps > window or codes > window:
                    ready += 1
                    taken = np.int64(0)
                    gaps = g
                    codes = k
                taken += 1
            else:
                weights += weights_covered[i]
                ready = (weights * 1024 + rate - 1) // rate - 1
            while bits > slots_end:  # no division: an entry reaches a slot or two further
                slots_end += slot_bits
                arrived += slot_cycles
            late = max(late, arrived - ready)
            out[i] = ready + late
    return out
