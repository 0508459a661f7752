"""Sizes of a graph's inputs: what the file fixes, what the user gives, and 1 for the batch where nobody says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dchw.quantities import DchwError, nearest

Sizes = tuple[int, ...]
InputShapes = Mapping[str, Sequence[int] | int] | Sequence[int] | int | None
"""Sizes by the name of an input (of a scalar its value), or those of the only input that has any open."""


@dataclass(frozen=True, kw_only=True)
class GraphInput:
    """An input of a graph as its file describes it: sizes, texts where they are symbols, None where nothing is said."""

    name: str
    dtype: int
    sizes: tuple[int | str | None, ...] | None


def graph_inputs(graph: Any) -> list[GraphInput]:
    """The inputs of a graph that are no initialisers."""
    held = {tensor.name for tensor in graph.initializer}
    return [value_of(value) for value in graph.input if value.name not in held]


def value_of(value: Any) -> GraphInput:
    """What a file says of a value."""
    kind = value.type.tensor_type
    sizes = tuple(_size(dim) for dim in kind.shape.dim) if kind.HasField("shape") else None
    return GraphInput(name=value.name, dtype=kind.elem_type, sizes=sizes)


def _size(dim: Any) -> int | str | None:
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    return dim.dim_param or None


def common_batch(inputs: Sequence[GraphInput]) -> int | None:
    """The number of examples that a file fixes for all its inputs; None where that is open, or one."""
    first = {one.sizes[0] for one in inputs if one.sizes}
    size = first.pop() if len(first) == 1 else None
    return size if isinstance(size, int) and size > 1 else None


def resolved(where: str, inputs: Sequence[GraphInput], given: InputShapes) -> dict[str, Sizes | int]:
    """Sizes of every input, or the value of a scalar one; raises DchwError that names all that stay open."""
    wanted = _by_name(where, inputs, given)
    symbols: dict[str, int] = {}
    for one in inputs:
        if one.name in wanted and isinstance(wanted[one.name], tuple):
            _check(where, one, wanted[one.name])
            pairs = zip(one.sizes or (), wanted[one.name], strict=False)  # type: ignore[arg-type]
            symbols |= {symbol: size for symbol, size in pairs if isinstance(symbol, str)}
    for one in inputs:
        if one.sizes and isinstance(one.sizes[0], str):
            symbols.setdefault(one.sizes[0], 1)  # the batch
    out: dict[str, Sizes | int] = {}
    still: list[str] = []
    for one in inputs:
        if one.name in wanted:
            out[one.name] = wanted[one.name]
            continue
        sizes = [symbols.get(size) if isinstance(size, str) else size for size in one.sizes or ()]
        if sizes and one.sizes and one.sizes[0] is None:
            sizes[0] = 1
        if one.sizes is None or None in sizes:
            still.append(one.name)
        out[one.name] = tuple(size or 1 for size in sizes)
    if still:
        raise DchwError(_open(where, [one for one in inputs if one.name in still]))
    return out


def _by_name(where: str, inputs: Sequence[GraphInput], given: InputShapes) -> dict[str, Sizes | int]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        open_ones = [one for one in inputs if one.sizes is None or not all(isinstance(x, int) for x in one.sizes)]
        candidates = open_ones if len(open_ones) == 1 else list(inputs)
        if len(candidates) != 1:
            names = ", ".join(repr(one.name) for one in inputs)
            raise DchwError(f"{where}: it has the inputs {names}; got sizes without a name; say whose they are")
        given = {candidates[0].name: given}
    known = [one.name for one in inputs]
    for name in given:
        if name not in known:
            raise DchwError(f"{where}: {name!r} is not one of its inputs; {nearest(name, known)}")
    scalars = {one.name for one in inputs if one.sizes == ()}
    out: dict[str, Sizes | int] = {}
    for name, sizes in given.items():
        try:
            listed = [sizes] if isinstance(sizes, int) else list(sizes)
            whole = tuple(int(size) for size in listed)
        except (TypeError, ValueError) as error:
            raise DchwError(f"{where}: sizes of input {name!r} must be whole numbers; got {sizes!r}") from error
        out[name] = whole[0] if name in scalars and len(whole) == 1 else whole
    return out


def _check(where: str, one: GraphInput, sizes: Any) -> None:
    if min(sizes, default=1) < 1:
        raise DchwError(f"{where}: sizes of input {one.name!r} must be at least 1; got {_text(sizes)}; correct them")
    fits = one.sizes is None or (
        len(one.sizes) == len(sizes)
        and all(not isinstance(known, int) or known == size for known, size in zip(one.sizes, sizes, strict=True))
    )
    if not fits:
        raise DchwError(
            f"{where}: input {one.name!r} is {_text(one.sizes or ()) or 'a scalar'} in the file; "
            f"got {_text(sizes)}; give sizes for what is open in it"
        )


def _open(where: str, inputs: Sequence[GraphInput]) -> str:
    shown = " and ".join(f"{one.name!r} ({'rank open' if one.sizes is None else _text(one.sizes)})" for one in inputs)
    example = " ".join(f"--input {one.name}={_example(one)}" for one in inputs)
    return (
        f"{where}: the file leaves sizes of input {shown} open; give them, for instance {example}, "
        "or input_shape={NAME: SIZES} in load_network"
    )


def _example(one: GraphInput) -> str:
    sizes = one.sizes or (None, 3, None, None)
    usual = {4: (1, 3, 224, 224), 3: (1, 1, 64), 2: (1, 64)}.get(len(sizes), (1,) * len(sizes))
    return "x".join(str(size if isinstance(size, int) else usual[i]) for i, size in enumerate(sizes))


def _text(sizes: Sequence[int | str | None]) -> str:
    return "x".join(str(size) if isinstance(size, int) else "?" for size in sizes)
