"""One way in: every suffix and name reaches its reader."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import dchw
from dchw.importers.load import _READERS
from dchw.quantities import DchwError


def test_every_reader_exists() -> None:
    for module, function in _READERS.values():
        assert callable(getattr(importlib.import_module(module), function))


def test_safetensors_to_dchw_and_back(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    save_file({"fc.weight": weight, "fc.bias": np.ones(20, np.float32)}, tmp_path / "net.safetensors")
    network = dchw.load_network(tmp_path / "net.safetensors")
    assert isinstance(network, dchw.Network)
    packed = dchw.compress(network, dchw.Recipe(density=0.2))
    dchw.save(packed, tmp_path / "net.dchw")
    loaded = dchw.load_network(tmp_path / "net.dchw")
    assert isinstance(loaded, dchw.CompressedNetwork)
    before, after = packed.decompress().layers[0], loaded.decompress().layers[0]
    assert np.array_equal(before.weight, after.weight)
    assert before.bias is not None
    assert after.bias is not None
    assert np.array_equal(before.bias, after.bias)
    assert before.parameter == after.parameter == "fc.weight"


def test_built_in_geometry() -> None:
    network = dchw.load_network("alexnet")
    assert isinstance(network, dchw.Network)
    assert sum(layer.geometry.macs for layer in network.layers) == 724_406_816


def test_unknown_suffix() -> None:
    with pytest.raises(DchwError, match=r"^net.h5: expected a file ending in .*; got .h5; convert it$"):
        dchw.load_network("net.h5")


def test_public_names_are_lazy_and_complete() -> None:
    assert set(dchw.__all__) <= set(dir(dchw))
    for name in dchw.__all__:
        assert getattr(dchw, name) is not None
    with pytest.raises(AttributeError, match="module 'dchw' has no attribute 'nothing'"):
        _ = dchw.nothing  # type: ignore[attr-defined]
