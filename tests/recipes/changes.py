"""The recipes of CONTRIBUTING.md as changes of files: what somebody who follows the page adds, and nothing else.

Keys of `RECIPES` are the first column of the page's table. `apply` makes a recipe's changes in a copy of the package.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.machines import test_added_unit

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "CONTRIBUTING.md"

Change = Callable[[str], str]
"""From a file's text, empty for a new one, to what it becomes."""


def new(text: str) -> Change:
    """A file that was not there."""

    def change(old: str) -> str:
        assert old == ""
        return text

    return change


def before(line: str, text: str) -> Change:
    """Text in front of a line, which stands once in the file."""

    def change(old: str) -> str:
        assert old.count(line) == 1, line
        return old.replace(line, text + line)

    return change


def both(*changes: Change) -> Change:
    """One change after another."""

    def change(old: str) -> str:
        for one in changes:
            old = one(old)
        return old

    return change


def shipped(path: str, *replaced: tuple[str, str]) -> str:
    """A file of the package to start from, with other words in some places."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for old, words in replaced:
        assert old in text, old
        text = text.replace(old, words)
    return text


FORMAT = shipped(
    "dchw/formats/palette.py",
    ('name="palette"', 'name="palette-bytes"'),
    ("layer.representation.codebook_bits", "8 * ceil_div(layer.representation.codebook_bits, 8)"),
    ("from dchw.vocabulary", "from dchw.quantities import ceil_div\nfrom dchw.vocabulary"),
)

UNIT = f'''"""A checksum of the codes between decoding and the codebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from dchw.config import Positive
from dchw.formats import Need
from dchw.machines.units.pe_array import PeArray
from dchw.machines.units.unit import Count, Direction, Port, Setting, Unit, UnitCosts
from dchw.program.flow import Flow
from dchw.technology.building_blocks import Parts


{inspect.getsource(test_added_unit.Checksum)}'''

STANDARD = """# LPDDR5 at a lower rate, its clocks as they are at 6400 MT/s.
extends: LPDDR5-6400
name: LPDDR5-4000
sources:
  lower: "the clocks of LPDDR5-6400, kept at 4000 MT/s"
clock: {period: 2 ns, data_rate: 4000 MT/s, source: lower}
"""

OPERATOR = """@rule("Celu")
def _celu(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    if a.get("alpha", 1.0) != 1.0:
        return None
    return function(graph, node, graph.operation(node.input[0]), "elu")


"""

PRESET = shipped(
    "dchw/machines/presets/phone-lpddr5x.yaml",
    ("name: phone-lpddr5x", "name: phone-one-channel"),
    ("channels: 4", "channels: 1"),
)

TABLE = """def _entries(results: Mapping[str, SimResult]) -> pd.DataFrame:
    layers = _stacked({name: result.layers_frame() for name, result in results.items()})
    return layers.groupby("storage", sort=False)[["entries", "fillers"]].sum().reset_index()


"""

SECTION = """<h2>8. Entries</h2>
<ul>{% for row in entries %}<li>{{ row.storage }}: {{ row.entries }}</li>{% endfor %}</ul>

"""

RECIPES: Mapping[str, Mapping[str, Change]] = {
    "a storage format": {
        "dchw/formats/palette_bytes.py": new(FORMAT),
        "dchw/formats/__init__.py": both(
            before("from dchw.formats.packing.kept import", "from dchw.formats import palette_bytes\n"),
            before("        palette.FORMAT,\n", "        palette_bytes.FORMAT,\n"),
        ),
    },
    "a unit": {
        "dchw/machines/units/checksum.py": new(UNIT),
        "dchw/machines/machine.py": both(
            before("from dchw.machines.units.codebook import", "from dchw.machines.units.checksum import Checksum\n"),
            before("    pe_array: PeArray\n", "    checksum: Checksum = Checksum()\n"),
        ),
    },
    "a DRAM standard": {"dchw/dram/standards/lpddr5-4000.yaml": new(STANDARD)},
    "an ONNX or torch operator": {
        "dchw/importers/onnx/arithmetic_rules.py": before('@rule("Selu")\n', OPERATOR),
    },
    "a machine preset": {"dchw/machines/presets/phone-one-channel.yaml": new(PRESET)},
    "a report section": {
        "dchw/reports/report_tables.py": both(
            before("    sources: pd.DataFrame\n", '    entries: pd.DataFrame\n    """Stored entries."""\n'),
            before("        sources=sources,\n", "        entries=_entries(results),\n"),
            before("def _layers(", TABLE),
        ),
        "dchw/reports/page.py": before(
            "            scope=last.costs.scope,\n", '            entries=tables.entries.to_dict("records"),\n'
        ),
        "dchw/reports/templates/report.html.j2": before("<h2>Appendix</h2>\n", SECTION),
    },
}


def apply(recipe: str, root: Path) -> None:
    """Follow a recipe in a copy of the package below ``root``."""
    for path, change in RECIPES[recipe].items():
        file = root / path
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        file.write_text(change(old), encoding="utf-8")


def files_of(recipe: str) -> list[str]:
    """The files that the page's table names for a recipe; ``NAME`` and ``*`` stand for anything."""
    row = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {recipe} |"))
    return re.findall(r"`([^`]+)`", row.split("|")[2])


def named(path: str, pattern: str) -> bool:
    """Whether a file of the table is this one."""
    return re.fullmatch(re.escape(pattern).replace("NAME", r"[\w.-]+").replace(r"\*", r"[\w.-]+"), path) is not None
