"""Is the simulated EIE the published one at full rate, and do short columns explain what its layers draw beyond it?"""

from __future__ import annotations

import pytest

from dchw.machines.machine import machine
from dchw.validate import eie_power
from dchw.validate.eie_power import eie_layers_power
from dchw.validate.eie_runs import EieLayer


def _layer(density: float, name: str = "short") -> EieLayer:
    return EieLayer(
        name=name,
        inputs=256,
        outputs=512,
        weight_density=density,
        activation_density=1.0,
        theoretical_us=0.0,
        actual_us=0.0,
    )


def test_full_rate_is_the_published_chip_and_short_columns_read_more_per_entry() -> None:
    check = eie_layers_power([_layer(0.5), _layer(0.25)])
    assert check.passed
    table = check.table.set_index("layer")
    assert table["entries_a_column"].iloc[0] == pytest.approx(8)
    assert table["chip_mw"].iloc[0] == pytest.approx(590, rel=0.02)
    assert table["entries_a_word"].is_monotonic_decreasing
    assert table["chip_mw"].is_monotonic_increasing
    # what is not read from memory does not grow: the multipliers have no more to do
    assert table["arithm_unit_mw"].is_monotonic_decreasing
    for _, row in table.iterrows():
        parts = [value for name, value in row.items() if str(name).endswith("_mw")]
        assert sum(parts) - row["chip_mw"] - row["broadcast_mw"] == pytest.approx(row["chip_mw"])


def test_another_structure_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of 16 entries, of which a column holds 8."""
    wider = machine("eie-64pe-45nm").replace("weight_sram.word_bits", 128)
    monkeypatch.setattr(eie_power, "machine", lambda name: wider)
    assert not eie_layers_power([]).passed
