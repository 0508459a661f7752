"""How the documentation is built: ``python -m sphinx -W -b html docs docs/_build/html``; it loads nothing."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / "_ext")]

project = "dchw"
author = "The dchw authors"
project_copyright = "2026, The dchw authors"
version = release = next(
    line.split('"')[1]
    for line in (HERE.parent / "pyproject.toml").read_text("utf-8").splitlines()
    if line.startswith("version")
)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx_click",
    "commands",
    "yaml_keys",
    "figures",
    "docstrings",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
nitpicky = False

html_theme = "furo"
html_title = f"dchw {release}"
html_static_path = ["_static"]
html_css_files = ["dchw.css"]
html_show_sphinx = False

napoleon_google_docstring = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
default_role = "code"
doctest_test_doctest_blocks = ""
"""Examples in docstrings are run by the tests; here those of the pages are."""

logging.getLogger("fontTools").setLevel(logging.WARNING)
