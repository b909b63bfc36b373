"""A document as one HTML file that needs nothing else: no network, no script to be read. No torch here.

All text passes through jinja2's escaping. A Content-Security-Policy allows the page's own style and script by their
hashes and pictures that are part of the file; whatever else a text might ask for, the browser refuses.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report.document import Document, Figure, flow, one_line, slug, spans, unbroken

_PAGE = "page"
_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def html(document: Document, figures: Path) -> str:
    """The page; `figures` is the folder of the figures that become part of it."""
    environment = _environment()
    style, script = (_asset(environment, name) for name in ("report.css", "report.js"))
    environment.globals["picture"] = lambda figure: _data_uri(figure, figures)
    page = environment.get_template("report.html")
    return page.render(document=document, style=style, script=script, policy=_policy(style, script))


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("harness.report", _PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"spans": spans, "row_of": lambda table, row: zip(table.columns, row.cells, strict=True)}
    found.filters |= {"kind": lambda value: type(value).__name__, "line": _line, "flow": _flow, "slug": slug}
    return found


def _line(text: str) -> str:
    return unbroken(one_line(text))


def _flow(text: str) -> str:
    return unbroken(flow(text))


def _asset(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0].strip()


def _policy(style: str, script: str) -> str:
    parts: Mapping[str, str] = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{_digest(style)}'",
        "script-src": f"'sha256-{_digest(script)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{key} {value}" for key, value in parts.items())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_uri(figure: Figure, folder: Path) -> str:
    """The figure's file as an address that holds it whole."""
    ending = ".png" if figure.photographs else ".svg"
    data = (folder / figure.stem).with_suffix(ending).read_bytes()
    return f"data:{_TYPES[ending]};base64,{base64.b64encode(data).decode()}"
