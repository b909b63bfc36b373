"""Real study files with something wrong: strategies for the tests of what is read."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from ruamel.yaml import YAML

from hostile import SMALL, VALUES

ROOT = Path(__file__).parent.parent
TEXTS = [
    *[SMALL] * 4,
    *(
        path.read_text(encoding="utf-8")
        .replace("source: twemoji", "source: folder, path: images")
        .replace("my-images", "images")
        for path in (ROOT / "ablations.yaml", *sorted((ROOT / "harness" / "cli" / "presets").glob("*.yaml")))
    ),
]
TREES = [YAML(typ="safe", pure=True).load(text) for text in TEXTS]
NUMBERS = ".nan", ".inf", "-.inf", "1e999"


LINES = st.integers(0, 200)


@st.composite
def damaged_text(draw: st.DrawFn) -> bytes:
    """A real study file in which lines and bytes were moved about."""
    lines = draw(st.sampled_from(TEXTS)).split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at, other = draw(LINES) % len(lines), draw(LINES) % len(lines)
        what = draw(st.sampled_from(["drop", "double", "indent", "outdent", "swap", "cut", "insert", "repeat"]))
        if what == "drop":
            lines[at] = ""
        elif what == "double":
            lines.insert(other, lines[at])
        elif what == "indent":
            lines[at] = (
                draw(st.sampled_from([" ", "  ", "\t", "- ", "? ", "&a ", "<<: ", "!!python/name:os.system "]))
                + lines[at]
            )
        elif what == "outdent":
            lines[at] = lines[at].lstrip()
        elif what == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        elif what == "cut":
            lines[at] = lines[at][: draw(LINES)]
        elif what == "insert":
            place = draw(LINES) % (len(lines[at]) + 1)
            lines[at] = lines[at][:place] + draw(st.text(max_size=5)) + lines[at][place:]
        else:
            lines[at] = lines[at] * draw(st.integers(2, 40))
    content = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, 10**6)) % len(content)] = draw(st.integers(0, 255))
    start, end = (
        draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe", b"%YAML 1.1\n---\n"])),
        draw(st.sampled_from([b"\n", b"\r\n", b"\r"])),
    )
    return start + bytes(content).replace(b"\n", end)


@st.composite
def damaged_tree(draw: st.DrawFn) -> bytes:
    """A real study file of which some values are others."""
    tree = json.loads(json.dumps(draw(st.sampled_from(TREES))))
    for _ in range(draw(st.integers(1, 3))):
        node: Any = tree
        keys = list(tree)
        while keys:
            key = draw(st.sampled_from(keys))
            keys = (
                list(node[key])
                if isinstance(node[key], dict)
                else list(range(len(node[key])))
                if isinstance(node[key], list)
                else []
            )
            if not keys or draw(st.booleans()):
                change(draw, node, key)
                break
            node = node[key]
    text = json.dumps(tree)
    for number in NUMBERS:
        text = text.replace(json.dumps(number), number)
    return text.encode()


def change(draw: st.DrawFn, node: Any, key: Any) -> None:
    """Puts something else into a mapping or list."""
    inner = node[key]
    others: dict[str, Any] = {
        "wrap": [[inner], {"a": inner}, {key: inner}, [inner, inner]],
        "many": [[inner] * 2, [inner] * 50, [inner] * 500],
        "rename": ["", "study", "profile", "a" * 70, "../x", "x.y", "<<", "Study"],
    }
    how = draw(st.sampled_from(["replace", "replace", "remove", *others]))
    if how in ("remove", "rename") and isinstance(node, dict):
        del node[key]
        if how == "rename":
            node[draw(st.sampled_from(others[how]))] = inner
    else:
        node[key] = deepcopy(draw(st.sampled_from(others.get(how, VALUES))))  # what is shared would be changed for all
