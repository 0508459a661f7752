"""The command line: one verb per library call, each verb one module with a click command named ``command``.

Verbs are imported only when called, so that ``dchw --help`` stays fast. Every error a user can cause ends as one
sentence on standard error and exit status 1 (2 for wrong usage).
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from dchw.cli.allocation import keep_freed_memory
from dchw.compiling import compiling, told_of_compiling
from dchw.extras import hint
from dchw.files import told_of_files
from dchw.quantities import DchwError

VERBS = {
    "demo": "Train, compress, simulate before and after, and report: the whole way in one command.",
    "train": "Train a network, or retrain it while it is pruned and shared, after a recipe.",
    "compress": "Compress a network without retraining and write a .dchw file.",
    "inspect": "Where every byte of a .dchw file goes, per layer.",
    "simulate": "Run a compressed network on a machine: cycles, traffic, energy.",
    "compare": "One row per storage format: before and after compression on a machine.",
    "estimate": "Seconds, memory and DRAM bytes of runs, before they run.",
    "sweep": "Run a design-space study, go on with one, or read one.",
    "report": "A self-contained HTML report of a comparison.",
    "replay": "Run a trace of DRAM requests through a DRAM standard.",
    "machines": "List the machine presets, print one, or explain a key.",
    "list": "Every built-in network, machine, recipe, storage format and DRAM standard.",
    "schema": "JSON Schema of a machine, recipe, study or standard, for editors.",
    "validate": "Computed against published figures.",
}
_MODULES = {"list": "names"}
"""Modules of verbs whose own name would hide a built-in one."""


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        found: click.Command = importlib.import_module(f"dchw.cli.{_MODULES.get(cmd_name, cmd_name)}").command
        if not any(option.name == "wide" for option in found.params):
            from dchw.cli.output import common_options

            found.params += common_options()
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS:
            from dchw.quantities import nearest

            raise click.UsageError(f"no verb {args[0]!r}; {nearest(args[0], VERBS)}")
        found = super().resolve_command(ctx, args)
        if found[1] is not None:
            _refuse_repeated(found[1], ctx, found[2])
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def _refuse_repeated(command: click.Command, parent: click.Context, words: list[str]) -> None:
    """An option that takes one value and is given twice is an error: click would take the last and say nothing."""
    with click.Context(command, info_name=command.name, parent=parent) as ctx:
        _, _, given = command.make_parser(ctx).parse_args(list(words))
        for option in given:
            flag = getattr(option, "is_flag", False)
            if isinstance(option, click.Option) and not option.multiple and not flag and given.count(option) > 1:
                raise click.UsageError(
                    f"{option.opts[-1]}: expected one value; got {given.count(option)}; give one", ctx
                )


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dchw")
def group() -> None:
    """What a Deep-Compression network costs on mobile-class hardware."""


class _Compiling:
    """Says that kernels are compiled: a terminal is told how far it has come, a file only that it happens."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, done: int, in_all: int) -> None:
        from dchw.cli.output import quiet

        if quiet():
            return
        text = "dchw: compiling kernels, once; they are kept for later runs"
        if sys.stderr.isatty():
            click.echo(f"\r{text}: {done} of {in_all}", nl=done == in_all, err=True)
        elif not self._said:
            click.echo(text, err=True)
        self._said = True


def main() -> None:
    """Entry point of the ``dchw`` command."""
    on_disk: list[Path] = []
    keep_freed_memory()
    try:
        with told_of_compiling(_Compiling()), told_of_files(on_disk.append):
            status = group.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        kept = ", ".join(dict.fromkeys(map(str, on_disk)))
        click.echo(f"dchw: stopped; {f'written and whole: {kept}' if kept else 'no file was written'}", err=True)
        status = 130
        if compiling():
            # the compiler goes on for seconds, and nobody needs what it makes
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(status)
    except BrokenPipeError:
        # whoever read the output has enough; what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except ModuleNotFoundError as error:
        sentence = hint(error)
        if sentence is None:
            raise
        status = _fail(DchwError(sentence))
    except (DchwError, MemoryError, OSError) as error:
        status = _fail(error)
    sys.exit(status if isinstance(status, int) else 0)


def _memory(error: MemoryError) -> str:
    """How much was needed: what numpy says, else that it was more than there was, beside what was held."""
    if str(error):
        return str(error).rstrip(".")
    try:
        import resource
    except ImportError:  # Windows
        return "more was needed than this process may use"
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    most = f" of the {limit / 2**30:.1f} GiB that it may use" if limit != resource.RLIM_INFINITY else ""
    return f"more was needed beside the {held / 2**30:.1f} GiB that this process held{most}"


def _fail(error: Exception) -> int:
    """One sentence for an error that a user can do something about; its traceback with ``--verbose``."""
    from dchw.cli.output import plain_text, verbose

    if verbose():
        traceback.print_exception(error)
    if isinstance(error, MemoryError):
        sentence = f"not enough memory: {_memory(error)}; lower the batch or the sizes, or use a machine with more"
    elif isinstance(error, OSError):
        sentence = f"{error.filename or 'output'}: {error.strerror or error}; free space or choose another place"
    else:
        sentence = str(error)
    click.echo(f"dchw: {plain_text(sentence)}", err=True)
    return 1
