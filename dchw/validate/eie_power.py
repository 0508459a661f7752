"""Power of EIE's chip as simulated: at the paper's full rate, and in its six layers, module by module.

The published 590 mW are of elements that work an entry a cycle and read a word of 8 entries and a pair of pointers
every 8 cycles. A layer of 512 outputs without a zero does just that. Real columns are shorter: each costs a word, and
often two, and a pair of pointers for fewer entries, so that the memories are read more often per entry.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dchw.machines.machine import machine
from dchw.validate import Check
from dchw.validate.eie_energy import EIE_MODULES_LIMIT, MODULE_EVENTS
from dchw.validate.eie_runs import PUBLISHED_CHIP_MW, EieLayer, WholeRun, eie_layers
from dchw.vocabulary import Event

FULL_RATE = EieLayer(
    name="full rate",
    inputs=1024,
    outputs=512,
    weight_density=1.0,
    activation_density=1.0,
    theoretical_us=0.0,
    actual_us=0.0,
)
"""8 entries of every column on each of 64 elements, all activations non-zero; nothing is published of it but power."""
_ACROSS = (("pe_array", Event.ARRAY_TRANSFER), ("pe_array", Event.BROADCAST_TAKE))


def eie_layers_power(layers: Sequence[EieLayer] | None = None, seed: int = 0) -> Check:
    """Simulated power at full rate against the published chip, and where that of its layers differs from it."""
    named = [FULL_RATE, *(eie_layers() if layers is None else layers)]
    table = pd.DataFrame([_row(layer, seed) for layer in named])
    error = float(table["chip_mw"].iloc[0]) / PUBLISHED_CHIP_MW - 1
    return Check(
        title="EIE's chip as simulated, 45 nm, 800 MHz: power at full rate and in six SYNTHETIC layers",
        table=table,
        limits=f"full rate within {EIE_MODULES_LIMIT:.0%} of the published {PUBLISHED_CHIP_MW} mW",
        passed=abs(error) <= EIE_MODULES_LIMIT,
        notes=(
            f"Full rate {error:+.1%}: the structure is EIE's. Layers draw more because their columns have fewer than "
            "the 8 entries that the published power assumes: an element reads a word and two pointers for every "
            "broadcast column, however few entries it holds.",
            "Words: ceil(n / 8) for a column of n entries, as if each began at a word. EIE's pointers address entries, "
            "so its columns begin anywhere and touch 1 + (n - 1) / 8 words on average: its layers draw more, not less.",
            "broadcast_mw moves activations and sums over the array at Eyeriss' published cost and a tree's wires; "
            "EIE's 64 elements hold their end of it (act_queue), so it is left out of chip_mw here; a run's account "
            "has it.",
            "Columns are entries per element and broadcast column that holds any or none; fillers count.",
        ),
    )


def _row(layer: EieLayer, seed: int) -> dict[str, object]:
    run = WholeRun.of(layer, machine("eie-64pe-45nm"), seed)
    power = dict(run.power_mw())
    broadcast = sum(power.pop(event) for event in _ACROSS)
    modules = {f"{name}_mw": sum(power.get(event, 0.0) for event in events) for name, events in MODULE_EVENTS.items()}
    clocks = sum(mw for (_, event), mw in power.items() if "clock" in event)
    total = sum(power.values())
    macs = run.events("pe_array", Event.MAC)
    return {
        "layer": layer.name,
        "entries_a_column": macs / run.events("pe_array", Event.QUEUE_READ),
        "entries_a_word": macs / run.events("weight_sram", Event.SRAM_READ),
        **modules,
        "clock_mw": clocks,
        "rest_mw": total - clocks - sum(modules.values()),
        "chip_mw": total,
        "broadcast_mw": broadcast,
    }
