"""A study in one zip: its file, its runs and reports, for a machine that has neither its data nor its networks.

    STUDY.yaml                              as it lies, without passwords; with the files of code that it names
    runs/LABEL/pack.json                    what the pack tells of data and networks, see `harness.data.pack_record`
               *.json optuna.log place      what the study keeps beside its runs
               ID/                          run.json status.json metrics.jsonl result.json log.txt samples/
                                            and generator.safetensors
    reports/LABEL/ LABEL.../                the reports, also of searches and of what command lines changed

The same study gives the same bytes. Training states, MLflow's database, data and caches stay behind, and so does all
that the harness did not write. Links are not followed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from harness.data.pack_record import NAME, PackRecord
from harness.errors import HarnessError, RecordError
from harness.files import replacing
from harness.masking import masked_file
from harness.models.encoders import EMBEDDED
from harness.runs.folders import RunFolder
from harness.runs.lease import live_status
from harness.runs.record import Run
from harness.runs.weights import read_head, refuse_of_another
from harness.storage import without_secrets
from harness.storage.folders import ANEW, identify
from harness.storage.unpack import DAMAGED, LEFT_OUT, RECORD
from harness.study.plan import Plan
from harness.study.schema import Study
from harness.text import with_folder_as
from harness.tuning.search import searches
from harness.tuning.trials import JOURNAL

GENERATOR = "generator.safetensors"
_OF_RUN = frozenset({"run.json", "status.json", "metrics.jsonl", "result.json", "log.txt"})
_OF_ROOT = re.compile(rf"grid\.json|provenance\.json|looks\.json|scale-[0-9a-f]{{12}}\.json|place|{re.escape(JOURNAL)}")
_OF_REPORT = frozenset({".md", ".html", ".csv", ".json", ".tex", ".svg", ".pdf", ".png"})
_OF_SAMPLES = frozenset({".png", ".json"})
_AS_THEY_ARE = frozenset({".png", ".pdf", ".safetensors"})
"""Files that hold no text of the user's, most of which are compressed already."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the zip, so that equal files give equal bytes."""


@dataclass(frozen=True)
class Packed:
    """A pack that was written."""

    path: Path
    bytes: int
    runs: int
    generators: int
    reports: int
    running: tuple[str, ...]
    """Runs that a scheduler has, as CELL/SEED: the pack has them as they were at that moment."""
    left_out: Mapping[str, int]
    """What stays behind -> how many of it."""
    masked: tuple[str, ...]
    """Files in which passwords or tokens are hidden."""
    networks: tuple[str, ...]
    """CLIPs that `harness sample` needs for new prompts, and that do not come with the harness."""
    not_for_windows: tuple[str, ...]
    """Names that Windows cannot make."""


@dataclass
class _Contents:
    """What goes into a pack: its name there -> where it lies."""

    with_generators: bool
    files: dict[str, Path] = field(default_factory=dict)
    statuses: dict[str, bytes] = field(default_factory=dict)
    """What status.json of each run holds; its name in the pack is among those of `files` too."""
    runs: list[Run] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    reports: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def pack(plans: Sequence[Plan], records: Sequence[PackRecord], out: Path, with_generators: bool) -> Packed:
    """Write the zip `out`: one study file under one or several profiles, each with its record.

    Raises HarnessError where that would take the place of anything but an earlier pack, or of one that has runs while
    this has none, for a study whose file or code cannot do without its passwords, for a run that would not be whole in
    it, and for files that change meanwhile.
    """
    for plan in plans:
        _refuse_part(plan, with_generators)
    contents, texts = _Contents(with_generators), _written_anew(plans, records)
    for plan in plans:
        planned = {run.id: f"{run.cell}/{run.seed}" for run in plan.runs}
        for study in (plan.study, *searches(plan.study)):
            _runs(study, planned, contents)
        _reports(plan.study, contents)
    _refuse_other(out, bool(contents.runs))
    path = plans[0].study.path
    hidden = [path.name] if texts[path.name] != path.read_bytes() else []
    with replacing(out, durable=True) as temporary, zipfile.ZipFile(temporary, "x") as archive:
        for name in sorted({*texts, *contents.files}):
            if name in texts:
                _write(archive, name, texts[name])
            elif _copy(archive, name, contents.files[name], contents.statuses.get(name)):
                hidden.append(name)
        names = archive.namelist()
    of_harness = {f"embedded:{name}" for name in EMBEDDED}
    guides = {run.settings.encoders.clip for run in contents.runs if not run.settings.command.run} - of_harness
    return Packed(
        path=out,
        bytes=out.stat().st_size,
        runs=len(contents.runs),
        generators=sum(name.endswith(f"/{GENERATOR}") for name in names),
        reports=contents.reports,
        running=tuple(contents.running),
        left_out=contents.left_out,
        masked=tuple(hidden),
        networks=tuple(sorted(with_folder_as(name, path.parent, "") for name in guides if with_generators)),
        not_for_windows=tuple(filter(_is_unfit_for_windows, names)),
    )


def _written_anew(plans: Sequence[Plan], records: Sequence[PackRecord]) -> dict[str, bytes]:
    """The study file, the code that it names and what stands for data and networks. Raises HarnessError."""
    study = plans[0].study
    texts = {study.path.name: without_secrets.study_text([plan.study for plan in plans])}
    for plan, record in zip(plans, records, strict=True):
        every = (plan.study.code.source, *(cell.source for cell in plan.cells))
        for name, text in sorted({item for source in every for item in source.items()}):
            without_secrets.refuse_in_code(study.path.parent / name, text)
            texts.setdefault(name, text)
        texts[f"runs/{plan.study.label}/{NAME}"] = json.dumps(asdict(record), indent=1, sort_keys=True) + "\n"
    return {name: text.encode() for name, text in texts.items()}


def _refuse_other(out: Path, has_runs: bool) -> None:
    """Raises HarnessError unless `out` is free, or an earlier pack that a new one of runs or of none can replace: data
    sets and weights are zips too."""
    if os.path.lexists(out):
        names: list[str] = []
        with contextlib.suppress(OSError, *DAMAGED):
            if out.is_file():  # a pipe would be waited for
                with zipfile.ZipFile(out) as archive:
                    names = archive.namelist()
        fix = f"so it is not replaced; name another file, such as -o {out.stem}-pack.zip"
        if not any(map(RECORD.fullmatch, names)):
            raise HarnessError(f"{out}: is there and is no earlier pack, {fix}")
        if not has_runs and any(name.endswith("/run.json") for name in names):
            raise HarnessError(f"{out}: is an earlier pack that has runs, and this one would have none, {fix}")
    out.parent.mkdir(parents=True, exist_ok=True)


def _refuse_part(plan: Plan, with_generators: bool) -> None:
    """Raises HarnessError for runs that cannot be packed whole: the pack may take the place of one that has them."""
    plan.snapshot().refuse_damaged(plan.runs)
    problems = []
    for run in plan.runs:
        folder = plan.study.root / run.id
        for name in sorted(_OF_RUN | {GENERATOR} if with_generators else _OF_RUN):
            if (folder / name).is_symlink():
                problems.append(f"{folder / name}: is a link, which a pack does not follow; put the file in its place")
        weights = folder / GENERATOR
        if with_generators and weights.is_file():
            try:
                refuse_of_another(weights, run.id)
                if read_head(weights) is None:
                    problems.append(f"{weights}: is no whole file of weights; put it back, or pack with --no-weights")
            except RecordError as error:
                problems.append(str(error))
    if problems:
        raise HarnessError("\n".join(problems))


# Which files go into a pack.


def _runs(study: Study, planned: Mapping[str, str], contents: _Contents) -> None:
    """The folder of runs of a study or a search. `planned`: id -> what the plan calls a run today."""
    root = study.root
    for entry, name in _entries(root, f"runs/{study.label}", contents):
        if entry.name == ANEW and entry.is_dir():
            if begun := sum(each.is_dir() for each in os.scandir(entry)):  # after all are trained an empty folder stays
                contents.left_out["unfinished retraining"] += begun
        elif entry.is_dir():
            try:
                run = identify(root, entry.name)
            except RecordError:
                contents.left_out["unknown folder"] += 1
                continue
            contents.runs.append(run)
            if _is_running(root / run.id):
                contents.running.append(planned.get(run.id, f"{run.cell}/{run.seed}"))
            _one_run(root / run.id, name, contents)
        elif _OF_ROOT.fullmatch(entry.name):
            contents.files[name] = root / entry.name
        else:
            contents.left_out["other file"] += 1


def _one_run(folder: Path, place: str, contents: _Contents) -> None:
    # Read before the files are listed: of a run that ends meanwhile, the pack would have the end without the result.
    status = folder / "status.json"
    if status.is_file() and not status.is_symlink():
        with _opened(status) as file:
            contents.statuses[f"{place}/{status.name}"] = file.read()
        contents.files[f"{place}/{status.name}"] = status
    for entry, name in _entries(folder, place, contents):
        path = folder / entry.name
        if path == status and entry.is_file():
            continue
        if entry.name == "samples" and entry.is_dir():
            _tree(path, name, _OF_SAMPLES, contents)
        elif entry.name == "checkpoint":
            contents.left_out["training state"] += 1
        elif entry.name == GENERATOR and not contents.with_generators:
            contents.left_out["generator"] += 1
        elif entry.name in (GENERATOR, *_OF_RUN) and entry.is_file():
            contents.files[name] = path
        else:
            contents.left_out["other file"] += 1


def _is_running(folder: Path) -> bool:
    try:
        return live_status(folder, RunFolder(folder).status()).state == "running"
    except RecordError:  # a damaged run is packed as it is
        return False


def _reports(study: Study, contents: _Contents) -> None:
    """The study's report, and those of its searches and variants, whose names begin with its own and a dot."""
    parent = study.path.parent / "reports"
    for entry, name in _entries(parent, "reports", contents):
        if entry.is_dir() and f"{entry.name}.".startswith(f"{study.label}."):
            contents.reports += (parent / entry.name / "report.md").is_file()
            _tree(parent / entry.name, name, _OF_REPORT, contents)


def _tree(folder: Path, place: str, endings: frozenset[str], contents: _Contents) -> None:
    """Every file below a folder whose name ends in one of these ways."""
    for entry, name in _entries(folder, place, contents):
        path = folder / entry.name
        if entry.is_dir():
            _tree(path, name, endings, contents)
        elif path.suffix in endings:
            contents.files[name] = path
        else:
            contents.left_out["other file"] += 1


def _entries(folder: Path, place: str, contents: _Contents) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Files and folders by name, each with its name in the pack: `folder` is `place` there. Without links, what is
    hidden or temporary and what is of this machine alone.
    """
    if not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = f"{place}/{entry.name}"
        if LEFT_OUT.match(name) or entry.name.startswith(".") or entry.name == NAME:
            continue
        if entry.is_symlink():
            contents.left_out["link"] += 1
        elif _is_text(entry.name) and (entry.is_dir() or entry.is_file()):
            yield entry, name
        else:
            contents.left_out["other file"] += 1


def _is_text(name: str) -> bool:
    """Whether a zip can hold the name."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


# Writing it.


def _copy(archive: zipfile.ZipFile, name: str, path: Path, content: bytes | None) -> bool:
    """A file into the zip, or its `content` if that was read before; whether anything in it had to be hidden."""
    if content is None:
        with _opened(path) as file:
            if path.suffix in _AS_THEY_ARE:
                info = _info(name)
                info.file_size = os.fstat(file.fileno()).st_size
                with archive.open(info, "w") as target:
                    shutil.copyfileobj(file, target, 2**20)
                return False
            content = file.read()
    shown = masked_file(name, content)
    _write(archive, name, shown)
    return shown != content


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = _info(name)
    info.file_size = len(content)
    with archive.open(info, "w") as target:
        target.write(content)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    info.compress_type = zipfile.ZIP_STORED if Path(name).suffix in _AS_THEY_ARE else zipfile.ZIP_DEFLATED
    return info


def _opened(path: Path) -> BinaryIO:
    """A regular file, and nothing that a link in its place leads to. Raises HarnessError where it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HarnessError(f"{path}: changed while it was packed ({error.strerror}); pack the study again") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise HarnessError(f"{path}: changed while it was packed; pack the study again")
    return open(descriptor, "rb")


def _is_unfit_for_windows(name: str) -> bool:
    reserved = re.compile(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
    bad = re.compile(r'[<>:"\\|?*\x00-\x1f]|[. ]$')
    return any(reserved.fullmatch(part) or bad.search(part) for part in name.split("/"))
