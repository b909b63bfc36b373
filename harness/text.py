"""Text for readers: control characters made harmless; times, counts, lists of names and paths in words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""`text` with control characters written as their escapes, such as \x1b."""
    return "".join(c.encode("unicode_escape").decode() if is_control(c) else c for c in text)


def is_utf8(text: str) -> bool:
    """Whether it holds no byte that is not UTF-8, as names may; Python has halves of surrogate pairs for those."""
    return _SURROGATE.search(text) is None


def one_line(text: str) -> str:
    """`text` on one line, control characters shown as the sign for an unknown character."""
    return "".join("\N{REPLACEMENT CHARACTER}" if is_control(c) else c for c in " ".join(str(text).split()))


def is_control(character: str) -> bool:
    """Whether a terminal or a page obeys the character instead of showing it.

    Joiners of emoji and letters newer than this Python's Unicode tables are not: only what does harm is.
    """
    # Controls, halves of surrogate pairs, separators of lines and paragraphs.
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return True
    # These turn the direction of the text that follows, so that "exe.gnp" reads "png.exe".
    return "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"


def without_halves(text: str) -> str:
    """`text` with ? for each half of a surrogate pair, which no file and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def duration(seconds: float) -> str:
    """A time to two digits: `45 s`, `12 min`, `3.4 h`, `2.1 days`, `3.2 years`."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            value = seconds / unit
            return f"{value:.2g} {name}" if value < 10 else f"{value:.0f} {name}"
    days = seconds / 86400
    if days >= 730.5:
        years = days / 365.25
        return f"{years:.2g} years" if years < 10 else f"{years:,.0f} years"
    return f"{days:,.0f} days" if days >= 100 else f"{days:.2g} days"


def quantity(count: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def are(count: int) -> str:
    """The verb of so many: `is` or `are`."""
    return "is" if count == 1 else "are"


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def shortened(names: Sequence[str], most: int = 6) -> str:
    """As `listed`; of more names the first, and how many follow: `a, b and 3 more`."""
    rest = [f"{len(names) - most} more"] if len(names) > most else []
    return listed([*names[:most], *rest])


def file_word(path: Path) -> str:
    """A file as a word of a command line in the current folder, which takes it for no option."""
    there = path.absolute()
    name = str(there.relative_to(Path.cwd())) if there.is_relative_to(Path.cwd()) else str(there)
    return f"./{name}" if name.startswith("-") else name


def at_place(setting: str, places: Mapping[str, str]) -> str:
    """`study.yaml:9:20: resources.slots`: a dotted setting behind the place where it is written, if any."""
    return f"{places[setting]}: {setting}" if setting in places else setting


def with_folder_as(value: Any, folder: Path, name: str) -> Any:
    """Plain data in which each text that is a path in `folder`, or ends in one after an @, begins with `name` instead.

    Without a name such a path begins in the folder: "/home/x/study/coco" -> "coco".
    """
    if isinstance(value, Mapping):
        return {key: with_folder_as(inner, folder, name) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_folder_as(inner, folder, name) for inner in value]
    if not isinstance(value, str):
        return value

    def beginning(match: re.Match[str]) -> str:
        return match[1] + (f"{name}{match[2]}" if name else "" if match[2] else ".")

    return re.sub(rf"(^|@){re.escape(str(folder))}(/|\Z)", beginning, value)
