"""What bounds each layer, in words with rates: ``decode: 14.1 of 16 weights a cycle; the DRAM would allow 2.9x``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dchw.machines.units.unit import Resource
from dchw.run.bounds import LATENCY_SHARE, Bound, layer_bounds
from dchw.run.roofs import machine_roofs, roofs_frame

if TYPE_CHECKING:
    import pandas as pd

    from dchw.run.sim_result import SimResult

AS_BUSY = 1.05
"""Below this gain the next resource is called as busy."""


def bounds_frame(result: SimResult) -> pd.DataFrame:
    """One row per layer of a run.

    Columns: ``layer``, ``own_cycles`` (by which it moves the end of the run on), ``bound_by``, ``bound_share`` (of the
    own cycles in which that resource worked), ``reached`` and ``capacity`` per active cycle with their ``unit`` where
    the resource has a roof (`dchw.run.roofs`) or is the array, ``next_bound``, ``headroom`` (what the next resource
    would allow), and ``words``, all of it as a sentence.
    """
    import pandas as pd

    machine = result.workload.machine
    resources = {found.name: found for found in map(machine.resource, machine.units.values())}
    array, broadcast = (machine.resource(unit).name for unit in (machine.pe_array, machine.activation_sram))
    capacities = {roof.name: (roof.per_cycle, roof.each) for roof in machine_roofs(machine)}
    capacities[array] = float(machine.pe_array.macs_per_cycle), "products"
    reached = {}
    for row in roofs_frame(result).to_dict("records"):
        reached[row["layer"], row["roof"]] = row["amount"] / row["active_cycles"]
    rows = []
    for index, bound in enumerate(layer_bounds(result.workload, result.outline, result.timing)):
        products = sum(flow.products for flow in result.outline.flows if flow.layer == index)
        active = max(float(bound.own_cycles), *bound.work_cycles.values(), 1.0)
        reached[bound.layer, array] = products / active
        capacity, unit = capacities.get(bound.resource, (float("nan"), ""))
        if bound.resource == broadcast:  # one vector of lanes a cycle, for each group of channels side by side
            lanes = machine.pe_array.lanes * machine.formats.activations.bits / 8
            capacity = min(capacity, lanes * max(w.side_by_side for w in result.workload.works(bound.layer)))
        rate = reached.get((bound.layer, bound.resource), float("nan")) if unit else float("nan")
        rows.append(
            {
                "layer": bound.layer,
                "own_cycles": bound.own_cycles,
                "bound_by": bound.bound_by,
                "bound_share": bound.share,
                "reached": rate,
                "capacity": capacity,
                "unit": f"{unit} a cycle" if unit else "",
                "next_bound": bound.next_resource,
                "headroom": bound.headroom,
                "words": _words(bound, rate, capacity, unit, resources),
            }
        )
    return pd.DataFrame(rows)


def _words(bound: Bound, reached: float, capacity: float, unit: str, resources: Mapping[str, Resource]) -> str:
    """The sentence of one layer; ``resources`` are the units', and no unit is what else may bind it."""
    known, other = resources.get(bound.resource), resources.get(bound.next_resource)
    share, name = min(bound.share, 1.0), bound.resource if known is None else known.title
    rate = f"{reached:,.3g} of {capacity:,.4g} {unit} a cycle, " if unit and reached == reached else ""
    if bound.share < LATENCY_SHARE:
        return f"latency: even the busiest resource, {name} ({rate}at work {share:.0%} of the time), waits"
    allows = f"the {bound.next_resource}" if other is None else other.allows
    what_if = f"; {allows} would allow {bound.headroom:.1f}x" if bound.headroom < float("inf") else ""
    if bound.headroom < AS_BUSY:
        what_if = f"; {allows} is as busy"
    return f"{name}: {rate}at work {share:.0%} of the time{what_if}"
