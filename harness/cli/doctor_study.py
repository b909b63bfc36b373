"""What the doctor says of a study's own code, and of a study that was unpacked; no code of it is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from harness.command.files import read_files
from harness.command.words import absent
from harness.data.pack_record import NAME, PackRecord, read_pack
from harness.errors import RecordError
from harness.finding import Finding
from harness.runs.folders import RunFolder
from harness.runs.snapshot import Snapshot
from harness.study.schema import Study, apply_toggles
from harness.text import quantity, shortened


def code_findings(study: Study) -> Iterator[Finding]:
    """Each file that `code` names: its ideas, and libraries that it or what it imports needs and that are not here."""
    code, folder = study.code, study.path.parent
    for file in code.files:
        ideas = [idea.name for idea in code.ideas.values() if idea.file == file]
        others = [path for path in code.uses[file] if path != file]
        detail = f"hash {code.digest(file)[:16]}, {quantity(len(ideas), 'idea')}: {', '.join(ideas) or 'none'}"
        detail += f"; imports {shortened(others, 3)}" if others else ""
        absent = [
            f"{folder / path}:{line}: imports {name}, which is not installed here"
            for path, line, name in code.absent_libraries(file, folder)
        ]
        fix = f"{'; '.join(absent)}: install the package that has it, or take the import out" if absent else ""
        yield Finding(f"code {file}", detail, fix)


def command_findings(study: Study) -> Iterator[Finding]:
    """What of a study's script is not there, in any cell."""
    commands = [apply_toggles(study, cell.toggles).command for cell in study.layout.cells]
    for words, patterns in dict.fromkeys((each.run, each.code) for each in commands if each.run):
        for text in absent(words, read_files(patterns, study.path.parent)):
            place, _, detail = text.partition(": ")
            yield Finding(place, detail, caveat=True)


def pack_findings(study: Study, needs: Iterable[Finding]) -> Iterator[Finding]:
    """Of a study that was unpacked: that it was, from where, and what cannot be done; `needs` are those of the study.

    What is missing is none of a study that is only looked at, so it is a caveat there.
    """
    pack = read_pack(study.root, study.path.parent)
    if pack is None:
        yield from needs
        return
    needs = list(needs)
    yield Finding("pack", _origin(study, pack.record), caveat=True)
    if study.code.files:
        text = f"{', '.join(study.code.files)} came with the pack, and sample, run-grid and tune run it"
        yield Finding("code of others", f"{text}: read it first, or give --no-code", caveat=True)
    if not pack.record.generators:
        yield Finding("sample", "cannot draw, as the study was packed without generators (--no-weights)", caveat=True)
    for each in needs:
        is_guide = each.subject == "encoders.clip"
        cannot = "run-grid and tune cannot train" + (", and sample cannot draw other prompts" if is_guide else "")
        detail = f"{each.detail}; without it {cannot}: {each.fix}" if each.fix else each.detail
        yield replace(each, detail=detail, fix="", caveat=each.caveat or bool(each.fix))


def _origin(study: Study, record: PackRecord) -> str:
    """What the pack says of where it was made."""
    runs = Snapshot(study.root, ()).other_runs
    hosts = set()
    for run in runs:
        try:
            hosts.add(RunFolder(study.root / run.id).status().host.partition(" ")[0])
        except RecordError:  # `status` names it
            continue
    where = f", trained on {shortened(sorted(hosts - {''}), 3)}" if hosts - {""} else ""
    text = f"of {record.study or study.path.name}, with {quantity(len(runs), 'run')}{where}"
    return f"{text}; data and networks are told by {study.root / NAME}, and only run-grid and tune need them here"
