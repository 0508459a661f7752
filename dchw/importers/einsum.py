"""An einsum of two operands as one product of matrices, with its axes brought into order before and behind.

What it is multiplied with decides: summed with a parameter it is a linear layer, of two values a matrix product. The
readers of torch's ``einsum`` and of ONNX's ``Einsum`` say how an operation is appended; letters are those of an
equation without the axis of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dchw.graph.operations import OperationKind as Kind

S = TypeVar("S")


class Emit(Protocol[S]):
    """Appends an operation, named after the einsum and a suffix, and gives what holds its result."""

    def __call__(self, kind: Kind, sources: Sequence[S], attributes: dict[str, Any], suffix: str) -> S: ...


@dataclass(frozen=True, kw_only=True)
class Equation:
    """The letters of both operands and of the result; every letter but the summed ones is in the result."""

    left: str
    right: str
    out: str

    @property
    def summed(self) -> list[str]:
        """Letters that are summed over, as they come in the left operand."""
        return [letter for letter in self.left if letter in self.right and letter not in self.out]

    @property
    def shared(self) -> list[str]:
        """Letters of both operands that stay, as they come in the left operand."""
        return [letter for letter in self.left if letter in self.right and letter in self.out]

    def turned(self) -> Equation:
        """The same with the operands in the other order, which gives the same values."""
        return Equation(left=self.right, right=self.left, out=self.out)


def equation_of(text: str) -> Equation | None:
    """An equation of two operands; None for another one, for an ellipsis, for a letter that one operand has twice or
    that is summed over in one operand alone. Without an arrow the result has what occurs once, in alphabetical order.
    """
    text = text.replace(" ", "")
    operands, arrow, out = text.partition("->")
    if "." in text or operands.count(",") != 1:
        return None
    left, right = operands.split(",")
    if not arrow:
        out = "".join(sorted(set(left) ^ set(right)))
    found = Equation(left=left, right=right, out=out)
    if any(len(set(letters)) < len(letters) for letters in (left, right, out)):
        return None
    return found if set(left + right) - set(out) == set(found.summed) else None


def agree(letters: Sequence[str], shape: Sequence[int], size: dict[str, int]) -> bool:
    """Note the sizes of axes; False where one is another already (of size 1, it would be repeated)."""
    return len(letters) == len(shape) and all(
        size.setdefault(letter, int(n)) == n for letter, n in zip(letters, shape, strict=True)
    )


def matrix_order(letters: str, summed: Sequence[str]) -> tuple[int, ...]:
    """The axes of a parameter as those of a matrix [out, in]: what is new first, then what is summed over."""
    new = [letter for letter in letters if letter not in summed]
    return tuple(letters.index(letter) for letter in (*new, *summed))


def linear(
    emit: Emit[S],
    layer: Callable[[S], S],
    source: S,
    ours: Sequence[str],
    weight: str,
    summed: Sequence[str],
    out: Sequence[str],
    size: dict[str, int],
) -> S:
    """A linear layer over the summed axes of ``source``, put last; ``layer`` appends it to rows that end in them."""
    rest = [letter for letter in ours if letter not in summed]
    new = [letter for letter in weight if letter not in summed]
    rows = (*_sizes(size, rest), _count(size, summed))
    made = layer(_rearranged(emit, source, ours, [*rest, *summed], size, ".rows", rows))
    held = [*rest, *new]
    if len(new) != 1:
        made = emit(Kind.RESHAPE, [made], {"shape": _sizes(size, held)}, ".split")
    return _rearranged(emit, made, held, out, size, ".out")


def product(
    emit: Emit[S],
    sources: Sequence[S],
    axes: Sequence[Sequence[str]],
    summed: Sequence[str],
    out: Sequence[str],
    size: dict[str, int],
) -> S:
    """A product of matrices, one for every place of the axes that both operands keep."""
    shared = [letter for letter in axes[0] if letter in axes[1] and letter not in summed]
    alone = [[letter for letter in ours if letter not in (*shared, *summed)] for ours in axes]
    made = []
    for source, ours, mine in zip(sources, axes, alone, strict=True):
        matrix = (*_sizes(size, shared), _count(size, mine), _count(size, summed))
        made.append(_rearranged(emit, source, ours, [*shared, *mine, *summed], size, ".operand", matrix))
    result = emit(Kind.MATMUL, made, {"transpose": True}, ".product")
    held = [*shared, *alone[0], *alone[1]]
    if any(len(mine) != 1 for mine in alone):
        result = emit(Kind.RESHAPE, [result], {"shape": _sizes(size, held)}, ".split")
    return _rearranged(emit, result, held, out, size, ".out")


def _sizes(size: dict[str, int], letters: Sequence[str]) -> tuple[int, ...]:
    return tuple(size[letter] for letter in letters)


def _count(size: dict[str, int], letters: Sequence[str]) -> int:
    """Values that axes hold together."""
    return math.prod(_sizes(size, letters))


def _rearranged(
    emit: Emit[S],
    source: S,
    held: Sequence[str],
    wanted: Sequence[str],
    size: dict[str, int],
    suffix: str,
    shape: tuple[int, ...] | None = None,
) -> S:
    """Axes in another order, merged into ``shape`` where that is given."""
    plain = _sizes(size, wanted)
    shape = plain if shape is None else shape
    if list(held) == list(wanted) and shape == plain:
        return source
    permutation = (0, *(held.index(letter) + 1 for letter in wanted))
    return emit(Kind.RESHAPE, [source], {"shape": shape, "permutation": permutation}, suffix)
