"""Whatever is given to a public function ends in one sentence of ours, or is understood."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import dchw
from dchw.arguments import checked, fits
from dchw.quantities import ConfigError, DchwError, FileFormatError

ROOT = Path(__file__).parents[1]


@cache
def network() -> dchw.Network:
    weight = np.random.default_rng(0).standard_normal((8, 16), dtype=np.float32)
    return dchw.Network.from_arrays("fc", weights={"fc": weight})


@cache
def compressed() -> dchw.CompressedNetwork:
    return dchw.compress(network(), dchw.Recipe(density=0.5))


@cache
def run() -> dchw.SimResult:
    return dchw.simulate(compressed(), "phone-lpddr5x", "shared")


def good() -> Mapping[str, dict[str, Any]]:
    """Arguments with which every verb works."""
    return {
        "simulate": {"network": compressed(), "on": "phone-lpddr5x"},
        "cliff": {"network": compressed(), "on": "phone-lpddr5x", "weight_sram_bytes": [2048, 8192]},
        "compare": {"network": compressed(), "on": "phone-lpddr5x", "storages": ["shared"]},
        "compress": {"network": network()},
        "estimate": {"network": compressed(), "on": "phone-lpddr5x"},
        "load": {"path": ROOT / "models/lenet_5.dchw"},
        "save": {"network": compressed(), "path": "x.dchw"},
        "load_network": {"path": "alexnet"},
        "machine": {"name_or_path": "phone-lpddr5x"},
        "replay": {"trace": "t.txt", "on": "LPDDR5-6400"},
        "report": {"results": run(), "path": "r.html"},
        "sram": {"size_bytes": 32768, "word_bits": 64, "node_nm": 45},
        "study": {"settings": {"networks": "lenet-300-100", "vary": {"huffman.units": [4]}}},
    }


def junk() -> Iterator[Any]:
    yield from (None, -1, 0, 1.5, math.nan, "", "a", "README.md", b"\0\1", [], {}, {"a": 1}, object(), True, 10**30)
    yield from (network(), compressed(), np.zeros(3), int)


VERBS = [*sorted(set(good()) - {"save"}), "save"]


@pytest.mark.parametrize("verb", VERBS)
def test_junk_ends_in_a_sentence(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# no network\n")
    (tmp_path / "t.txt").write_text("LD 0x40\n")
    function = getattr(dchw, verb)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        for value in junk():
            if name.startswith("on_") and callable(value):
                continue  # a function of the caller's, whose errors are the caller's
            with contextlib.suppress(DchwError):
                function(**{**good()[verb], name: value})


def test_every_public_verb_is_tried() -> None:
    assert {name for name in dchw.__all__ if name.islower()} - {"train"} == set(good())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: dchw.Recipe(densty=0.09), "recipe: densty: unknown key; did you mean 'density'?"),
        (lambda: dchw.Recipe(density=9), "recipe: density: input should be less than or equal to 1; got 9"),
        (lambda: dchw.Recipe(0.09), "recipe: expected keys by name; got 1 values without one"),
        (
            lambda: dchw.simulate("x.dchw", "phone-lpddr5x"),
            "simulate: network: expected a CompressedNetwork",
        ),
        (lambda: dchw.simulate(network(), "phone-lpddr5x"), "got a Network; compress it first with dchw.compress"),
        (lambda: dchw.compress("a"), "compress: network: expected a Network; got 'a'; read it with dchw.load_network"),
        (lambda: dchw.compress(compressed()), "it is compressed already"),
        (
            lambda: dchw.compare(compressed(), "phone-lpddr5x", storages="shared"),
            "a list or None; got 'shared'",
        ),
        (lambda: dchw.simulate(compressed(), "phone-lpddr5x", batch=0), "batch: expected 1 to 65,536; got 0"),
        (
            lambda: dchw.cliff(compressed(), "phone-lpddr5x", weight_sram_bytes=[]),
            "cliff: weight_sram_bytes: expected at least one; got none",
        ),
        (lambda: dchw.load(ROOT / "README.md"), "expected a .dchw file; got something else"),
        (lambda: dchw.load(ROOT / "LICENSE"), "read other kinds of networks with dchw.load_network"),
    ],
)
def test_sentences(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(DchwError) as caught:
        call()
    assert sentence in str(caught.value)


def test_kinds_of_errors() -> None:
    with pytest.raises(ConfigError):
        dchw.Recipe(densty=0.09)
    with pytest.raises(FileFormatError):
        dchw.load(ROOT / "README.md")


@pytest.mark.parametrize(
    ("value", "kind", "fitting"),
    [
        (np.int64(3), int, True),
        (True, int, False),
        (3, float, True),
        ("ab", Sequence[str], False),
        (["ab"], Sequence[str], True),
        ("a", Literal["a", "b"], True),
        (5, Literal["a", "b"], False),
        (None, int | None, True),
        (len, Callable[[int], int], True),
        (5, Callable[[int], int], False),
        (object(), Any, True),
    ],
)
def test_what_fits(value: object, kind: Any, fitting: bool) -> None:
    assert fits(value, kind) is fitting


def test_a_missing_argument_is_pythons_own_error() -> None:
    @checked
    def verb(size: int) -> int:
        return size

    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        verb()  # type: ignore[call-arg]
    with pytest.raises(DchwError, match="verb: size: expected a whole number; got 'a'; give a whole number"):
        verb("a")  # type: ignore[arg-type]
