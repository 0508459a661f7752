"""``{moduledoc} dchw.program.program``: the docstring of a module as it stands, so that rules are written down once."""

from __future__ import annotations

import importlib

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Module(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = (importlib.import_module(self.arguments[0]).__doc__ or "").strip()
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("moduledoc", Module)
    return {"parallel_read_safe": True}
