"""DMA engine: splits streams into requests, keeps a bounded number of them outstanding, feeds double buffers.

    stream -> [one request a cycle] -> memory -> [answers in order] -> SRAM fill

A stream is read in blocks of ``request`` bytes aligned to that size. A block is asked for only when a request may be
outstanding and the destination has room for it (credits, rule T5). Not modelled: descriptor fetches, address
translation, unaligned heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dchw.config import Positive, Size
from dchw.formats import Need
from dchw.machines.units.unit import Count, Direction, Port, Setting, Unit, UnitCosts
from dchw.program.flow import Flow
from dchw.quantities import ceil_div
from dchw.technology.building_blocks import Parts
from dchw.technology.figure import Figure
from dchw.vocabulary import Event

ADDRESS_BITS = 40
CHANNELS = 3
"""Weights, activations, outputs."""


class Dma(Unit):
    """Parameters of the DMA engine."""

    label: ClassVar[str] = "DMA"
    category: ClassVar[str] = "SRAM"
    stage: ClassVar[str] = "fetch"

    request_bytes: Size = Field(le=1 << 20)
    """Bytes of one request: a whole number of DRAM bursts, written with its unit (``256 B``)."""
    outstanding: Positive = Field(le=1 << 16)
    """Reads that may wait for their answers."""
    staging_bytes: Size = Field(le=1 << 30)
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

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Requests to the memory, and results on their way there."""
        return {
            "requests": Port(direction=Direction.OUT, bits=ADDRESS_BITS, copies=CHANNELS),
            "results": Port(direction=Direction.IN, bits=setting.activation_word_bits),
        }

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        """A request per block; words into and out of the staging buffer."""
        for stream, requests in flow.requests.items():
            yield Count(event=Event.DMA_REQUEST, count=requests, stream=stream)
        for stream, words in flow.staged.items():
            yield Count(event=Event.SRAM_WRITE, count=words, stream=stream)
            yield Count(event=Event.SRAM_READ, count=words, stream=stream)

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts:
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
        energy: dict[str, Figure] = {Event.DMA_REQUEST: channels.energy_pj["request"]}
        leakage, area = channels.leakage_mw, channels.area_mm2
        if Need.DECODER in setting.needs and not setting.decode_at_use:
            buffer = parts.sram(self.staging_bytes, setting.weight_word_bits)
            energy |= {Event.SRAM_READ: buffer.read, Event.SRAM_WRITE: buffer.write}
            leakage, area = leakage + buffer.leakage, area + buffer.area
        return UnitCosts(
            energy_pj=energy, leakage_mw=leakage, area_mm2=area, clock_pj=channels.clock_pj, delay_ns=channels.delay_ns
        )
