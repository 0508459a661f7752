"""Are networks that others wrote whole, and do they give what torch gives?

With torchvision and transformers installed; `python -m tests.peers.architectures` makes a table of the same.
"""

from __future__ import annotations

import importlib.util

import pytest

from tests.peers.architectures import ARCHITECTURES, measured

OWN = ("U-Net", "LSTM classifier", "LSTM classifier, both directions", "GRU classifier")


@pytest.mark.peers
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_is_whole_and_gives_what_torch_gives(name: str) -> None:
    package = "transformers" if name.startswith("GPT") else "torchvision"
    if name not in OWN and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the package {package}")
    row = measured(name)
    assert row.coverage == "100 %"
    assert row.difference < 2e-5
    assert row.notes <= 3
