"""The keys a user may write in a YAML file: what each means, takes and defaults to, and the JSON Schema of a file.

Texts are the docstrings below the fields of a `dchw.config.Config`, read from the source only when someone asks: every
run imports the classes, few need the texts.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any

from dchw.config import Config, models_in
from dchw.quantities import DchwError, nearest

FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "machine": ("dchw.machines.machine", "Machine"),
        "recipe": ("dchw.training.recipe_file", "TrainingRecipe"),
        "study": ("dchw.studies.settings", "StudySettings"),
        "standard": ("dchw.dram.standard", "Standard"),
    }
)
"""Kinds of YAML files, and the configuration each is read into."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a YAML file."""

    path: str
    """Dotted: ``huffman.units``."""
    kind: str
    """What it takes, in words."""
    default: str
    """In YAML; empty where the key must be written."""
    text: str
    """What it means."""
    is_section: bool
    """Whether it holds keys of its own."""


def file_kind(name: str) -> type[Config]:
    """The configuration of a kind of file; raises DchwError for a name that is none of `FILES`."""
    if name not in FILES:
        raise DchwError(f"schema {name!r}: no such kind of file; {nearest(name, FILES)}")
    module, kind = FILES[name]
    found: type[Config] = getattr(import_module(module), kind)
    return found


def keys(kind: type[Config], prefix: str = "") -> Iterator[Key]:
    """Every key of a configuration and of the sections in it, in the order of the fields; a section before its keys."""
    texts = key_texts(kind)
    schema = kind.model_json_schema()
    for name, field in kind.model_fields.items():
        alias = field.alias or name
        sections = models_in(field.annotation)
        yield Key(
            path=prefix + alias,
            kind=_kind_text(schema["properties"][alias], schema.get("$defs", {})),
            default="" if field.is_required() else _default_text(schema["properties"][alias], field.default),
            text=texts[name],
            is_section=bool(sections),
        )
        for section in sections:
            yield from keys(section, f"{prefix}{alias}.")


def explained(kind: type[Config], path: str) -> list[Key]:
    """A key, followed by the keys directly in it where it is a section; raises DchwError for one that is none."""
    found = list(keys(kind))
    paths = [key.path for key in found]
    if path not in paths:
        raise DchwError(f"key {path!r}: no such key; {nearest(path, paths)}")
    depth = path.count(".") + 1
    inside = [key for key in found if key.path.startswith(f"{path}.") and key.path.count(".") == depth]
    return list({key.path: key for key in (found[paths.index(path)], *inside)}.values())


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a kind of file, with the text of every key, for editors that check YAML."""
    kind = file_kind(name)
    schema = kind.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    defs = schema.get("$defs", {})
    for model in _all_models(kind):
        properties = schema if model is kind else defs.get(model.__name__, {})
        for field, text in key_texts(model).items():
            alias = model.model_fields[field].alias or field
            if alias in properties.get("properties", {}):
                properties["properties"][alias]["description"] = text
    return schema


@cache
def key_texts(kind: type[Config]) -> Mapping[str, str]:
    """What each field of a configuration means: the docstring below it, in the class or in one it extends."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, Config) and base is not Config:
            found |= _own_texts(base)
    return MappingProxyType({name: found.get(name, "") for name in kind.model_fields})


def _own_texts(kind: type[Config]) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            texts[field.target.id] = inspect.cleandoc(below.value.value)
    return texts


def _all_models(kind: type[Config]) -> list[type[Config]]:
    found: dict[type[Config], None] = {}
    waiting = [kind]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found[model] = None
            waiting += [inner for field in model.model_fields.values() for inner in models_in(field.annotation)]
    return list(found)


def _default_text(schema: Mapping[str, Any], default: object) -> str:
    if isinstance(default, Config):
        return "as below"
    value = schema.get("default")
    return value if isinstance(value, str) else json.dumps(value)


def _kind_text(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """A JSON Schema of one value in words."""
    if "$ref" in schema:
        return _kind_text(defs[schema["$ref"].rsplit("/", 1)[-1]], defs)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            parts = [_kind_text(part, defs) for part in schema[several]]
            return ", or ".join(dict.fromkeys(parts))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "")
    if isinstance(kind, list):
        return ", or ".join(_kind_text({**schema, "type": one}, defs) for one in kind)
    writer = _KINDS.get(kind)
    return "anything" if writer is None else writer(schema, defs)


def _number(word: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], str]:
    def text(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
        limits = [
            f"{words} {schema[key]:,}"
            for key, words in (
                ("minimum", "at least"),
                ("exclusiveMinimum", "above"),
                ("maximum", "at most"),
                ("exclusiveMaximum", "below"),
            )
            if key in schema and not (key == "exclusiveMinimum" and "minimum" in schema)
        ]
        return ", ".join([word, *limits])

    return text


def _text_kind(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    return schema["title"] + f", such as {schema['examples'][0]}" if "examples" in schema else "text"


def _array(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    return f"list, each {_kind_text(schema.get('items', {}), defs)}"


def _object(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    if "properties" in schema:
        return "section"
    return f"values by name, each {_kind_text(schema.get('additionalProperties', {}), defs)}"


_KINDS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str]] = MappingProxyType(
    {
        "integer": _number("whole number"),
        "number": _number("number"),
        "boolean": lambda schema, defs: "true or false",
        "null": lambda schema, defs: "nothing",
        "string": _text_kind,
        "array": _array,
        "object": _object,
    }
)
