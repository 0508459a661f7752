"""What a user writes (machines, recipes, standards): frozen pydantic models read from YAML, with errors that help.

A fault names the file, the line, the path of the key, what was expected and the nearest legal key; all faults of a
file are reported at once. ``load(dump(x)) == x`` for every configuration.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from dchw.quantities import ConfigError, format_quantity, nearest, parse_quantity, units_of


def _whole(dimension: str) -> Any:
    def parse(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            raise ValueError(
                f"expected text with a unit, such as {format_quantity(max(value, 1), dimension)!r}; got {value!r}"
            )
        exact = value if isinstance(value, Fraction) else parse_quantity(value, dimension)
        if exact.denominator != 1:
            raise ValueError(f"expected a whole number of base units; got {value!r}")
        return exact.numerator

    return BeforeValidator(parse)


def _text(dimension: str) -> PlainSerializer:
    return PlainSerializer(lambda value: format_quantity(Fraction(value), dimension), return_type=str)


class Written:
    """Marks a quantity that is written as text with its unit, for JSON Schema."""

    def __init__(self, dimension: str) -> None:
        self._dimension = dimension

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        units = units_of(self._dimension)
        return {
            "type": "string",
            "title": f"{self._dimension} with its unit",
            "pattern": rf"^\s*[+-]?\d[\d_]*(\.\d+)?([eE][+-]?\d{{1,2}})?\s*({'|'.join(units)})\s*$",
            "examples": [f"1 {units[-1]}"],
        }


Frequency = Annotated[int, _whole("frequency"), _text("frequency"), Field(gt=0), Written("frequency")]
"""Hertz, written with its unit (``800 MHz``)."""
Size = Annotated[int, _whole("size"), _text("size"), Field(gt=0), Written("size")]
"""Bytes, written with their unit (``64 KiB``)."""
Duration = Annotated[int, _whole("time"), _text("time"), Field(ge=0), Written("time")]
"""Picoseconds, written with their unit (``18 ns``)."""
Bandwidth = Annotated[int, _whole("bandwidth"), _text("bandwidth"), Field(gt=0), Written("bandwidth")]
"""Bytes per second, written with their unit (``24 GB/s``)."""
Positive = Annotated[int, Field(gt=0, strict=True)]
"""A whole number of at least one."""
NonNegative = Annotated[int, Field(ge=0, strict=True)]
"""A whole number of at least zero."""


_LARGEST_YAML = 1 << 20
_MOST_VALUES = 100_000
"""Characters and, aliases written out, values of a YAML file: far beyond any that a person writes."""

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of everything a user writes: frozen, unknown keys forbidden, keys as in YAML."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_alias=True, validate_by_name=True, serialize_by_alias=True
    )

    def __init__(self, /, *values: Any, **data: Any) -> None:
        """From keys in Python; a fault is the sentence that it is in a file. Raises ConfigError with all of them."""
        where = type(self).__name__.lower()
        if values:
            raise ConfigError(f"{where}: expected keys by name; got {len(values)} values without one; write key=value")
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ConfigError("; ".join(_sentences(type(self), error, where, {}))) from None

    # sections inside are validated by the outer one, which knows their path, and not through the method above
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def dump(self) -> dict[str, Any]:
        """Plain values that ``build`` reads back to an equal configuration."""
        return self.model_dump(mode="json", by_alias=True)

    def replace(self, path: str, value: object) -> Self:
        """A copy with one field changed, checked as if read from a file; ``path`` is dotted (``huffman.units``)."""
        return self.replace_all({path: value})

    def replace_all(self, changes: Mapping[str, object]) -> Self:
        """A copy with several fields changed at once, checked only when all of them are in place."""
        data = self.dump()
        for path, value in changes.items():
            *parents, last = path.split(".")
            at = data
            for depth, key in enumerate(parents):
                if not isinstance(at.get(key), dict):
                    raise ConfigError(f"{'.'.join(parents[: depth + 1])}: no such section; {nearest(key, at)}")
                at = at[key]
            if last not in at:
                raise ConfigError(f"{path}: no such key; {nearest(last, at)}")
            at[last] = value
        return build(type(self), data, where=type(self).__name__.lower())


def parse_change(text: str, example: str) -> tuple[str, object]:
    """Key and value of a typed ``KEY=VALUE``, the value in YAML; ``example`` is shown where it is none."""
    key, values = _parse_change(text, example, "{}")
    return key, values


def parse_choices(text: str, example: str) -> tuple[str, list[object]]:
    """Key and values of a typed ``KEY=VALUE,VALUE``, each value in YAML: ``64 KiB``, ``true``, ``[1, 2]``."""
    key, values = _parse_change(text, example, "[{}]")
    assert isinstance(values, list)
    return key, values


def _parse_change(text: str, example: str, form: str) -> tuple[str, object]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, separator, value = (part.strip() for part in text.partition("="))
    try:
        if key and separator and value:
            return key, YAML(typ="safe").load(form.format(value))
    except (YAMLError, ValueError, RecursionError):
        pass
    raise ConfigError(f"change {text!r}: expected KEY=VALUE with a value in YAML; write {example}")


def build(
    kind: type[C], data: Mapping[str, Any], *, where: str, lines: Mapping[tuple[Any, ...], int] | None = None
) -> C:
    """A checked configuration from plain values; every fault at once, as one ConfigError."""
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError("; ".join(_sentences(kind, error, where, lines or {}))) from None


def load_yaml(kind: type[C], path: str | Path) -> C:
    """Read a YAML file into a configuration; duplicate keys and unknown keys are errors with their line."""
    source = Path(path)
    data, lines = read_yaml(source)
    return build(kind, data, where=str(source), lines=lines)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """The plain mapping in a YAML file and the line of every key path."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name a YAML file in UTF-8") from None
    if len(text) > _LARGEST_YAML:
        raise ConfigError(f"{path}: expected at most {_LARGEST_YAML:,} characters; got {len(text):,}; shorten it")
    try:
        tree = YAML(typ="rt").load(io.StringIO(text))
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: expected a mapping of keys to values; got {type(tree).__name__}")
        lines: dict[tuple[Any, ...], int] = {}
        return _plain(tree, (), lines, [_MOST_VALUES]), lines
    except YAMLError as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{path}: sections lie in one another too deep; flatten it") from None
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"{path}: a number cannot be read ({error}); shorten it") from None
    except OverflowError:
        raise ConfigError(
            f"{path}: its aliases stand for more than {_MOST_VALUES:,} values; write out the few that are needed"
        ) from None


def dump_yaml(config: Config, path: str | Path) -> None:
    """Write a configuration so that ``load_yaml`` gives an equal one."""
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    with open(path, "w", encoding="utf-8") as out:
        writer.dump(config.dump(), out)


def _plain(node: Any, path: tuple[Any, ...], lines: dict[tuple[Any, ...], int], left: list[int]) -> Any:
    """Plain values with aliases written out; ``left`` counts down how many more there may be."""
    left[0] -= 1
    if left[0] < 0:
        raise OverflowError
    if isinstance(node, dict):
        for key in node:
            position = getattr(node, "lc", None)
            if position is not None and key in (position.data or {}):
                lines[(*path, key)] = position.data[key][0] + 1
        return {key: _plain(value, (*path, key), lines, left) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value, (*path, i), lines, left) for i, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    for scalar in (int, float, str):
        if isinstance(node, scalar):
            return scalar(node)
    return str(node)


def _sentences(
    kind: type[Config], error: ValidationError, where: str, lines: Mapping[tuple[Any, ...], int]
) -> list[str]:
    out = []
    for fault in error.errors():
        # a part in parentheses is a union's tag, not a key
        location = tuple(part for part in fault["loc"] if not str(part).startswith("("))
        at = f"{where}, line {lines[location]}" if location in lines else where
        path = ".".join(str(part) for part in location) or "(top)"
        if fault["type"] == "extra_forbidden":
            legal = _keys_at(kind, location[:-1])
            out.append(f"{at}: {path}: unknown key; {nearest(str(location[-1]), legal)}")
        elif fault["type"] == "missing":
            out.append(f"{at}: {path}: missing; add it")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            shown = "" if "got" in message or isinstance(fault["input"], dict) else f"; got {fault['input']!r}"
            out.append(f"{at}: {path}: {message[0].lower()}{message[1:]}{shown}")
    return out


def _keys_at(kind: type[Config], path: tuple[Any, ...]) -> list[str]:
    """Legal keys of the section at ``path``, following model fields, unions and mappings."""
    models: list[type[Config]] = [kind]
    for part in path:
        found: list[type[Config]] = []
        for model in models:
            for name, field in model.model_fields.items():
                if part in (name, field.alias):
                    found += models_in(field.annotation)
        # a discriminated union puts its tag into the path: stay on the models already found
        models = found or [m for m in models if m.__name__ != part]
    return sorted({field.alias or name for model in models for name, field in model.model_fields.items()})


def models_in(annotation: Any) -> list[type[Config]]:
    """The configurations that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in models_in(argument)]
