"""Every key a user may write has a text; schemas accept what readers accept, and refuse what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dchw.config import Config, Size, read_yaml
from dchw.keys import FILES, explained, file_kind, json_schema, key_texts, keys
from dchw.quantities import DchwError

ROOT = Path(__file__).parents[1]
SHIPPED = {
    "machine": ("dchw/machines/presets",),
    "recipe": ("dchw/training", "models"),
    "study": ("notebooks/studies",),
    "standard": ("dchw/dram/standards",),
}


def files(kind: str) -> list[Path]:
    return sorted(path for folder in SHIPPED[kind] for path in (ROOT / folder).glob("*.yaml"))


def faults(kind: str, values: dict[str, Any]) -> Iterator[jsonschema.ValidationError]:
    validator: Any = jsonschema.Draft202012Validator(json_schema(kind))
    return validator.iter_errors(values)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", FILES)
def test_every_key_has_a_text(kind: str) -> None:
    assert [key.path for key in keys(file_kind(kind)) if not key.text.strip()] == []


def test_a_missing_text_is_seen() -> None:
    class Bare(Config):
        described: int
        """What it is."""
        bare: Size

    assert dict(key_texts(Bare)) == {"described": "What it is.", "bare": ""}


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind in FILES for path in files(kind)], ids=str)
def test_schemas_accept_what_ships(kind: str, path: Path) -> None:
    values, _ = read_yaml(path)
    if kind == "study":
        values = {"name": path.stem, **values}
    if "extends" in values:  # what a file says only in part is whole once laid over the other
        return
    assert [fault.message for fault in faults(kind, values)] == []


@pytest.mark.parametrize(
    ("change", "seen"),
    [({"clok": "1 GHz"}, True), ({"clock": 800}, True), ({"clock": "800 MHz"}, False), ({"clock": "800 MiB"}, True)],
)
def test_schemas_refuse_what_readers_refuse(change: dict[str, Any], seen: bool) -> None:
    values, _ = read_yaml(files("machine")[0])
    assert bool(list(faults("machine", {**values, **change}))) is seen


def test_a_section_is_explained_with_its_keys() -> None:
    found = explained(file_kind("machine"), "huffman")
    assert found[0].is_section
    assert "huffman.units" in [key.path for key in found]
    assert all(key.path.count(".") == 1 for key in found[1:])


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(DchwError, match=r"did you mean 'huffman\.units'"):
        explained(file_kind("machine"), "huffman.unit")
