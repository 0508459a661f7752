"""Whole numbers of a machine have upper bounds: a slip of three zeros is one sentence, not hours or a MemoryError."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import dchw
from dchw.quantities import ConfigError


def whole_numbers(data: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from whole_numbers(value, f"{above}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{above}{key}"


PATHS = tuple(whole_numbers(dchw.machine("phone-lpddr5x").dump()))
SIZES = ("dma.request_bytes", "dma.staging_bytes", "weight_sram.size_bytes", "activation_sram.size_bytes")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", [10**9, 2**64])
def test_an_absurd_number_is_refused_by_name(path: str, value: int) -> None:
    with pytest.raises(ConfigError, match=path.rsplit(".", 1)[-1]):
        dchw.machine("phone-lpddr5x").replace(path, value)


@pytest.mark.parametrize("path", [*SIZES, "clock"])
def test_an_absurd_size_is_refused_by_name(path: str) -> None:
    text = "1e18 GHz" if path == "clock" else "1e15 GiB"
    with pytest.raises(ConfigError, match=path.rsplit(".", 1)[-1]):
        dchw.machine("phone-lpddr5x").replace(path, text)


def test_every_unit_is_looked_at() -> None:
    assert {path.split(".")[0] for path in PATHS} >= set(dchw.machine("phone-lpddr5x").units) - {"dram"}
