"""Printing for every verb: tables for people, versioned JSON for programs, progress bars on terminals only.

A table fits the terminal it is printed on without a number or a name cut short: it is shown as it is where it fits,
else the columns that matter most (``--wide`` shows all), else turned on its side, a quantity a line. What comes from
files is text, never markup, and control characters are shown as escapes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dchw.compiling import told_of_compiling
from dchw.quantities import DchwError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

SCHEMA_VERSION = 1
"""Version of every machine-readable output; raised when a field changes its meaning or goes away."""
_PIPE_WIDTH = 100_000
_LONGEST_WORD = 24
"""Text columns may break between words, and words longer than this anywhere."""


@dataclass
class Settings:
    """What the options that every verb has (``common_options``) ask for."""

    wide: bool = False
    quiet: bool = False
    verbose: bool = False


_settings = Settings()


def common_options() -> list[click.Option]:
    """Options that every verb has."""

    def setting(name: str) -> Any:
        return lambda context, option, value: setattr(_settings, name, bool(value))

    return [
        click.Option(["--wide"], is_flag=True, expose_value=False, callback=setting("wide"), help="Tables whole."),
        click.Option(
            ["--quiet"],
            is_flag=True,
            expose_value=False,
            callback=setting("quiet"),
            help="No progress, and no notes below tables.",
        ),
        click.Option(
            ["--verbose"],
            is_flag=True,
            expose_value=False,
            callback=setting("verbose"),
            help="A traceback where an error ends the command.",
        ),
    ]


def quiet() -> bool:
    """Whether progress is to be kept to ourselves."""
    return _settings.quiet


def verbose() -> bool:
    """Whether an error should show where it came from."""
    return _settings.verbose


def plain_text(value: object) -> str:
    """Text without control characters: each becomes its escape, so that a name from a file cannot steer a terminal."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def print_json(kind: str, content: Mapping[str, Any]) -> None:
    """One JSON object on standard output: ``schema`` (version), ``kind`` (what it is) and the content."""
    whole = {"schema": SCHEMA_VERSION, "kind": kind, **content}
    try:
        text = json.dumps(whole, indent=2, default=_plain, allow_nan=False)
    except ValueError:
        raise DchwError(
            f"{kind}: expected finite figures; got one that no JSON number can hold; use less extreme options"
        ) from None
    click.echo(text)


def print_table(
    title: str,
    frame: pd.DataFrame,
    notes: Iterable[str] = (),
    *,
    main: Sequence[str] = (),
    opening: Iterable[str] = (),
) -> None:
    """A table with a title, numbers right-aligned with thousands separators, notes below.

    ``opening`` are sentences between title and table. ``main`` names the columns that are shown where the whole table
    is too wide for the terminal.
    """
    console = _console()
    cells = _Cells.of(frame)
    left_out = ""
    if console.width < cells.width and not _settings.wide:
        chosen = cells.only(main) if main else cells
        if main and chosen.width <= console.width:
            left_out = f"{len(cells.names) - len(chosen.names)} more columns: --wide shows all, --json every figure."
            cells = chosen
        else:
            cells = cells.on_its_side()
    console.print(_text(title, "bold"), soft_wrap=True)
    for sentence in () if _settings.quiet else opening:
        console.print(_text(sentence, ""))
    width = _PIPE_WIDTH if _settings.wide else console.width
    for block in cells.blocks(width):
        console.print(block.table(width), crop=not _settings.wide, no_wrap=_settings.wide, soft_wrap=_settings.wide)
    if _settings.quiet:
        return
    for note in (*notes, *filter(None, [left_out])):
        console.print(_text(note, "dim"))


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display with remaining time on a terminal; silent in a pipe and with ``--quiet``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    if _settings.quiet or not console.is_terminal:
        # never begun: older versions of rich end even a disabled one with an empty line. Who is told of compiling
        # outside of it goes on being told
        yield Progress(*columns, console=console, disable=True)
        return
    with Progress(*columns, console=console, transient=True) as bar, told_of_compiling(_compiling_task(bar)):
        yield bar


def _compiling_task(bar: Progress) -> Callable[[int, int], None]:
    # beside the bar of a job stands one of the kernels it needs, while any is compiled
    tasks: list[Any] = []

    def told(done: int, in_all: int) -> None:
        if not tasks:
            tasks.append(bar.add_task("compiling kernels, once"))
        bar.update(tasks[0], completed=done, total=in_all, visible=done < in_all)

    return told


def say(bar: Progress, line: str) -> None:
    """A line on standard error as a stage of a job ends, above its bars or without them; none with ``--quiet``."""
    if not _settings.quiet:
        bar.console.print(plain_text(line), markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _text(value: object, style: str = "") -> Any:
    from rich.text import Text

    return Text(plain_text(value), style=style)


@dataclass(frozen=True)
class _Cells:
    """A table as text, column by column."""

    names: list[str]
    columns: list[list[str]]
    breakable: list[bool]
    """Whether a column is text that may be broken between words."""
    sideways: bool = False
    """Whether a line is a quantity, so that all columns but the first are figures, whatever words are among them."""

    @classmethod
    def of(cls, frame: pd.DataFrame) -> _Cells:
        names = [plain_text(str(name).replace("_", " ")) for name in frame.columns]
        columns = [[_cell(value) for value in frame.iloc[:, i]] for i in range(len(names))]
        is_text = [frame.iloc[:, i].dtype.kind in "OUT" and i > 0 for i in range(len(names))]
        return cls(names, columns, is_text)

    def only(self, wanted: Sequence[str]) -> _Cells:
        places = [self.names.index(name) for name in wanted if name in self.names]
        return _Cells(
            [self.names[i] for i in places], [self.columns[i] for i in places], [self.breakable[i] for i in places]
        )

    def on_its_side(self) -> _Cells:
        """A line a quantity, a column a row of the table, under the first column's entries."""
        rows = list(zip(*self.columns, strict=True))
        return _Cells(
            [self.names[0], *(row[0] for row in rows)],
            [self.names[1:], *(list(row[1:]) for row in rows)],
            [False] + [True in self.breakable] * len(rows),
            sideways=True,
        )

    def least(self, index: int) -> int:
        """Characters a column needs so that no number and no word of it is cut."""
        words = [self.columns[index]] if not self.breakable[index] else [c.split() for c in self.columns[index]]
        longest = max((len(word) for line in words for word in line), default=1)
        head = max((len(word) for word in self.names[index].split()), default=1)
        return max(min(longest, _LONGEST_WORD) if self.breakable[index] else longest, head)

    @property
    def width(self) -> int:
        """Characters of a line with borders, at least."""
        return sum(self.least(i) + 3 for i in range(len(self.names))) + 1

    def blocks(self, width: int) -> Iterator[_Cells]:
        """The table in pieces that fit, each with the first column."""
        first = 0 + self.least(0) + 4
        at = 1
        while True:
            used, end = first, at
            while end < len(self.names) and (end == at or used + self.least(end) + 3 <= width):
                used += self.least(end) + 3
                end += 1
            places = [0, *range(at, end)]
            yield _Cells(
                [self.names[i] for i in places],
                [self.columns[i] for i in places],
                [self.breakable[i] for i in places],
                self.sideways,
            )
            at = end
            if at >= len(self.names):
                return

    def widths(self, width: int) -> list[int]:
        """Characters of every column: the least each needs, and as many more of ``width`` as it can use, in order.
        Settled here, for what rich takes from one column it may owe another."""
        found, spare = [self.least(i) for i in range(len(self.names))], width - self.width
        for index, name in enumerate(self.names):
            more = max(0, min(spare, max(len(name), *map(len, self.columns[index])) - found[index]))
            found[index], spare = found[index] + more, spare - more
        return found

    def table(self, width: int) -> Table:
        """What rich prints in ``width`` characters, or in the least the columns need."""
        from rich.table import Table

        made, widths = Table(), self.widths(width)
        for index, name in enumerate(self.names):
            numbers = not self.breakable[index] and all(map(_is_number, self.columns[index]))
            made.add_column(
                _text(name),
                justify="right" if numbers or (index and (self.sideways or not self.breakable[index])) else "left",
                width=widths[index],
                overflow="fold",
            )
        for row in zip(*self.columns, strict=True):
            made.add_row(*map(_text, row))
        return made


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").replace("-", "").replace("e+", "").isdigit()


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        magnitude = abs(value)
        if magnitude >= 1000:
            return f"{value:,.0f}"
        return f"{value:.4g}"
    if isinstance(value, str):
        return plain_text(value)
    try:
        return f"{int(value):,}"
    except (TypeError, ValueError):
        return plain_text(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
