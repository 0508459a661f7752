"""How often every unit does what: each unit counts its own events from what a program's firings let through.

A filler entry is decoded, looked up and multiplied like any other (its value is zero); a column whose activations are
all zero is neither looked up nor multiplied, but coded bits are decoded from a chunk's start all the same.
DRAM commands are not here: they are counted where they are issued.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dchw.formats import storage_format
from dchw.machines.machine import Machine
from dchw.program.flow import Flow
from dchw.vocabulary import Stream


@dataclass(frozen=True, kw_only=True, slots=True)
class EventCount:
    """So many events of one kind in one unit for one layer; ``stream`` where bytes of one stream cause them."""

    layer: str
    unit: str
    event: str
    """An `Event`, or the name of one that only this unit has."""
    stream: Stream | None
    count: int


def count_events(
    machine: Machine, storage: str, layers: Sequence[str], flows: Iterable[Flow]
) -> tuple[EventCount, ...]:
    """Events of all units on the chip, per layer; ``layers`` and ``flows`` are those of a program."""
    form = storage_format(storage)
    setting = machine.setting(form.needs, form.positions)
    counts: Counter[tuple[str, str, str, Stream | None]] = Counter()
    for flow in flows:
        for name, unit in machine.units.items():
            for counted in unit.counts(flow, setting):
                counts[layers[flow.layer], name, counted.event, counted.stream] += counted.count
    return tuple(
        EventCount(layer=layer, unit=unit, event=event, stream=stream, count=count)
        for (layer, unit, event, stream), count in counts.items()
        if count
    )
