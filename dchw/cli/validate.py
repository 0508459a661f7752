"""``dchw validate``: computed against published figures."""

from __future__ import annotations

import importlib
import sys

import click

from dchw.cli.output import print_json, print_table
from dchw.validate import Check

SUBJECTS = ("compression", "dram", "accelerators", "energy")


@click.command()
@click.argument("subject", type=click.Choice(SUBJECTS))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def command(subject: str, as_json: bool) -> None:
    """Compare what this package computes with published figures; exit status 1 if a limit is broken."""
    checks: list[Check] = importlib.import_module(f"dchw.validate.{subject}").run()
    if as_json:
        print_json("validate", {"subject": subject, "checks": [_plain(check) for check in checks]})
    else:
        for check in checks:
            verdict = {None: "for information", True: "holds", False: "BROKEN"}[check.passed]
            print_table(check.title, check.table, (*check.notes, f"limits: {check.limits} - {verdict}", ""))
    if any(check.passed is False for check in checks):
        sys.exit(1)


def _plain(check: Check) -> dict[str, object]:
    return {
        "title": check.title,
        "limits": check.limits,
        "passed": check.passed,
        "notes": list(check.notes),
        "rows": check.table.astype(object).where(check.table.notna(), None).to_dict("records"),
    }
