"""``{keys} machine``: every key of a kind of YAML file, from the package's own descriptions."""

from __future__ import annotations

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Keys(SphinxDirective):
    """A definition list: the key, what it takes, its default and what it means."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from dchw.keys import file_kind, keys

        lines: list[str] = []
        seen: set[str] = set()
        for key in keys(file_kind(self.arguments[0])):
            if key.path in seen:
                continue  # a section that may be of several kinds has some keys twice
            seen.add(key.path)
            default = "" if key.is_section else "; must be written" if not key.default else f"; default `{key.default}`"
            text = " ".join(key.text.replace("``", "`").split())
            lines += [f"`{key.path}`", f": *{key.kind}{'*' if not default else f'*{default}'}. {text}", ""]
        holder = nodes.Element()
        self.state.nested_parse(StringList(lines, self.arguments[0]), self.content_offset, holder)
        return holder.children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("keys", Keys)
    return {"parallel_read_safe": True}
