"""A document as one HTML file that needs nothing else: no network, no script to be read.

All text passes through jinja2's escaping. A Content-Security-Policy allows the page's own style and script by their
hashes and pictures that are part of the file; whatever else a text might ask for, the browser refuses.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.document.drawing import drawing
from harness.report.document.model import Document, Figure, flow, plain, slug, spans, unbroken
from harness.report.figures.style import EMPTY, SOFT
from harness.report.verdicts import INK
from harness.text import one_line

_SCRIPTS = ("report.js", "samples.js", "marks.js")
_DARK_COLOURS = {"#ffffff": "none", INK: "#e5e4df", SOFT: "#a3a6aa", EMPTY: "#1f2226"}
"""Colour of a drawing -> the one where the page is dark, as in the page's own style."""
_RULES = "".join(f'[style*="fill: {old}"]{{fill:{new}!important}}' for old, new in _DARK_COLOURS.items())
_DARK = f"<style>@media (prefers-color-scheme: dark){{{_RULES}}}</style>".encode()


def html(document: Document, figures: Path) -> str:
    """The page; `figures` is the folder of the figures that become part of it."""
    loader = PackageLoader("harness.report", "page")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {
        "plain": plain,
        "encoded": lambda picture: base64.b64encode(picture).decode(),
        "spans": spans,
        "row_of": lambda table, row: zip(table.columns, row.cells, strict=True),
        "picture": lambda figure: _data_uri(figure, figures),
        "drawing": lambda figure: Markup(drawing(figures / f"{figure.stem}.svg", one_line(figure.alt))),
    }
    environment.filters |= {
        "kind": lambda value: type(value).__name__,
        "line": lambda text: unbroken(one_line(text)),
        "one_line": one_line,  # a name that a script compares has the spaces of the same name in a drawing
        "flow": lambda text: unbroken(flow(text)),
        "slug": slug,
    }
    style, *scripts = (loader.get_source(environment, name)[0].strip() for name in ("report.css", *_SCRIPTS))
    script = "\n".join(scripts)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; "
        f"script-src 'sha256-{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    page = environment.get_template("report.html")
    return page.render(document=document, style=style, script=script, policy=policy)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_uri(figure: Figure, folder: Path) -> str:
    """The figure's file as an address that holds it whole.

    Photographs keep their colours where the page is dark: there the drawing around them changes its own.
    """
    data = (folder / figure.stem).with_suffix(".svg").read_bytes()
    if figure.photographs:
        data = data.replace(b'<g id="figure_1">', _DARK + b'<g id="figure_1">', 1)
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"
