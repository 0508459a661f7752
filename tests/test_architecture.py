"""Which part of the package may import which: data flows one way, and slow libraries stay out of the way in."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dchw"

# From the ground up; a part may import parts of lower rows only (and itself). Names are modules or packages of dchw.
ROWS = (
    ("compiling", "kernel_cache", "quantities"),
    ("arguments", "extras", "late", "showing"),
    ("config", "files", "tables", "compile", "vocabulary"),
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
    ("studies",),
    ("reports",),
    ("demo", "keys", "validate"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = ("dchw", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, str]:
    return {name_of(path): path.read_text(encoding="utf-8") for path in modules()}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(source: str, known: Iterable[str]) -> list[str]:
    """Modules of dchw that are imported, wherever; text that names one counts beside importlib."""
    known = set(known)
    tree = ast.parse(source)
    dynamic = any(
        (isinstance(node, ast.Import) and any(alias.name.startswith("importlib") for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "importlib")
        for node in ast.walk(tree)
    )
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in whole]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif dynamic and isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known:
            names = [node.value]
        found += [name for name in names if name in known and name != "dchw"]
    return found


def offences(module: str, source: str, known: Iterable[str]) -> list[str]:
    part = part_of(module)
    return [
        f"{module} imports {other}, which lies downstream of it"
        for other in imports(source, known)
        if part != "__init__" and part_of(other) != part and RANK[part_of(other)] >= RANK[part]
    ]


def circles(files: Mapping[str, str]) -> list[list[str]]:
    """Groups of modules that reach each other by imports, those for types and inside functions included."""
    graph = {module: set(imports(source, files)) - {module} for module, source in files.items() if module != "dchw"}
    reach: dict[str, set[str]] = {}
    for module in graph:
        seen: set[str] = set()
        waiting = list(graph[module])
        while waiting:
            other = waiting.pop()
            if other not in seen:
                seen.add(other)
                waiting += graph[other]
        reach[module] = seen
    together = {tuple(sorted({m for m in graph if m in reach[one] and one in reach[m]})) for one in graph}
    return sorted(list(group) for group in together if group)


def test_every_part_has_a_place() -> None:
    parts = {part_of(module) for module in sources()} - {"__init__", "data"}
    assert parts == set(RANK)


def test_no_import_against_the_flow() -> None:
    files = sources()
    assert [fault for module, source in files.items() for fault in offences(module, source, files)] == []


def test_no_circles() -> None:
    assert circles(sources()) == []


# Folders whose files are named by contract: after a verb, what is validated, a format or a unit, and alike for every
# framework that networks come from. Elsewhere a module's name says what it holds, and says it once.
FRAMEWORKS = ("importers.onnx", "importers.tflite", "importers.torch")
NAMED_BY_CONTRACT = ("cli", "validate", "formats", "machines.units", *FRAMEWORKS)


def doubled_modules(modules: Iterable[str]) -> list[str]:
    """Names that two modules bear; left out are those named by contract, and a package's main module, named like it."""
    by_name: dict[str, list[str]] = {}
    for module in modules:
        folder, _, name = module.removeprefix("dchw.").rpartition(".")
        if folder not in NAMED_BY_CONTRACT and folder.rpartition(".")[2] != name:
            by_name.setdefault(name, []).append(module)
    return [f"{name}: {', '.join(found)}" for name, found in by_name.items() if len(found) > 1]


def doubled_classes(files: Mapping[str, str]) -> list[str]:
    """Names that two classes bear, private ones and those inside functions too."""
    by_name: dict[str, list[str]] = {}
    for module, source in files.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                by_name.setdefault(node.name, []).append(module)
    return [f"{name}: {', '.join(found)}" for name, found in by_name.items() if len(found) > 1]


def test_a_name_means_one_thing() -> None:
    files = sources()
    assert doubled_modules(files) == []
    assert doubled_classes(files) == []


def test_a_second_meaning_of_a_name_is_caught() -> None:
    files = sources()
    assert doubled_modules([*files, "dchw.costs.records"]) == ["records: dchw.dram.records, dchw.costs.records"]
    files["dchw.costs.rows"] += "\n\nclass Recipe:\n    pass\n"
    assert doubled_classes(files) == ["Recipe: dchw.compression.recipe, dchw.costs.rows"]


@pytest.mark.parametrize(
    "planted",
    [
        "from dchw.costs import CostReport",
        "if TYPE_CHECKING:\n    from dchw.costs import CostReport",
        "def late():\n    from dchw import costs",
        "import importlib\nmodule = importlib.import_module('dchw.costs')",
        "from importlib import import_module\nNAMES = {'report': 'dchw.costs'}",
    ],
)
def test_an_upward_import_is_caught(planted: str) -> None:
    files = sources()
    module = "dchw.machines.units.dma"
    source = f"{files[module]}\n{planted}\n"
    assert offences(module, source, files) == [f"{module} imports dchw.costs, which lies downstream of it"]


@pytest.mark.parametrize(
    "planted",
    [
        "from dchw.importers.onnx.walk import OnnxWalk",
        "if TYPE_CHECKING:\n    from dchw.importers.onnx.walk import OnnxWalk",
        "def late():\n    from dchw.importers.onnx import walk",
    ],
)
def test_a_circle_within_a_package_is_caught(planted: str) -> None:
    files = sources()
    files["dchw.importers.onnx.registry"] += f"\n{planted}\n"
    assert any({"dchw.importers.onnx.registry", "dchw.importers.onnx.walk"} <= set(circle) for circle in circles(files))


@pytest.mark.parametrize("statement", ["import dchw", "import dchw.cli"])
def test_slow_libraries_wait_until_they_are_needed(statement: str) -> None:
    script = f"{statement}; import sys; print(*sorted({{'torch', 'numba', 'pandas', 'plotly'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_picture_of_the_package_is_true() -> None:
    from tests import structure

    assert structure.in_page() == structure.picture(), "draw it again: python -m tests.structure"


def test_a_changed_import_changes_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import structure

    files = {**sources(), "dchw.costs.planted": "from dchw.traces import read_trace"}
    monkeypatch.setattr(structure, "sources", lambda: files)
    assert structure.picture() != structure.in_page()
