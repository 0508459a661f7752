"""The command line: one verb per library call, each verb one module with a click command named ``command``.

Verbs are imported only when called, so that ``dchw --help`` stays fast. Every error a user can cause ends as one
sentence on standard error and exit status 1 (2 for wrong usage).
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from dchw.quantities import DchwError

VERBS = {
    "demo": "Train, compress, simulate before and after, and report: the whole way in one command.",
    "train": "Train a network, or retrain it while it is pruned and shared, after a recipe.",
    "compress": "Compress a network without retraining and write a .dchw file.",
    "inspect": "Where every byte of a .dchw file goes, per layer.",
    "simulate": "Run a compressed network on a machine: cycles, traffic, energy.",
    "compare": "One row per storage format: before and after compression on a machine.",
    "report": "A self-contained HTML report of a comparison.",
    "replay": "Run a trace of DRAM requests through a DRAM standard.",
    "machines": "List the machine presets, or print one.",
    "validate": "Computed against published figures.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return importlib.import_module(f"dchw.cli.{cmd_name}").command  # type: ignore[no-any-return]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS:
            from dchw.quantities import nearest

            raise click.UsageError(f"no verb {args[0]!r}; {nearest(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dchw")
def group() -> None:
    """What a Deep-Compression network costs on mobile-class hardware."""


def main() -> None:
    """Entry point of the ``dchw`` command."""
    try:
        status = group.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("dchw: stopped; what was finished is kept", err=True)
        status = 130
    except DchwError as error:
        click.echo(f"dchw: {error}", err=True)
        status = 1
    except BrokenPipeError:
        sys.stderr.close()
        status = 0
    sys.exit(status if isinstance(status, int) else 0)
