"""What the pages name is there: files, modules, links, names of the code, commands, options and settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt

from harness.cli.main import app
from harness.study.schema import StudyFile

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = {path.name for path in (ROOT / "harness").iterdir() if path.is_dir()} | {"models"}
MADE = (
    "reports/STUDY",
    "reports/LABEL",
    "reports/emoji-quick/",
    "metrics/fd_emoji",
    "reports/<study>",
    "runs/",
    "my_ideas.py",
    "ideas/mine.py",
    "blocks.py",
    "pairs.py",
)
"""Beginnings of places that a call makes, or that stand for one, and a name in MLflow."""


def inline(page: Path) -> Iterator[str]:
    """What stands between backticks, outside of blocks of code."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text))


def is_there(name: str) -> bool:
    """Whether a path, from the root or from harness/, with or without its .py, leads to something."""
    return any((root / f"{name}{end}").exists() for root in (ROOT, ROOT / "harness") for end in ("", ".py"))


def missing_paths(page: Path) -> Iterator[str]:
    for name in (word.split(":")[0] for each in inline(page) for word in each.split()):
        begins = "/" in name and name.split("/")[0] in ROOMS | {"harness", "tests", "tools", "docs", "reports"}
        is_path = begins or re.fullmatch(r"[\w/]+\.py", name)
        if is_path and re.fullmatch(r"[\w/.-]+", name) and not name.startswith(MADE) and not is_there(name):
            yield name


def missing_links(page: Path) -> Iterator[str]:
    """Files that are not there, and headings that their page does not have."""
    for link in re.findall(r"\]\(([^)\s]+)", page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        there = page.parent / name if name else page
        if not link.startswith("http") and (not there.exists() or (anchor and anchor not in anchors(there))):
            yield link


def anchors(page: Path) -> set[str]:
    """The names of a page's headings in links."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def missing_code(page: Path) -> Iterator[str]:
    """Constants in capitals, and names with an underscore in front or CamelCase, that no source has as a word."""
    for name in inline(page):
        if re.fullmatch(r"_\w*[A-Z]\w*|[A-Z]+_[A-Z_]+|[A-Z][a-z]+(?:[A-Z][a-z]+)+", name) and name not in words():
            yield name


def words() -> set[str]:
    sources = [path for room in ("harness", "models") for path in (ROOT / room).rglob("*.py")]
    return {word for path in sources for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}


def commands(group: Any, before: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command with its options."""
    for name, command in group.commands.items():
        yield before + name, {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")


COMMANDS = dict(commands(typer.main.get_command(app)))


def missing_commands(page: Path) -> Iterator[str]:
    """`harness COMMAND` with its options, in the text and in blocks."""
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"(?:`|^ *(?:\$ )?)harness ([a-z][a-z-]*(?: [^`\n]*)?)", text, re.MULTILINE):
        two = " ".join(line.split()[:2])
        name = two if two in COMMANDS else line.split()[0]
        given = set(re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", line))
        if name not in COMMANDS or not given <= COMMANDS[name] | {"--help"}:
            yield f"harness {line}"


def missing_options(page: Path) -> Iterator[str]:
    known = {option for options in COMMANDS.values() for option in options} | {"--signal"}  # the last is Slurm's
    for name in inline(page):
        option = re.match(r"--[a-z][a-z0-9-]*", name)
        if option and option[0] not in known:
            yield name


def missing_settings(page: Path) -> Iterator[str]:
    """Dotted settings, such as `train.kimg`, and no files of a section's name; below a mapping all may stand."""
    sections = {each.name: default(each) for each in fields(StudyFile)}
    for name in inline(page):
        section, _, key = name.partition(".")
        is_file = name.endswith((".safetensors", ".jsonl"))
        if is_file or not re.fullmatch(r"[a-z_]+\.[a-z_0-9]+", name) or not is_dataclass(sections.get(section)):
            continue
        if key not in {each.name for each in fields(sections[section])}:
            yield name


def default(each: Any) -> Any:
    return each.default_factory() if callable(each.default_factory) else each.default


RULES = [missing_paths, missing_links, missing_code, missing_commands, missing_options, missing_settings]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_what_a_page_names_is_there(rule: Any) -> None:
    missing = {page.name: found for page in PAGES if (found := list(rule(page)))}
    assert missing == {}


def test_every_page_of_docs_has_its_place_in_the_site() -> None:
    placed = set(re.findall(r": (docs/\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert placed == {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}


def test_each_rule_notices_what_is_gone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`harness/records.py` `study/spec` `harness judge` [there](gone.md) [it](#gone) "
        "`harness plan --nope` `--gone`\n"
        "`OF_TERMS` `_NOBODYS` `train.kimgs`\n"
        "and what is there: [it](#a-page)\n\n# A *page*\n\n`harness/settings.py` `study/overlay` `SINCE` `train.kimg`"
    )
    assert [list(rule(page)) for rule in RULES] == [
        ["harness/records.py", "study/spec"],
        ["gone.md", "#gone"],
        ["OF_TERMS", "_NOBODYS"],
        ["harness judge", "harness plan --nope"],
        ["--gone"],
        ["train.kimgs"],
    ]
