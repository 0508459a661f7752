"""One decorator for every numba kernel: cached on disk, integers and no fastmath, importable with an unwritable home.

numba optimises a kernel and makes machine code of it once for itself, and again inside every kernel that calls it, and
inside theirs: a chain of small kernels costs many times its code. Here a kernel that another one calls is a *part*: it
is typed and lowered, and that is all. The kernel that Python calls takes in all parts it reaches, and the whole is
optimised once. What Python calls and what kernels call need no telling apart: a kernel may be both, and is compiled for
each when it is first needed. Parts are not cached (`dchw.kernel_cache`): the wholes are.

Steps of numba's compiler for what no kernel has are left out, and no garbage is looked for while it works. Both show in
a cold start alone, which is most of what a first run costs. A thread of its own compiles, because LLVM, which optimises
the largest kernel for seconds, hears no Ctrl-C: the main thread does, and what is half compiled is not left behind.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any, ClassVar, TypeVar

from numba.core import config
from numba.core import dispatcher as numba_dispatcher
from numba.core import event as numba_event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, Flags
from numba.core.compiler_machinery import PassManager
from numba.core.options import DefaultOptions
from numba.core.registry import CPUDispatcher
from numba.core.sigutils import normalize_signature
from numba.core.typed_passes import (
    AnnotateTypes,
    DumpParforDiagnostics,
    InlineOverloads,
    NopythonRewrites,
    NoPythonSupportedFeatureValidation,
)
from numba.core.types.misc import unliteral
from numba.core.typing import make_concrete_template
from numba.core.untyped_passes import (
    FindLiterallyCalls,
    InlineClosureLikes,
    InlineInlinables,
    LiteralPropagationSubPipelinePass,
    LiteralUnroll,
    MakeFunctionToJitFunction,
    WithLifting,
)

from dchw.compiling import COMPILING, tell
from dchw.kernel_cache import KernelCache, KernelDigest

F = TypeVar("F", bound=Callable[..., Any])


class _Options(Flags):  # type: ignore[misc]
    """numba's options of one compilation. It asks for a copy under which it keeps the helpers that are compiled."""

    def copy(self) -> Flags:
        return _SettledOptions.known.setdefault(self.summary(), _SettledOptions(self))


class _SettledOptions(Flags):  # type: ignore[misc]
    """Options that nobody changes, one object for each set of values: told apart at once, not value by value.

    numba looks helpers up under the options some hundred thousand times while an engine is compiled.
    """

    known: ClassVar[dict[str, _SettledOptions]] = {}
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def copy(self) -> Flags:
        return _Options(self)


class _FunctionCompiler(numba_dispatcher._FunctionCompiler):  # type: ignore[misc,name-defined]
    def _customize_flags(self, flags: Flags) -> Flags:
        return _Options(flags)


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """A kernel's code. numba also runs its passes over functions that are only declared, three in four of all, and
    every pass over each function before the whole is optimised in full: the quick ones make it as small for that."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout
        for function in module.functions:
            if not function.is_declaration:
                passes, builder = self._codegen._function_pass_manager(opt=1)
                passes.run(function, builder)


class _PartLibrary(_Library):
    """A part's code, and that of its own parts, as lowered: the whole that takes it in optimises it."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


_CLOSURES = {InlineClosureLikes, MakeFunctionToJitFunction}
_UNNEEDED = {
    WithLifting,
    InlineInlinables,
    FindLiterallyCalls,
    LiteralUnroll,
    LiteralPropagationSubPipelinePass,
    InlineOverloads,
    NopythonRewrites,
    NoPythonSupportedFeatureValidation,
    AnnotateTypes,
    DumpParforDiagnostics,
}
"""Steps of numba's compiler for what no kernel has: ``with``, marks of numba's own, fused expressions of arrays."""


class _Compiler(Compiler):  # type: ignore[misc]
    """numba's compiler without the steps that kernels do not need."""

    def define_pipelines(self) -> Any:
        closures = any(isinstance(value, CodeType) for value in self.state.func_id.code.co_consts)
        unneeded = _UNNEEDED if closures else _UNNEEDED | _CLOSURES
        kept = []
        for manager in super().define_pipelines():
            steps = PassManager(manager.pipeline_name)
            steps.passes = [step for step in manager.passes if step[0] not in unneeded]
            steps.finalize()
            kept.append(steps)
        if self.state.library is None:
            self.state.library = _Library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
            self.state.library.enable_object_caching()
        return kept


class _PartCompiler(_Compiler):
    """numba's compiler without the steps that make a function callable from Python."""

    def define_pipelines(self) -> Any:
        state = self.state
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_cpython_wrapper = state.flags.no_cfunc_wrapper = state.flags.no_compile = True
        # said here and not as an option: numba keeps its own helpers apart for each set of options
        state.flags.forceinline = state.func_id.func in _INLINED
        return super().define_pipelines()


_INLINED: set[Any] = set()
"""Functions whose code becomes part of every kernel that calls them."""


class _PartKey:
    """Stands for a part where numba looks up what a call calls."""


@contextmanager
def _no_collections() -> Iterator[None]:
    """Have no garbage looked for: numba makes millions of objects that stay, and looking through them takes longer
    than an eighth of all compiling."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            # all that was made joins the oldest objects unseen: it would be looked through at once
            gc.freeze()
            gc.unfreeze()
        gc.enable()


_TURN_SECONDS = 0.1
"""How long is waited for a thread at a time: on Windows no signal ends a wait."""


def _apart(work: Callable[[], Any]) -> Any:
    """What a thread of its own gives or raises, where the main thread asks; it goes on where Ctrl-C ends the wait.

    Whoever ends the process meanwhile waits for it: LLVM cannot be left in the middle of its work.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    made: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:  # raised below, where it belongs
            failed.append(error)

    thread = threading.Thread(target=run, name=COMPILING)
    thread.start()
    while thread.is_alive():
        thread.join(_TURN_SECONDS)
    if failed:
        raise failed[0]
    return made[0]


class Kernel(CPUDispatcher):  # type: ignore[misc]
    """A compiled function; see this module."""

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        super().__init__(function, {}, options)
        self._cache = KernelCache(self)
        self._compiler = _FunctionCompiler(function, self.targetdescr, options, {}, _Compiler)
        self._parts: dict[tuple[Any, ...], Any] = {}
        self._part_compiler = _FunctionCompiler(function, self.targetdescr, options, {}, _PartCompiler)

    def compile(self, sig: Any) -> Any:
        """Make machine code for a signature, or find it in the cache."""
        compile_ = super().compile

        def work() -> Any:
            with _no_collections():
                return compile_(sig)

        return _apart(work)

    @property
    def inlined(self) -> bool:
        """Whether its code becomes part of every kernel that calls it."""
        return self.py_func in _INLINED

    @property
    def lacking(self) -> int:
        """Kernels to be compiled before it can run, itself included, as far as can be told beforehand."""
        reached = KernelDigest()
        reached.of_kernel(self)
        return 1 + sum(not other._parts for other in reached.kernels.values() if other is not self)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What numba asks where a kernel calls this one: the signature of the part for such arguments."""
        pysig, folded = self._compiler.fold_argument_types(args, kws)
        # one part for a constant and a number: what knows that it is constant is the whole's optimiser
        args = tuple(unliteral(arg) for arg in folded)
        name = self.py_func.__name__
        return make_concrete_template(name, key=name, signatures=[self._part(args).signature]), pysig, args, {}

    def get_overload(self, sig: Any) -> Any:
        """What stands for the part of a signature."""
        return self._parts[tuple(normalize_signature(sig)[0])].entry_point

    def _part(self, args: tuple[Any, ...]) -> Any:
        if args not in self._parts:
            details = {"dispatcher": self, "args": args, "return_type": None}
            with self._compiling_counter, numba_event.trigger_event("numba:compile", data=details):
                made = self._part_compiler.compile(args, None)
            part = made._replace(entry_point=_PartKey())
            self.targetctx.insert_user_function(part.entry_point, part.fndesc, [part.library])
            self._parts[args] = part
        return self._parts[args]


class _Teller(numba_event.Listener):  # type: ignore[misc]
    """Tells of kernels compiled, parts and wholes alike, as numba's events come in; numba compiles one at a time."""

    def __init__(self) -> None:
        self._depth = self._done = self._in_all = 0

    def on_start(self, event: Any) -> None:
        if isinstance(event.data["dispatcher"], Kernel):
            if self._depth == 0:
                self._done, self._in_all = 0, event.data["dispatcher"].lacking
                tell(0, self._in_all)
            self._depth += 1

    def on_end(self, event: Any) -> None:
        if isinstance(event.data["dispatcher"], Kernel):
            self._depth -= 1
            self._done = self._in_all if self._depth == 0 else min(self._done + 1, self._in_all - 1)
            tell(self._done, self._in_all)


numba_event.register("numba:compile", _Teller())


def kernel(function: F) -> F:
    """Compile a function with numba (``nopython``, cached, no fastmath); plain Python with NUMBA_DISABLE_JIT=1."""
    return _compiled(function)


def lean_kernel(function: F) -> F:
    """A kernel that makes no arrays, so that it need not count references to those it is given, or passes on."""
    return _compiled(function, lean=True)


def inlined(function: F) -> F:
    """A small ``lean_kernel`` whose code becomes part of every kernel that calls it."""
    _INLINED.add(function)
    return _compiled(function, lean=True)


def _compiled(function: F, *, lean: bool = False) -> F:
    if config.DISABLE_JIT:
        return function
    options = {"nopython": True, "nogil": True, "boundscheck": None, "no_cfunc_wrapper": True}
    # numba's option for this has no public name: where a version lacks it, references are counted, which is slower
    if lean and hasattr(DefaultOptions, "_nrt"):
        options["_nrt"] = False
    return Kernel(function, options)
