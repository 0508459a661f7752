"""What a public function is given, checked against its annotations: one sentence, as for a key of a file.

``@checked`` on a function refuses values of the wrong kind before anything is done; limits and names are checked where
they are known. Annotations that exist only for the type checker are not checked.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from dchw.quantities import DchwError

P = ParamSpec("P")
R = TypeVar("R")

MOST_BATCH = 1 << 16
"""Inputs worked at once, at most: in Python, on the command line and in studies."""

_WORDS: Mapping[object, str] = types.MappingProxyType(
    {int: "a whole number", float: "a number", str: "text", bool: "True or False", Path: "a path", type(None): "None"}
)
_WAYS: Mapping[tuple[str, str], str] = types.MappingProxyType(
    {
        ("CompressedNetwork", "Network"): "compress it first with dchw.compress",
        ("CompressedNetwork", "str"): "read it with dchw.load_network",
        ("CompressedNetwork", "PosixPath"): "read it with dchw.load_network",
        ("CompressedNetwork", "WindowsPath"): "read it with dchw.load_network",
        ("Network", "CompressedNetwork"): "it is compressed already; its decompress() gives a Network",
        ("Network", "str"): "read it with dchw.load_network",
        ("Network", "PosixPath"): "read it with dchw.load_network",
        ("Network", "WindowsPath"): "read it with dchw.load_network",
        ("Recipe", "dict"): "write dchw.Recipe(**values)",
    }
)
"""What to do, by the name of what was expected and of what arrived."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with what it is given checked against its annotations: DchwError for what fits none of them."""
    kinds: dict[str, Any] = {}
    signature = inspect.signature(function)

    @functools.wraps(function)
    def verb(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kinds:
            kinds.update(_kinds(function))
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # Python says itself which argument is missing or unknown
        for name, value in given.items():
            if name in kinds and not fits(value, kinds[name]):
                raise DchwError(f"{function.__name__}: {name}: {_complaint(value, kinds[name])}")
        return function(*args, **kwargs)

    return verb


def check_range(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raise DchwError for a whole number outside its limits, both included."""
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"{least} to {most:,}"
        raise DchwError(f"{name}: expected {limits}; got {shown(value)}; change it")


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of an annotated kind; what an annotation says of elements is not looked at."""
    origin = typing.get_origin(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in typing.get_args(kind))
    if origin is Literal:
        return isinstance(value, str)  # which words are known is said where they are, with the nearest one
    if kind is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    plain = origin or kind
    if not isinstance(plain, type):
        return plain is not Callable or callable(value)
    if getattr(plain, "_is_protocol", False) and not getattr(plain, "_is_runtime_protocol", False):
        return True  # Python cannot tell; whoever uses the value will
    if issubclass(plain, Sequence) and plain is not str and isinstance(value, (str, bytes)):
        return False  # a word is not a list of its letters
    return isinstance(value, plain) if plain is not type(None) else value is None


def shown(value: object) -> str:
    """A value as an error shows it, in a few words."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    return f"the class {name}" if isinstance(value, type) else f"{'an' if name[:1] in 'AEIOaeio' else 'a'} {name}"


def _complaint(value: object, kind: Any) -> str:
    parts = [kind]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = list(typing.get_args(kind))
    literals = [word for part in parts if typing.get_origin(part) is Literal for word in typing.get_args(part)]
    names = [_word(part) for part in parts if typing.get_origin(part) is not Literal]
    words = [*dict.fromkeys(names), *(f"one of {', '.join(map(repr, literals))}" for _ in literals[:1])]
    expected = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    ways = [_WAYS.get((getattr(part, "__name__", ""), type(value).__name__)) for part in parts]
    way = next((text for text in ways if text), f"give {words[0]}")
    return f"expected {expected}; got {shown(value)}; {way}"


def _word(kind: Any) -> str:
    plain = typing.get_origin(kind) or kind
    if plain in _WORDS:
        return _WORDS[plain]
    if isinstance(plain, type):
        if issubclass(plain, Mapping):
            return "a mapping"
        if issubclass(plain, Sequence):
            return "a list"
        return f"{'an' if plain.__name__[:1] in 'AEIO' else 'a'} {plain.__name__}"
    return "a function"


def _kinds(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by parameter, those that can be resolved."""
    known = vars(sys.modules[function.__module__])
    found: dict[str, Any] = {"": None}
    for name, annotation in function.__annotations__.items():
        parameter = inspect.signature(function).parameters.get(name)
        if parameter is None or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        try:
            found[name] = eval(annotation, dict(known)) if isinstance(annotation, str) else annotation
        except NameError:
            continue
    return found
