"""Rooflines of a run: what each layer reaches against the array's peak and what feeds it.

Besides the usual roof, the DRAM's bandwidth, there are three more: weights decoded a cycle, and bytes a cycle out of
the weight and the activation SRAM. Against each a layer has an intensity (useful products per DRAM byte, per decoded
weight, per SRAM byte) and one performance: useful products over its *active cycles*. Those are its own cycles, by which
it moves the end of the run on, or the work of its busiest resource where that is more because it began before its turn;
so no layer can lie above a roof. Useful products are those with a non-zero weight that are worked: columns of zero
activations that sparse weights let the array skip are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dchw.formats import Need
from dchw.machines.machine import Machine
from dchw.machines.units.unit import Unit
from dchw.run.bounds import layer_bounds
from dchw.vocabulary import Stream

if TYPE_CHECKING:
    import pandas as pd

    from dchw.run.sim_result import SimResult


@dataclass(frozen=True, kw_only=True)
class Roof:
    """One limit of a machine."""

    name: str
    unit: str
    """What is counted: the intensity is useful products per one of it."""
    each: str
    """The same in few letters, as it is counted a cycle."""
    title: str
    """The name as a panel's head."""
    per_cycle: float
    """How many of it the machine gives in a cycle, at most."""


def machine_roofs(machine: Machine) -> tuple[Roof, ...]:
    """The slanted roofs of a machine; the flat one is ``pe_array.macs_per_cycle``."""
    weights, activations = machine.weight_sram, machine.activation_sram

    def roof(unit: Unit, per_cycle: float, each: str = "B", counted: str = "") -> Roof:
        of = machine.resource(unit)
        return Roof(name=of.name, title=of.title, unit=counted or f"{of.title} byte", each=each, per_cycle=per_cycle)

    return (
        roof(machine.dram, float(machine.dram.peak_bytes_per_cycle(machine.clock_hz))),
        roof(machine.huffman, machine.huffman.most_per_cycle, "weights", "decoded weight"),
        roof(weights, weights.banks * weights.word_bits / 8),
        roof(activations, activations.banks * activations.word_bits / 8),
    )


def roofs_frame(result: SimResult) -> pd.DataFrame:
    """One row per layer and roof that it uses.

    Columns: ``layer``, ``roof``, ``amount`` (of the roof's unit), ``useful_macs``, ``active_cycles``, ``intensity``
    (useful_macs per amount), ``macs_per_cycle``, and ``attainable``, the least of the roof at that intensity and the
    array's peak, which ``macs_per_cycle`` never exceeds.
    """
    import pandas as pd

    machine = result.workload.machine
    peak = machine.pe_array.macs_per_cycle
    roofs = {roof.name: roof for roof in machine_roofs(machine)}
    rows = []
    for index, bound in enumerate(layer_bounds(result.workload, result.outline, result.timing)):
        works = result.workload.works(bound.layer)
        active = max(float(bound.own_cycles), *bound.work_cycles.values(), 1.0)
        worked = sum(flow.products for flow in result.outline.flows if flow.layer == index)
        useful = min(sum(work.multiplications for work in works), worked)
        for name, amount in _amounts(result, index, bound.layer).items():
            if amount <= 0:
                continue
            reached = useful / active
            rows.append(
                {
                    "layer": bound.layer,
                    "roof": name,
                    "amount": amount,
                    "useful_macs": useful,
                    "active_cycles": active,
                    "intensity": useful / amount,
                    "macs_per_cycle": reached,
                    "attainable": min(float(peak), useful / amount * roofs[name].per_cycle),
                }
            )
    return pd.DataFrame(rows)


def _amounts(result: SimResult, index: int, layer: str) -> dict[str, float]:
    """What a layer takes from each roof, by the roof's name."""
    machine, work = result.workload.machine, result.workload.works(layer)[0]
    flows = [flow for flow in result.outline.flows if flow.layer == index]
    words = sum(flow.activation_reads[Stream.ACTIVATIONS] for flow in flows)
    decoding, weights = machine.resource(machine.huffman).name, machine.resource(machine.weight_sram).name
    amounts = {
        weights: sum(flow.entries for flow in flows) * work.entry_bits / 8,
        machine.resource(machine.activation_sram).name: words * machine.activation_sram.word_bits / 8,
    }
    if work.needs(Need.DECODER):
        decoded = [(stream, one) for flow in flows for stream, one in flow.decoded.items()]
        amounts[decoding] = float(sum(one.symbols * one.times for stream, one in decoded if stream is work.form.values))
        if machine.huffman.at_use:  # coded bits, not the entries they become
            amounts[weights] = sum(one.bits * one.times for _, one in decoded) / 8
    memory = result.timing.memory
    amounts[machine.resource(machine.dram).name] = (
        0.0 if memory is None else float(memory.size_bytes[:, :, index].sum())
    )
    return amounts
