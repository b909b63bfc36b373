"""Opening a pack that somebody else has made: checked as a whole before anything is written.

The zip is unpacked into a new folder that takes its name at the end, or what is in it its place in an empty one that is
there, so that there is all of it or nothing, and nothing that was there is touched.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.data.pack_record import NAME, PackRecord
from harness.errors import HarnessError
from harness.files import LARGEST, named, parse
from harness.storage.usage import shortage

MOST_FILES = 500_000
MOST_TIMES = 200
"""How much larger than the zip its files may be; text of a study is about ten times as large."""
LARGEST_RECORD = 2**26
"""Bytes of a pack.json."""
FREE = 2**28
"""Bytes that files may have in any case: a small zip of equal numbers is no attack."""
LONGEST_PART, LONGEST_NAME = 255, 3000
"""Bytes of the name of a file or folder, and letters of a whole path: beyond them no disk takes it."""
RECORD = re.compile(rf"runs/(?P<label>[a-z0-9][a-z0-9_.-]*)/{re.escape(NAME)}")
"""The file by which a zip is known for a pack."""
_OF_MACHINE = r"claim|trials|mlflow.*\.json|\..*|.*\.lock"
"""What is of one machine alone: a lease, jobs with ids of their workers, what a tracking server has of a run."""
LEFT_OUT = re.compile(rf"runs/[^/]+/(?:anew/|[^/]+/checkpoint/|(?:.*/)?(?:{_OF_MACHINE})(?:/|$))", re.DOTALL)
"""What `harness pack` never writes, and would be taken for what this machine has left there. Reports have names of the
study's own choice."""
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError, ValueError)
"""What zipfile raises for a zip that is damaged, encrypted or packed in an unknown way."""


@dataclass(frozen=True)
class Unpacked:
    """A pack that was opened."""

    folder: Path
    study: Path
    """The study file."""
    labels: tuple[str, ...]
    """Of the folders of runs, each of a profile."""
    code: tuple[str, ...]
    """Files beside the study, and those that runs hold a copy of; code among them has not been run yet."""
    files: int
    bytes: int


def unpack(path: Path, folder: Path) -> Unpacked:
    """Unpack the zip `path` into the new folder `folder`. Raises HarnessError, and then leaves nothing behind."""
    if path.is_dir():
        raise HarnessError(f"{path}: is a folder; name the zip that `harness pack` wrote")
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not os.listdir(folder))):
        raise HarnessError(f"{folder}: is there already, and nothing is overwritten; name another folder")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if problem := next(_problems(entries, path.stat().st_size), ""):
                raise HarnessError(f"{path}: {problem}; nothing was unpacked")
            size = sum(entry.file_size for entry in entries)
            if lack := shortage(folder, size):
                raise HarnessError(f"{path}: {lack}")
            study, labels = _of_study(path, archive)
            code = _code(archive, study, entries)
            _extract(archive, entries, folder)
    except FileNotFoundError as error:
        raise HarnessError(f"{path}: there is no such file") from error
    except DAMAGED as error:
        raise HarnessError(f"{path}: is no zip, or a damaged one ({error}); nothing was unpacked") from error
    return Unpacked(folder, folder / study, labels, code, len(entries), size)


def _problems(entries: Sequence[zipfile.ZipInfo], size: int) -> Iterator[str]:
    """What no pack has: names that lead elsewhere, links, names that meet, sizes of an attack."""
    if len(entries) > MOST_FILES:
        yield f"holds {len(entries):,} files; a pack has at most {MOST_FILES:,}"
    total = sum(entry.file_size for entry in entries)
    if total > max(FREE, MOST_TIMES * size):
        yield f"its {size:,} bytes would become {total:,}, which no pack does"
    names, folders = set[str](), set[str]()
    for entry in entries:
        name = entry.filename
        yield from _problems_of_name(name)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            yield f"{name!r} is {'a link' if kind == stat.S_IFLNK else 'no plain file'}"
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield f"{name!r} is encrypted, or compressed in a way that no pack has"
        if name in names:
            yield f"holds {name!r} twice"
        names.add(name)
        folders |= {name[:place] for place, character in enumerate(name) if character == "/"}
    if both := names & folders:
        yield f"{min(both)!r} is a file and a folder"


def _problems_of_name(name: str) -> Iterator[str]:
    parts = re.split(r"[/\\]", name)
    if len(name) > LONGEST_NAME or max(len(part.encode("utf-8", "surrogatepass")) for part in parts) > LONGEST_PART:
        yield f"{name[:40]!r}... is a longer name than any disk takes"
        return
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name) or not {"", ".", ".."}.isdisjoint(parts):
        yield f"{name!r} leads out of the folder"
    if any(ord(character) < 32 for character in name):
        yield f"{name!r} is no name of a file"
    if LEFT_OUT.match(name):
        yield f"{name!r} is what no pack has, as it would act on this machine; ask for the pack again"


def _of_study(path: Path, archive: zipfile.ZipFile) -> tuple[str, tuple[str, ...]]:
    """The study file and the labels of its folders of runs. Raises HarnessError for a zip that is no pack."""
    records = {match["label"]: name for name in sorted(archive.namelist()) if (match := RECORD.fullmatch(name))}
    for name in records.values():
        if archive.getinfo(name).file_size > LARGEST_RECORD:
            raise HarnessError(f"{path}: {name} is too large for what it should be")
        study = parse(archive.read(name), PackRecord, f"{path}: {name}", "ask for the pack again").study
        if study in archive.namelist() and "/" not in study:
            return study, tuple(records)
    raise HarnessError(f"{path}: is no pack of a study; `harness pack` makes one")


def _code(archive: zipfile.ZipFile, study: str, entries: Sequence[zipfile.ZipInfo]) -> tuple[str, ...]:
    """Where the study's own code can be: files beside the study file, and those that its runs hold a copy of."""
    code = set[str]()
    for entry in entries:
        if entry.filename != study and entry.filename.split("/")[0] not in ("runs", "reports"):
            code.add(entry.filename)
        elif entry.filename.endswith("/run.json") and entry.file_size <= LARGEST:
            with suppress(ValueError, RecursionError):  # a damaged record, which no command uses
                record = json.loads(archive.read(entry))
                source = record.get("source") if isinstance(record, dict) else None
                code |= set(source) if isinstance(source, dict) else set()
    return tuple(sorted(code))


def _extract(archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    folder = Path(os.path.abspath(folder))
    # One that is there stays the same folder: it may be where the user is, or a disk of its own.
    beside = folder if folder.exists() else folder.parent
    made = [each for each in (beside, *beside.parents) if not each.exists()]
    beside.mkdir(parents=True, exist_ok=True)
    new = beside / f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    new.mkdir()
    try:
        for entry in entries:
            target = new / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, named(folder), target.open("xb") as file:
                shutil.copyfileobj(source, file, 2**20)
        if beside == folder:
            for each in sorted(new.iterdir()):
                each.rename(folder / each.name)
            new.rmdir()
        else:
            new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):  # somebody else has put something there
            for each in made:
                each.rmdir()
        raise
