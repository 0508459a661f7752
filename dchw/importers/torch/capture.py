"""Capturing a module with `torch.export`, its batch size left free.

With a symbol for the batch size torch.export takes two to three times as long as with a number. So a number stands in
for it: a prime that no other size is a multiple of. That this is the same is checked, not assumed: the module runs on
tensors without values with two numbers of examples, and every operation must be the same one, with sizes that are equal
or in proportion. A module that does otherwise, one that branches on the number of examples for instance, is exported
with the symbol.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dchw.importers.torch.aten import aliases, changed_by, depends_on_inputs
from dchw.importers.torch.batch import BatchSize, Only, StandIn
from dchw.quantities import DchwError

_STAND_IN, _OTHER = 251, 2
"""Numbers of examples: one odd and prime, one even. A size of 1 would be broadcast."""


def exported(
    name: str, module: nn.Module, examples: tuple[torch.Tensor, ...]
) -> tuple[torch.export.ExportedProgram, BatchSize | None]:
    """The exported program and its batch; None for one that is a symbol of the program."""
    with _quiet():
        if len({example.shape[0] for example in examples}) == 1:
            with contextlib.suppress(Exception):  # whatever went wrong, the fixed batch below says it better
                if _alike(module, examples):
                    repeated = tuple(_repeated(example, _STAND_IN) for example in examples)
                    return _functional(torch.export.export(module, repeated, strict=False)), StandIn(_STAND_IN)
            # torch treats a size of 1 as a constant, so a free batch axis takes two examples
            doubled = tuple(torch.cat([e, e]) if e.shape[0] == 1 else e for e in examples)
            axes = _free_batch(module, len(examples))
            with contextlib.suppress(Exception):
                return _functional(torch.export.export(module, doubled, dynamic_shapes=axes, strict=False)), None
        try:
            program = _functional(torch.export.export(module, examples, strict=False))
        except Exception as error:
            raise DchwError(
                f"module {name}: torch.export could not follow its forward pass on an input of shape "
                f"{tuple(examples[0].shape)} ({first_line(error)}); check the example's shape and remove control flow "
                "that depends on data"
            ) from error
        return program, Only(examples[0].shape[0])


def _free_batch(module: nn.Module, count: int) -> tuple[Any, ...]:
    """What tells torch.export that the first axis of every input is free; ``*inputs`` take theirs as one tuple."""
    each = tuple({0: torch.export.Dim("batch")} for _ in range(count))
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return each
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*each[:named], each[named:])


def _functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without in-place operations that would change values which are read under another name.

    Rewriting a program takes many times as long as exporting it. Where the value that changes is no view and no view
    of it is read later, its new value simply replaces it (`GraphWalk`), and the program can stay as it is.
    """
    place = {node: i for i, node in enumerate(program.graph.nodes)}
    varying = depends_on_inputs(program)
    for node in program.graph.nodes:
        if node not in varying and _base(node).op == "call_function":
            continue  # a constant made in the program: it is computed on the way, with what changes it
        for changed in changed_by(node):
            views = [user for user in changed.users if aliases(user) and place[user] < place[node]]
            read_later = any(place[reader] > place[node] for view in views for reader in view.users)
            if changed.op != "call_function" or aliases(changed) or read_later:
                rewritten: torch.export.ExportedProgram = program.run_decompositions({})
                return rewritten
    return program


def _base(node: fx.Node) -> fx.Node:
    """The node whose memory a chain of views and changes in place goes back to."""
    while node.op == "call_function" and node.args and isinstance(node.args[0], fx.Node):
        if not (aliases(node) or changed_by(node)):
            break
        node = node.args[0]
    return node


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One operation of a forward pass without values."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    """Of what it gives."""
    sizes: tuple[Any, ...]
    """Its arguments that are places and sizes by its schema."""
    others: tuple[Any, ...]
    """Its other arguments that are no tensors."""


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[_Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        declared = {one.name: str(one.type) for one in func._schema.arguments}
        given = dict(zip(declared, args, strict=False)) | (kwargs or {})
        plain: dict[bool, list[Any]] = {True: [], False: []}
        for name, value in given.items():
            sized = "int" in declared[name].lower() or str(func).startswith("aten.arange")
            plain[sized] += [x for x in tree_leaves(value) if not isinstance(x, torch.Tensor)]
        shapes = tuple(tuple(x.shape) for x in tree_leaves(result) if isinstance(x, torch.Tensor))
        call = _Call(name=str(func), shapes=shapes, sizes=tuple(plain[True]), others=tuple(plain[False]))
        self.calls.append(call)
        return result


def _recorded(module: nn.Module, examples: Sequence[torch.Tensor], count: int) -> list[_Call]:
    """The operations of a forward pass of ``count`` examples, computed without values."""
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, _Recorder() as recorder:
        held: dict[str, torch.Tensor] = {name: fake.from_tensor(value) for name, value in _tensors_of(module).items()}
        inputs = tuple(fake.from_tensor(_repeated(example, count)) for example in examples)
        recorder.calls.clear()
        torch.func.functional_call(module, held, inputs)
        calls: list[_Call] = recorder.calls
    return calls


def _tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _repeated(example: torch.Tensor, count: int) -> torch.Tensor:
    """Room for so many examples; nobody looks at their values."""
    return torch.empty((count, *example.shape[1:]), dtype=example.dtype)


def _alike(module: nn.Module, examples: Sequence[torch.Tensor]) -> bool:
    """Whether the module does the same for any number of examples, and the stand-in cannot be taken for anything else.

    Compared are the operations for the stand-in's number and another. Sizes must be equal, and then no multiple of the
    stand-in, or the same multiples of the numbers of examples; all other arguments must be equal.
    """
    known = [size for value in _tensors_of(module).values() for size in value.shape]
    known += [size for example in examples for size in example.shape[1:]]
    if not all(_proportional(size, size) for size in known):
        return False
    many, few = (_recorded(module, examples, count) for count in (_STAND_IN, _OTHER))
    return len(many) == len(few) and all(map(_same_but_sizes, many, few))


def _same_but_sizes(many: _Call, few: _Call) -> bool:
    ranks = [len(shape) for shape in many.shapes] == [len(shape) for shape in few.shapes]
    if (many.name, many.others, ranks) != (few.name, few.others, True) or len(many.sizes) != len(few.sizes):
        return False
    pairs = [*zip(itertools.chain(*many.shapes, many.sizes), itertools.chain(*few.shapes, few.sizes), strict=True)]
    return all(
        a == b if isinstance(a, bool | None) or not isinstance(a, int) else _proportional(a, b) for a, b in pairs
    )


def _proportional(many: int, few: int) -> bool:
    """Whether a size is the same in both, and no multiple of the stand-in, or the same multiple of the examples."""
    parts, rest = divmod(many, _STAND_IN)
    if many == few:
        return many == 0 or rest != 0
    return rest == 0 and few == parts * _OTHER


def first_line(error: Exception) -> str:
    """What an error says first, without its full stop."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".;:") if text else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Export without torch's warnings and log lines, and without the fused attention that hides its operations."""
    fused = torch.backends.mha.get_fastpath_enabled()
    disabled = logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        torch.backends.mha.set_fastpath_enabled(fused)
