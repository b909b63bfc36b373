"""A document as one HTML file that needs no network, and can be read without its script.

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
from harness.report.document.model import Document, Figure, Names, flow, plain, slug, spans, unbroken
from harness.text import one_line

_SCRIPTS = ("report.js", "samples.js", "marks.js", "curves.js", "shown.js")


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
        "drawing": lambda figure: _drawn(figure, figures),
        "separated": _separated,
    }
    environment.filters |= {
        "kind": lambda value: type(value).__name__,
        "one_lines": lambda texts: list(map(one_line, texts)),
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


def _drawn(figure: Figure, folder: Path) -> Markup:
    kind = "drawing photographs" if figure.photographs else "drawing"
    return Markup(drawing(folder / f"{figure.stem}.svg", one_line(figure.alt), kind))


def _separated(names: Names) -> list[tuple[str, str, str]]:
    """What stands before each name of a list, the name, and whose it is."""
    every = [*names.items, *([(f"{names.more} more", "")] if names.more else [])]
    return [
        ("" if not place else f" {names.last} " if place == len(every) - 1 else ", ", text, cell)
        for place, (text, cell) in enumerate(every)
    ]
