"""What README and the documentation say can be made again: every section with figures names what makes them or where
they come from, and every command named is one that exists."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dchw.cli import group

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]
_UNITS = (
    r"%|x|times|ms|us|µs|ns|s|min|minutes|hours|[kMG]i?B|B|bytes|[pnuµm]J|mW|W|mm²|mm2|cycles|Msymbol/s|points a second"
)
_FIGURE = re.compile(rf"(?<![\w./-])\d[\d,.]*\s?(?:{_UNITS})(?!\w)")
_ROW = re.compile(r"^ *\|.*\d.*\|", re.M)
_MADE = re.compile(
    r"dchw (?:simulate|compare|inspect|estimate|sweep|report|replay|machines|list|schema|validate|demo|train)\b"
    r"|dchw compress|python (?:-m |docs/)|tests/\w+/\w+\.py|\.ipynb"
    r"|\{(?:command|doctest|drawn|moduledoc|include|literalinclude)\}"
)
"""What makes a figure: a command, a benchmark or test, a notebook, or a directive that runs or reads something."""
_SOURCE = re.compile(r"\b(?:ISSCC|ISCA|MICRO|NIPS|arXiv)\b|\bTable [IVX\d]+|dchw/[\w/-]+\.(?:py|yaml)")
"""Where one comes from that is not made here, or is a constant of the package."""
_PATH = re.compile(r"\b(?:tests|dchw|notebooks|models|traces)/[\w./-]*\w\.(?:py|yaml|ipynb|md|dchw)\b")


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Headings with what stands under them, the head of the page first."""
    parts = re.split(r"^(#{1,4} .*)$", text, flags=re.M)
    yield "", parts[0]
    yield from zip(parts[1::2], parts[2::2], strict=True)


def unfounded(text: str) -> list[str]:
    """Sections that state figures and neither a command nor a source."""
    found = []
    for heading, body in sections(text):
        prose = re.sub(r"```.*?```|`[^`]*`|^ {4}.*$", "", body, flags=re.M | re.S)
        figures = [match.group() for match in _FIGURE.finditer(prose)] + _ROW.findall(prose)
        if figures and not _MADE.search(body) and not _SOURCE.search(body):
            found.append(f"{heading or 'the head'}: {', '.join(figures[:5])}")
    return found


def commands(text: str) -> Iterator[str]:
    """Command lines of dchw and of Python: in code between ticks, indented, and in directives that run them."""
    text = re.sub(r" *\\\n *", " ", text)
    lines = re.findall(r"^(?: {4}|\$ )?((?:\S*/)?(?:dchw|python) .*)$", text, flags=re.M)
    for code in [*lines, *re.findall(r"`((?:dchw|python) [^`]+)`", text)]:
        yield " ".join(code.split()).partition(" #")[0]


def misspelt(line: str) -> str:
    """What a command line names that does not exist; empty where all of it does."""
    words = shlex.split(re.split(r" (?:&&|\||>) ", line)[0])
    if words[0].endswith("python"):
        named = words[2] if words[1] == "-m" else ""
        if named.startswith(("tests.", "dchw")) and importlib.util.find_spec(named) is None:
            return f"no module {named}"
        paths = [word for word in words if _PATH.fullmatch(word) and "FILE" not in word]
        return next((f"no file {path}" for path in paths if not (ROOT / path).exists()), "")
    named = words[1]
    if named.startswith(("-", "|")) or named.isupper():
        return ""
    verb = group.get_command(click.Context(group), named)
    if verb is None:
        return f"no verb {named}"
    known = {option for parameter in verb.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)]
    return next((f"no option {word} of {named}" for word in given if word not in known | {"--help", "-h"}), "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_figures_are_made_by_something_beside_them(page: Path) -> None:
    assert unfounded(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_files_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {line: fault for line in commands(text) if (fault := misspelt(line))} == {}
    assert [path for path in _PATH.findall(text) if "FILE" not in path and not (ROOT / path).exists()] == []


def test_it_can_fail() -> None:
    text = "# A page\n\nIt takes 35 ms.\n\n## Another\n\n| a | 12 |\n\n## Made\n\n`dchw list` prints 12 %.\n"
    assert unfounded(text) == ["# A page: 35 ms", "## Another: | a | 12 |"]
    assert misspelt("dchw compare x --storge huffman") == "no option --storge of compare"
    assert misspelt("dchw compair x") == "no verb compair"
    assert misspelt("python -m tests.nothing") == "no module tests.nothing"
    assert misspelt("python -m pytest tests/none/test_none.py") == "no file tests/none/test_none.py"
    assert list(commands("`dchw list`\n\n    .venv/bin/dchw demo --seed 1  # x\n")) == [
        ".venv/bin/dchw demo --seed 1",
        "dchw list",
    ]
