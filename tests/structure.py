"""The picture of the package in CONTRIBUTING.md: parts from the top of the flow down, and what each imports.

``python -m tests.structure`` draws it again; `tests/test_architecture.py` compares it with the imports.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.test_architecture import PACKAGE, ROWS, imports, part_of, sources

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
BEGIN, END = "<!-- structure: begin -->\n", "<!-- structure: end -->\n"
_WIDTH = 14


def picture() -> str:
    """One block of text: a rule between rows of the flow, a line a part."""
    files = sources()
    uses: dict[str, set[str]] = {}
    for module, source in files.items():
        uses.setdefault(part_of(module), set()).update(part_of(other) for other in imports(source, files))
    lines = []
    for row in reversed(ROWS):
        lines.append("-" * 100)
        for part in row:
            below = sorted(uses[part] - {part})
            lines.append(f"{part:<{_WIDTH}} {_sentence(part)}")
            if below:
                lines.append(f"{'':<{_WIDTH}} <- {', '.join(below)}")
    return "```text\n" + "\n".join([*lines, "-" * 100]) + "\n```\n"


def _sentence(part: str) -> str:
    """The first sentence of a part's docstring."""
    path = PACKAGE / part / "__init__.py" if (PACKAGE / part).is_dir() else PACKAGE / f"{part}.py"
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(doc.split("\n\n")[0].split())


def in_page() -> str:
    """The picture as the page has it."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(BEGIN + in_page() + END, BEGIN + picture() + END), encoding="utf-8")
