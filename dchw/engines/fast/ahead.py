"""Lists brought into a processor's cache before they are needed.

A fork's kernels read the lists of all its targets in turn, a few numbers each: hundreds of places that move on side by
side, more than a processor finds out by itself. It changes no result, and in plain Python it does nothing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from dchw.engines.fast.program_tables import Ints32


def fetch(lists: Ints32, at: int) -> None:
    """Have ``lists[at]``, which need not exist, brought nearer."""


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_: Any, lists: Any, at: Any) -> Any:
    """LLVM's instruction of this name, ``llvm.prefetch``."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), cgutils.voidptr_t)
        number = ir.IntType(32)
        to_read, into_all_caches, as_data = (ir.Constant(number, value) for value in (0, 3, 1))
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch")
        builder.call(instruction, [place, to_read, into_all_caches, as_data])
        return context.get_dummy_value()

    return types.void(lists, types.int64), build


@overload(fetch)
def _fetch(lists, at):  # type: ignore[no-untyped-def]
    return lambda lists, at: _prefetch(lists, at)
