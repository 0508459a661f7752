"""``{command}``: a command line of dchw and what it prints, run while the documentation is built.

Options: ``lines`` keeps the first so many lines of what is printed (and says so); ``width`` is the terminal's.
Commands run in one folder, in the order of the pages' names, with the repository's ``models``, ``notebooks`` and
``traces`` beside them; what was printed is kept by the content of the package and the command, so that a second build
runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
LINKED = ("models", "notebooks", "traces")
log = logging.getLogger(__name__)


def run(line: str, folder: Path, width: int) -> str:
    """What a command line prints; raises RuntimeError where it fails."""
    from click.testing import CliRunner

    from dchw.cli import group

    words = shlex.split(line)
    assert words[0] == "dchw", f"expected a command of dchw; got {line!r}"
    before = os.getcwd()
    os.chdir(folder)
    try:
        result = CliRunner(env={"COLUMNS": str(width)}).invoke(group, words[1:], prog_name="dchw")
    finally:
        os.chdir(before)
    if result.exit_code:
        raise RuntimeError(f"{line}: exit status {result.exit_code}: {result.output}{result.exception!r}")
    return str(result.stdout)


def content() -> str:
    """A digest of everything that a command's output may depend on."""
    digest = hashlib.sha256()
    for folder in ("dchw", *LINKED):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(ROOT)).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


class Command(SphinxDirective):
    """One command line and its output."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"lines": directives.positive_int, "width": directives.positive_int}

    def run(self) -> list[nodes.Node]:
        line = " ".join(self.content).strip()
        width = self.options.get("width", 88)
        printed = self.env.app.command_output(line, width).rstrip("\n")  # type: ignore[attr-defined]
        rows = printed.splitlines()
        most = self.options.get("lines")
        if most is not None and len(rows) > most:
            rows = [*rows[:most], f"... {len(rows) - most} more lines"]
        text = "\n".join([f"$ {line}", *(row.rstrip() for row in rows)])
        block = nodes.literal_block(text, text, language="text", classes=["command"])
        box = nodes.container("", block, classes=["command"])
        return [box]


def setup(app: Sphinx) -> dict[str, bool]:
    kept = Path(app.outdir).parent / "commands.json"
    state: dict[str, Any] = {}

    def output(line: str, width: int) -> str:
        if not state:
            state["of"] = content()
            # what another make of the package left is none of this one's business
            state["folder"] = folder = Path(app.outdir).parent / "work" / state["of"][:16]
            state["kept"] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
            folder.mkdir(parents=True, exist_ok=True)
            for name in LINKED:
                if not (folder / name).exists():
                    (folder / name).symlink_to(ROOT / name)
        key = hashlib.sha256(f"{state['of']} {width} {line}".encode()).hexdigest()
        if key not in state["kept"]:
            start = time.process_time()
            state["kept"][key] = run(line, state["folder"], width)
            log.info("ran %s: %.1f s", line, time.process_time() - start)
            kept.write_text(json.dumps(state["kept"]), "utf-8")
        return str(state["kept"][key])

    app.command_output = output  # type: ignore[attr-defined]
    app.add_directive("command", Command)
    return {"parallel_read_safe": False}
