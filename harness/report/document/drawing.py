"""A drawing as a part of a page: its marks can be pointed at, and its colours follow those of the page.

Only elements and attributes that draw pass; whatever else a file holds is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

_SVG = "{http://www.w3.org/2000/svg}"
_PICTURE = "data:image/png;base64,"
_LINK = "{http://www.w3.org/1999/xlink}href"
_ELEMENTS = frozenset({"svg", "g", "defs", "path", "use", "clipPath", "rect", "title", "image"})
_ATTRIBUTES = frozenset({
    "viewBox", "d", "transform", "x", "y", "width", "height", "class",
    "data-cell", "data-seed", "data-metric", "data-about",
    "opacity", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-linecap", "stroke-linejoin",
    "stroke-dasharray", "stroke-dashoffset", "stroke-miterlimit", "image-rendering",
})  # fmt: skip
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_POINTS = frozenset({"d", "x", "y", "viewBox", "width", "height"})
"""Attributes whose numbers are points, which need no more than two decimals."""


def drawing(file: Path, label: str, kind: str = "drawing") -> str:
    """The SVG file as an element of HTML called `label`, of the class `kind`.

    Ids begin with the file's name, so that they stay its own.
    """
    root = ElementTree.parse(file).getroot()  # our own file, not a stranger's
    drawn = _copied(root, f"{file.stem}-")
    assert drawn is not None
    for name in ("width", "height"):
        drawn.attrib.pop(name, None)
    drawn.attrib |= {"class": kind, "role": "group", "aria-label": label}
    return ElementTree.tostring(drawn, encoding="unicode")


def _copied(element: ElementTree.Element, prefix: str) -> ElementTree.Element | None:
    name = element.tag.removeprefix(_SVG) if isinstance(element.tag, str) else ""
    if name not in _ELEMENTS:
        return None
    copied = ElementTree.Element(name)
    for attribute, value in {**element.attrib, **_declarations(element.attrib.get("style", ""))}.items():
        if attribute == "id":
            copied.set("id", prefix + value)
        elif attribute == _LINK and value.startswith("#"):
            copied.set("href", f"#{prefix}{value[1:]}")
        elif attribute == _LINK and value.startswith(_PICTURE):
            copied.set("href", "".join(value.split()))
        elif attribute == "clip-path" and value.startswith("url(#"):
            copied.set("clip-path", f"url(#{prefix}{value[5:]}")
        elif attribute in _ATTRIBUTES:
            copied.set(attribute, _shortened(value) if attribute in _POINTS else value)
    if name == "title":
        copied.text = element.text
    # Glyphs are in units of their font: these have no decimals that could be spared.
    copied.extend(child for each in element if (child := _copied(each, prefix)) is not None)
    return copied


def _declarations(style: str) -> dict[str, str]:
    """`fill: none; stroke: #000` -> {"fill": "none", "stroke": "#000"}: a page's policy forbids the former."""
    pairs = (part.partition(":") for part in style.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs if value}


def _shortened(numbers: str) -> str:
    return _NUMBER.sub(lambda match: f"{float(match[0]):.2f}", " ".join(numbers.split()))
