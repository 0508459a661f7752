"""How every report becomes a page: its template filled, its sections listed, and written as HTML or printed as PDF."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dchw.files import whole_file

if TYPE_CHECKING:
    import jinja2

_CONTENTS = "<!-- contents -->"


def template(name: str) -> jinja2.Template:
    """A template of this package; what it shows is escaped, and a name it does not know is an error."""
    return _environment().get_template(name)


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("dchw.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def script_json(value: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def with_contents(page: str) -> str:
    """The page with its sections named for links, and a list of them where the template marks its place."""
    entries: list[str] = []

    def named(found: re.Match[str]) -> str:
        entries.append(f'<li><a href="#section-{len(entries)}">{found[1]}</a></li>')
        return f'<h2 id="section-{len(entries) - 1}">{found[1]}</h2>'

    head, body = page.split("</header>", 1)
    text, scripts = body.split("</main>", 1)
    text = re.sub(r"<h2>(.*?)</h2>", named, text)
    return f"{head.replace(_CONTENTS, ''.join(entries))}</header>{text}</main>{scripts}"


def write_page(page: str, path: str | Path) -> None:
    """Write a page as HTML, or print it where ``path`` ends in ``.pdf``; whole or not at all.

    Raises DchwError where it cannot be written, or no browser can print it.
    """
    if Path(path).suffix.lower() == ".pdf":
        from dchw.reports.printing import write_pdf

        write_pdf(page, path)
        return
    with whole_file(path) as beside:
        beside.write_text(page, encoding="utf-8", newline="\n")
