"""Which files make the site: pages of the repository, what they link to, and pages that are generated.

The site has the folders of the repository, so that a link means the same in both. What a browser would not show is put
right: README.md is the first page, a report is its HTML file, and a file of code or a folder has a page of its own.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tools.docs import markdown

ROOT = Path(__file__).parent.parent.parent
HOME = "README.md"
_LANGUAGES = {".py": "python", ".yaml": "yaml"}
_PICTURES = (".png", ".svg")
_WIDE = "---\nhide: [navigation]\n---\n"
"""Begins a page that has no others beside it."""
_UNSEARCHED = "---\nsearch: {exclude: true}\n---\n"
"""Begins a page of code, whose words would hide those of the pages."""


def write(folder: Path, generated: Mapping[str, str]) -> None:
    """Make `folder` anew: the pages `generated` (place -> text), those of the repository, and what they link to."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(Path(__file__).parent / "assets", folder / "assets")
    for place, text in generated.items():
        _save(folder / place, text)
    waiting = [HOME, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
    done: set[str] = set()
    while waiting:
        source = waiting.pop()
        if source not in done:
            done.add(source)
            waiting += _bring(folder, source)


def place(source: str) -> str:
    """Where a file or folder of the repository is in the site; both from the root."""
    if source == HOME:
        return "index.md"
    if _is_report(source):
        return posixpath.splitext(source)[0] + ".html"
    if (ROOT / source).is_dir():
        return f"{source}/index.md"
    return source if source.endswith((".md", ".html", ".tex", ".csv", ".json", *_PICTURES)) else f"{source}.md"


def _is_report(source: str) -> bool:
    return source.startswith("reports/") and source.endswith("/report.md")


def _bring(folder: Path, source: str) -> list[str]:
    """Put one file or folder into the site; the sources that it links to."""
    there, target = ROOT / source, folder / place(source)
    if there.is_dir():
        inside = sorted(path for path in there.iterdir() if path.suffix in _LANGUAGES)
        entries = [f"- [`{path.name}`]({path.name}.md): {_summary(path)}" for path in inside]
        _save(target, f"# {source}/\n\n" + "\n".join(entries) + "\n")
        return [path.relative_to(ROOT).as_posix() for path in inside]
    if target.suffix != ".md":
        report = ROOT / place(source)
        _save(target, report.read_bytes())
        return _links_of_report(report) if report.suffix == ".html" else []
    text = there.read_text(encoding="utf-8")
    if there.suffix == ".ipynb":
        _save(target, markdown.notebook(text))
        return []
    if there.suffix != ".md":
        _save(target, f"{_UNSEARCHED}# {source}\n\n" + markdown.fenced(text, _LANGUAGES.get(there.suffix, "text")))
        return []
    _save(target, (_WIDE if source == HOME else "") + markdown.for_site(text, lambda link: _link(source, link)))
    return [_leads_to(source, link) for link in markdown.links(text) if _is_local(link)]


def _links_of_report(report: Path) -> list[str]:
    """The tables and the like beside a report that it links to, and other reports, which may link back."""
    found, home = re.findall(r'href="([^"#:]+)"', report.read_text(encoding="utf-8")), report.relative_to(ROOT)
    return [source for name in found if (ROOT / (source := _leads_to(home.as_posix(), name))).is_file()]


def _is_local(link: str) -> bool:
    return not link.startswith(("#", "http:", "https:", "mailto:"))


def _leads_to(source: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link.partition("#")[0]))


def _link(source: str, link: str) -> str:
    """A link of the page `source` as the site has it."""
    if not _is_local(link):
        return link
    _, mark, anchor = link.partition("#")
    return posixpath.relpath(place(_leads_to(source, link)), posixpath.dirname(source) or ".") + mark + anchor


def _summary(path: Path) -> str:
    """What a file says that it is for."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return f"{found[1]}." if (found := re.match(r"# ([^.]+)\.", text)) else "a study of these"


def _save(target: Path, content: str | bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)
