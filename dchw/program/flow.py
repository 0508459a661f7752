"""What goes through a machine's units while one stage is worked, counted by whoever makes the firings as it makes them.

Units count their events from it (`dchw.machines.units.unit.Unit.counts`); `dchw.run.implied` works the same events out
of the workload and compares.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dchw.vocabulary import Stream


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Symbols of one coded stream that decode units went through."""

    symbols: int
    """In one decode."""
    bits: int
    """Of their code words, in one decode."""
    look_ups: int
    """Look-ups of up to several symbols in one decode; 0 where units look up one at a time."""
    times: int
    """Decodes."""


@dataclass(kw_only=True, eq=False)
class Flow:
    """Items of one stage over all its passes. Words are those of the SRAM concerned, stretches beginning at words."""

    layer: int
    """Index into the program's layers."""
    values: Stream
    """Region of the weights themselves: codes or uncoded weights."""
    entries: int = 0
    """Stored entries, or weights where there are no positions, that reach a multiplier."""
    products: int = 0
    """Products of an entry and a pixel."""
    activation_products: int = 0
    """Products of two activations."""
    queued: int = 0
    """Vectors of activations put into queues in front of processing elements, once for every queue."""
    array_bits: Counter[Stream] = field(default_factory=Counter)
    """Bits of operands that leave for the processing elements: broadcast once, or for the one that works them."""
    taken_bits: int = 0
    """Bits of broadcast activations, once for every element that takes them."""
    outputs: int = 0
    """Sums that elements hand over."""
    vector_values: int = 0
    """Values through the vector unit."""
    codebook_values: int = 0
    """Shared values of the layer's codebook, code 0 included; 0 where there is none to load."""
    decoded: dict[Stream, Decoded] = field(default_factory=dict)
    """By the region the code words lie in."""
    table_symbols: int = 0
    """Symbols written into the tables of all decode units together."""
    requests: Counter[Stream] = field(default_factory=Counter)
    """Requests to the memory."""
    staged: Counter[Stream] = field(default_factory=Counter)
    """Words into, and again out of, the buffer between memory and decode units."""
    weight_reads: Counter[Stream] = field(default_factory=Counter)
    """Words of the weight SRAM."""
    weight_writes: Counter[Stream] = field(default_factory=Counter)
    pointer_reads: int = 0
    """Pointers read out of a memory of their own: where a run begins, and where it ends."""
    activation_reads: Counter[Stream] = field(default_factory=Counter)
    """Words of the activation SRAM."""
    activation_writes: Counter[Stream] = field(default_factory=Counter)
