"""Which part of the package may import which: data flows one way, and slow libraries stay out of the way in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dchw"

# From the ground up; a part may import parts of lower rows only (and itself). Names are modules or packages of dchw.
ROWS = (
    ("quantities",),
    ("config", "tables", "compile", "vocabulary"),
    ("graph", "technology"),
    ("compression", "traces"),
    ("container", "dram"),
    ("architectures", "program"),
    ("importers", "formats"),
    ("machines", "training"),
    ("engines", "mapping"),
    ("lowering",),
    ("costs",),
    ("run",),
    ("reports",),
    ("demo", "validate"),
    ("cli",),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}

# imports inside functions that reach upward on purpose: conveniences on a class or package, resolved when called
CONVENIENCES = {
    ("graph", "importers"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE).with_suffix("")
    return inside.parts[0]


def imports(tree: ast.AST) -> list[tuple[str, bool]]:
    """(part of dchw imported, whether at the top of the module)."""
    found = []
    top = set(ast.walk(ast.Module(body=[n for n in tree.body if not _type_checking(n)], type_ignores=[])))
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in top:
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" if node.module == "dchw" else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found += [(name.split(".")[1], id(node) not in inside) for name in names if name.startswith("dchw.")]
    return found


def _type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def offences(path: Path, source: str) -> list[str]:
    part = part_of(path)
    bad = []
    for other, top in imports(ast.parse(source)):
        if other == part or other not in RANK or part == "__init__":
            continue
        if RANK[other] < RANK[part]:
            continue
        if not top and (part, other) in CONVENIENCES:
            continue
        bad.append(f"{path.relative_to(PACKAGE)} imports dchw.{other}, which lies downstream of it")
    return bad


def test_every_part_has_a_place() -> None:
    parts = {part_of(path) for path in modules()} - {"__init__", "data"}
    assert parts == set(RANK)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_against_the_flow(path: Path) -> None:
    assert offences(path, path.read_text(encoding="utf-8")) == []


def test_an_upward_import_is_caught() -> None:
    path = PACKAGE / "machines" / "units" / "dma.py"
    planted = path.read_text(encoding="utf-8") + "\nfrom dchw.costs import CostReport\n"
    assert offences(path, planted) == ["machines/units/dma.py imports dchw.costs, which lies downstream of it"]


@pytest.mark.parametrize("statement", ["import dchw", "import dchw.cli"])
def test_slow_libraries_wait_until_they_are_needed(statement: str) -> None:
    script = f"{statement}; import sys; print(*sorted({{'torch', 'numba', 'pandas', 'plotly'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
