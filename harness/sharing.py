"""Sharing a study, as functions: one zip for machines that have neither its data nor its networks."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from harness import given

if TYPE_CHECKING:
    from harness.storage.pack import Packed
    from harness.storage.unpack import Unpacked
    from harness.study.schema import Study

AnyPath = str | PathLike[str]


def pack(study: Study | Sequence[Study], out: AnyPath | None = None, *, weights: bool = True) -> Packed:
    """Write a study as one zip that opens on machines without its data and networks: its file, runs and reports.

    After `unzip`, or `unpack`, status, report, sample and plan work there as here; training needs the data. Data,
    training states and MLflow's database are not in the zip; passwords are hidden. Equal studies give equal bytes.

    Args:
        study: From `load`; or one file's studies under several profiles.
        out: The zip to write; an earlier pack is replaced, nothing else is. None: named after the study, in the
            current folder.
        weights: Whether the generators of the runs are in it.

    Returns:
        What was packed: `.path`, `.bytes`, `.runs`, `.running` and `.left_out`.

    Raises:
        HarnessError: Data or weights are missing, the study's file or code cannot do without a password, a run would
            not be whole in it, or `out` is a file that is no pack, or one that has runs where the new one has none.

    Example:
        print(harness.pack(harness.load("ablations.yaml")).bytes)
    """
    from harness.grid.prepare import first_weights as compare
    from harness.storage.pack import pack as write
    from harness.storage.pack_facts import make_record
    from harness.study.plan import make_plan

    studies = list(study) if isinstance(study, Sequence) else [study]
    for each in studies:
        given.check_study(each)
    plans = [make_plan(each) for each in studies]
    layers = [{made.runs_of(made.cell(cell))[0].id: it for cell, it in compare(made).items()} for made in plans]
    records = [make_record(made, each, weights) for made, each in zip(plans, layers, strict=True)]
    name = studies[0].label if len(studies) == 1 else studies[0].name
    return write(plans, records, Path(f"{name}.zip" if out is None else out), weights)


def unpack(path: AnyPath, folder: AnyPath | None = None) -> Unpacked:
    """Open a pack, whoever made it: nothing is overwritten, run or written outside the new folder.

    Args:
        path: The zip that `pack` wrote.
        folder: The folder to make; None: named after the zip, in the current folder.

    Returns:
        What was unpacked: `.folder`, `.study`, `.labels`, and `.code` of the study's own.

    Raises:
        HarnessError: The zip is no pack, is damaged, or holds what it must not; or the folder holds something.

    Example:
        study = harness.load(harness.unpack("mine.zip").study)
    """
    from harness.storage.unpack import unpack as write

    given.check_path("path", path)
    return write(Path(path), Path(Path(path).stem if folder is None else folder))
