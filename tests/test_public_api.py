"""The public functions: help says what each takes, gives and raises, and its example holds."""

from __future__ import annotations

import doctest
import inspect
import pickle
import re

import pytest

import dchw

VERBS = [name for name in dchw.__all__ if name.islower()]
SECTIONS = ("Parameters", "Returns", "Raises", "Examples")


def section(name: str, doc: str) -> str:
    """Lines of one section of a docstring, empty where there is none."""
    found = re.search(rf"^{name}\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def undocumented(verb: object) -> set[str]:
    """What a verb's docstring lacks: sections, and parameters by name."""
    doc = inspect.getdoc(verb) or ""
    missing = {name for name in SECTIONS if not section(name, doc).strip()}
    named = re.findall(r"^(\w[\w, ]*)$", section("Parameters", doc), re.MULTILINE)
    known = {name.strip() for line in named for name in line.split(",")}
    assert callable(verb)
    return missing | set(inspect.signature(verb).parameters) - known


def test_nothing_but_public_names_is_listed() -> None:
    assert sorted(dir(dchw)) == sorted(dchw.__all__)


@pytest.mark.parametrize("name", VERBS)
def test_verbs_are_functions_that_travel(name: str) -> None:
    verb = getattr(dchw, name)
    assert inspect.isfunction(verb)
    assert pickle.loads(pickle.dumps(verb)) is verb


@pytest.mark.parametrize("name", VERBS)
def test_help_names_every_parameter(name: str) -> None:
    assert undocumented(getattr(dchw, name)) == set()


def test_a_forgotten_parameter_is_seen() -> None:
    def verb(size_bytes: int, depth: int) -> int:
        """Something.

        Parameters
        ----------
        size_bytes
            Bytes.

        Returns
        -------
        int
            More.
        """
        return size_bytes + depth

    assert undocumented(verb) == {"depth", "Raises", "Examples"}


@pytest.mark.parametrize("name", VERBS)
def test_examples_hold(name: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    tests = finder.find(getattr(dchw, name), name, globs={})
    assert sum(len(test.examples) for test in tests) > 0
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        runner.run(test)
    assert runner.summarize().failed == 0
