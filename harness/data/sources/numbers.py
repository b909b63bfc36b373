"""Files that are numbered parts of one data set: which numbers are missing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from harness.data.sources.record import LeftOut

_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?:-of-(?P<all>\d+))?(?P<after>\D*)", re.DOTALL)


def gaps(names: Iterable[str], left_out: LeftOut) -> None:
    """Counts the parts missing between the first and the last number of files called alike, or of those that names
    such as train-00000-of-00003.parquet say there are."""
    groups: defaultdict[tuple[str, str, str], dict[int, str]] = defaultdict(dict)
    for name in names:
        if found := _NUMBERED.fullmatch(name):
            groups[found["before"], found["all"] or "", found["after"]][int(found["number"])] = found["number"]
    for (before, promised, after), there in groups.items():
        first, last = (0, int(promised) - 1) if promised else (min(there), max(there))
        count = last + 1 - first - len(there)
        if count > 0:
            one = next(number for number in range(first, last + 1) if number not in there)
            width = len(next(iter(there.values())))
            name = f"{before}{one:0{width}d}{f'-of-{promised}' if promised else ''}{after}"
            left_out.tell("part", "missing by the numbers of the others", name, count)


def other_parts(path: Path, left_out: LeftOut) -> None:
    """Counts the other parts where a file's name says that it is one of several."""
    found = _NUMBERED.fullmatch(path.name)
    promised = int(found["all"] or 1) if found else 1
    left_out.add("part", f"of the {promised} that {path.name} is one of", path.parent, promised - 1)
