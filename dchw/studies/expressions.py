"""Conditions and formulas over named values: ``area_mm2 < 5``, ``4 * huffman.units``. Nothing else is executed.

Names are dotted keys and columns. Allowed are numbers, words in quotes, ``+ - * / // % **``, comparisons (chained as in
mathematics), ``and``, ``or``, ``not``, ``in`` with a list, and ``min``, ``max``, ``abs``. Texts with a unit count with
their number in base units, so that ``weight_sram.size_bytes <= 262144`` compares bytes.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dchw.quantities import ConfigError, parse_magnitude

_LONGEST = 1000
_LARGEST_POWER = 64
_BINARY: dict[type[ast.AST], Callable[[object, object], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.AST], Callable[[object, object], bool]] = {
    ast.Lt: operator.lt,  # type: ignore[dict-item]
    ast.LtE: operator.le,  # type: ignore[dict-item]
    ast.Gt: operator.gt,  # type: ignore[dict-item]
    ast.GtE: operator.ge,  # type: ignore[dict-item]
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda one, many: one in many,  # type: ignore[operator]
    ast.NotIn: lambda one, many: one not in many,  # type: ignore[operator]
}
_UNARY: dict[type[ast.AST], Callable[[object], object]] = {
    ast.USub: operator.neg,  # type: ignore[dict-item]
    ast.UAdd: operator.pos,  # type: ignore[dict-item]
    ast.Not: operator.not_,
}
_FUNCTIONS: dict[str, Callable[..., object]] = {"min": min, "max": max, "abs": abs}


@dataclass(frozen=True)
class Expression:
    """A checked text that has a value once its names have."""

    text: str
    _tree: ast.expr = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.text) > _LONGEST:
            raise ConfigError(f"expression: expected at most {_LONGEST} characters; got {len(self.text)}; shorten it")
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
            _check(tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ConfigError(
                f"expression {self.text!r}: expected arithmetic and comparisons of names and numbers; "
                "write it as area_mm2 < 5"
            ) from None
        object.__setattr__(self, "_tree", tree)

    @cached_property
    def names(self) -> frozenset[str]:
        """The dotted names it asks for."""
        return frozenset(_names(self._tree))

    def value(self, names: Mapping[str, object]) -> object:
        """Its value, given its names' values; raises ConfigError where it has none."""
        try:
            return _value(self._tree, names)
        except (TypeError, ArithmeticError, ValueError) as error:
            raise ConfigError(f"expression {self.text!r}: has no value here ({error}); change it") from None

    def __getstate__(self) -> dict[str, object]:
        return {"text": self.text}

    def __setstate__(self, state: Mapping[str, str]) -> None:
        object.__setattr__(self, "text", state["text"])
        self.__post_init__()


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        parent = _dotted(node.value)
        return None if parent is None else f"{parent}.{node.attr}"
    return None


def _names(node: ast.AST) -> list[str]:
    name = _dotted(node)
    if name is not None:
        return [name]
    inside = node.args if isinstance(node, ast.Call) else list(ast.iter_child_nodes(node))
    return [name for child in inside for name in _names(child)]


def _check(node: ast.AST) -> None:
    """Raises ValueError for anything that is not allowed."""
    if _dotted(node) is not None:
        return
    children: list[ast.AST] = []
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            pass
        case ast.BinOp() if type(node.op) in _BINARY:
            children = [node.left, node.right]
        case ast.UnaryOp() if type(node.op) in _UNARY:
            children = [node.operand]
        case ast.BoolOp():
            children = list(node.values)
        case ast.Compare() if all(type(op) in _COMPARE for op in node.ops):
            children = [node.left, *node.comparators]
        case ast.List() | ast.Tuple():
            children = list(node.elts)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS and node.args:
            children = list(node.args)
        case _:
            raise ValueError(ast.dump(node))
    for child in children:
        _check(child)


def _number(value: object) -> object:
    magnitude = parse_magnitude(value) if isinstance(value, str) else None
    return value if magnitude is None else magnitude


def _value(node: ast.AST, names: Mapping[str, object]) -> object:
    name = _dotted(node)
    if name is not None:
        if name not in names:
            raise ValueError(f"nothing is called {name}")
        return _number(names[name])
    match node:
        case ast.Constant():
            return _number(node.value)
        case ast.BinOp():
            left, right = _value(node.left, names), _value(node.right, names)
            if isinstance(node.op, ast.Pow) and abs(right) > _LARGEST_POWER:  # type: ignore[arg-type]
                raise ValueError(f"a power beyond {_LARGEST_POWER}")
            return _BINARY[type(node.op)](left, right)
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_value(node.operand, names))
        case ast.BoolOp():
            wanted = isinstance(node.op, ast.Or)
            return wanted if any(bool(_value(v, names)) is wanted for v in node.values) else not wanted
        case ast.Compare():
            values = [_value(part, names) for part in (node.left, *node.comparators)]
            return all(_COMPARE[type(op)](values[i], values[i + 1]) for i, op in enumerate(node.ops))
        case ast.List() | ast.Tuple():
            return [_value(part, names) for part in node.elts]
        case ast.Call():
            assert isinstance(node.func, ast.Name)
            return _FUNCTIONS[node.func.id](*(_value(part, names) for part in node.args))
    raise AssertionError(node)
