"""DMA engine: splits streams into requests, keeps a bounded number of them outstanding, feeds double buffers.

    stream -> [one request a cycle] -> memory -> [answers in order] -> SRAM fill

A stream is read in blocks of ``request`` bytes aligned to that size. A block is asked for only when a request may be
outstanding and the destination has room for it (credits, rule T5). Not modelled: descriptor fetches, address
translation, unaligned heads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.config import Positive, Size
from dchw.machines.units.unit import Unit, UnitCosts
from dchw.quantities import ceil_div
from dchw.technology.figure import Figure
from dchw.technology.parts import Parts
from dchw.vocabulary import Event

ADDRESS_BITS = 40
CHANNELS = 3
"""Weights, activations, outputs."""


class Dma(Unit):
    """Parameters of the DMA engine."""

    request_bytes: Size
    """Bytes of one request: a whole number of DRAM bursts, written with its unit (``256 B``)."""
    outstanding: Positive
    """Reads that may wait for their answers."""
    staging_bytes: Size
    """Buffer between DRAM and decode units when weights are decoded while they load."""

    def blocks(self, size_bytes: int) -> int:
        """Requests that fetch ``size_bytes`` from a block-aligned address."""
        return ceil_div(size_bytes, self.request_bytes)

    def block_bursts(self, size_bytes: int, burst_bytes: int) -> npt.NDArray[np.int32]:
        """int32[blocks]: bursts of each request; the last one stops at the last burst that holds data."""
        total = ceil_div(size_bytes, burst_bytes)
        per_request = self.request_bytes // burst_bytes
        out = np.full(self.blocks(size_bytes), per_request, np.int32)
        if out.size:
            out[-1] = total - per_request * (out.size - 1)
        return out

    def costs(self, parts: Parts, *, word_bits: int, staged: bool) -> UnitCosts:
        """Address counters of three channels and, where weights are decoded while they load, the staging buffer.

        A request adds its size to an address and writes the address register.
        """
        adder, register = parts.logic.add(ADDRESS_BITS), parts.logic.register(ADDRESS_BITS)
        channels = parts.structure(
            {"request": adder.energy_pj + register.energy_pj},
            blocks=(adder.times(CHANNELS), register.times(CHANNELS)),
            path=(adder.delay_ns,),
            register_bits=ADDRESS_BITS * CHANNELS,
        )
        energy: dict[Event, Figure] = {Event.DMA_REQUEST: channels.energy_pj["request"]}
        leakage, area = channels.leakage_mw, channels.area_mm2
        if staged:
            buffer = parts.sram(self.staging_bytes, word_bits)
            energy |= {Event.SRAM_READ: buffer.read, Event.SRAM_WRITE: buffer.write}
            leakage, area = leakage + buffer.leakage, area + buffer.area
        return UnitCosts(
            energy_pj=energy, leakage_mw=leakage, area_mm2=area, clock_pj=channels.clock_pj, delay_ns=channels.delay_ns
        )
