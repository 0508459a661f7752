"""``python -m tests.golden.refresh``: measure again, rewrite the tables and print what moved.

The hash of the tiny network in ``test_frozen.py`` is not rewritten: bytes of version 1 stay what they are.
"""

from __future__ import annotations

import click

from tests.golden import frozen


def main() -> None:
    """Rewrite the tables."""
    tables = {
        "runs": {key: row for name in frozen.FILES for key, row in frozen.measure_runs(name).items()},
        "files": frozen.measure_files(),
        "columns": frozen.measure_columns(),
    }
    total = 0
    for table, found in tables.items():
        lines = frozen.moved(frozen.read(table) if (frozen.HERE / f"{table}.csv").exists() else {}, found)
        total += len(lines)
        for line in lines:
            click.echo(f"{table}.csv: {line}")
        if lines:  # energies that differ within the tolerance alone leave a table as it is
            frozen.write(table, found)
    click.echo(f"{total} moved: say why in CHANGES.md under 'Results changed'" if total else "nothing moved")


if __name__ == "__main__":
    main()
