"""``{drawn}``: a figure that a Python expression gives (matplotlib), as SVG, drawn while the documentation is built."""

from __future__ import annotations

import base64
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Drawn(SphinxDirective):
    """The output of a function of ``gallery.py``, with the call that gives it as its caption."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        import gallery

        name = self.arguments[0]
        target = Path(self.env.app.outdir).parent / "drawn" / f"{name}.svg"
        target.parent.mkdir(parents=True, exist_ok=True)
        caption = getattr(gallery, name)(target)
        image = base64.b64encode(target.read_bytes()).decode("ascii")
        alt = (getattr(gallery, name).__doc__ or "").strip()
        picture = f'<img alt="{alt}" src="data:image/svg+xml;base64,{image}" style="min-width: 60%; background: white">'
        figure = nodes.figure("", nodes.raw("", picture, format="html"))
        figure += nodes.caption("", "", nodes.literal(caption, caption))
        return [figure]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("drawn", Drawn)
    return {"parallel_read_safe": False}
