"""Which machine and packages trained a run: noted by its own process, told in MLflow and reports, no part of its id."""

from __future__ import annotations

import csv
import io
import platform
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fake_mlflow import Server, served
from fakes import make_run
from harness.code.engine import Engine
from harness.report.data_files import runs_csv
from harness.report.document.markdown import markdown
from harness.report.document.model import plain
from harness.report.made_by import by_machine, by_sharing
from harness.report.write import build
from harness.runs.folders import RunFolder
from harness.runs.machine import Machine
from harness.runs.record import RunRecord
from harness.runs.snapshot import Snapshot
from harness.tracking.mirror import sync
from harness.training.cost import hardware
from mirrored import make_folder
from reported import material_of, records_of, study_of

A = Machine("n1", "NVIDIA A100", {"python": "3.11.7", "torch": "2.11.0"})
TWIN = replace(A, host="n2")
OTHER = replace(A, host="n3", device="NVIDIA H100")
NEWER = replace(A, versions={**A.versions, "torch": "2.12.0"})
ENGINE = Engine("t", "m")


def trained(records: Sequence[RunRecord], *machines: Machine) -> list[RunRecord]:
    """The records, the first trained by all of these machines but the first, the others by the first alone."""
    first, *others = [replace(record, run=replace(record.run, machines=machines[:1])) for record in records]
    return [replace(first, run=replace(first.run, machines=machines[1:] or machines)), *others]


def test_this_process_notes_what_it_has() -> None:
    here = hardware("cpu", 2)
    assert here.threads == torch.get_num_threads()
    assert here.host == socket.gethostname() and here.versions["torch"] == torch.__version__
    assert here.versions["python"] == platform.python_version() and "numpy" in here.versions
    cpu_info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: *(.+)", cpu_info.read_text()) if cpu_info.exists() else None
    assert here.device == (model[1].strip() if model else platform.processor() or platform.machine())


def test_a_run_that_goes_on_has_all_machines_and_one_that_begins_anew_has_its_own(tmp_path: Path) -> None:
    run = make_run("origin")
    folder = RunFolder(tmp_path / run.id)
    folder.create(run)
    for machine, goes_on, noted in (
        (A, False, (A,)),
        (OTHER, True, (A, OTHER)),
        (A, True, (A, OTHER)),
        (TWIN, False, (TWIN,)),
    ):
        folder.made_by(ENGINE, machine, goes_on=goes_on)
        assert folder.run().machines == noted
    folder.made_by(Engine("t2", "m"))
    assert folder.run().machines == (TWIN,)
    folder.create(run)
    assert folder.run().machines == (TWIN,) and folder.run().engine.training == "t2"
    second = make_run("origin", 1)
    RunFolder(tmp_path / second.id).create(second)
    RunFolder(tmp_path / second.id).made_by(ENGINE, OTHER)
    its = [record.run.machines for record in Snapshot(tmp_path, [run, second]).records]
    assert its == [(TWIN,), (OTHER,)], "runs of one cell, whose settings are read once"


def test_a_report_tells_what_differs_and_nothing_where_only_names_do(tmp_path: Path) -> None:
    records = records_of(study_of(tmp_path))
    count = len(records)
    name = f"{records[0].run.cell} seed {records[0].run.seed}"

    def told(*machines: Machine) -> list[str]:
        return [plain(line) for line in by_machine(record.run for record in trained(records, *machines))]

    assert by_machine(record.run for record in records) == told(A) == told(A, TWIN) == told(A, A, TWIN) == []
    (line,) = told(A, OTHER)
    assert line.startswith(
        f"Not all runs were trained on the same device: {count - 1} on NVIDIA A100; {name} on NVIDIA H100. Rounding"
    )
    (line,) = told(A, A, OTHER)
    assert f"{name} on NVIDIA A100, then NVIDIA H100." in line
    (line,) = told(A, NEWER)
    assert line == f"Not all training was done by the same torch: {count - 1} by 2.11.0; {name} by 2.12.0."
    one, two = (replace(A, device="Xeon", kind="cpu", threads=count) for count in (1, 2))
    assert told(one) == told(replace(one, threads=0)) == [] and "threads" not in told(one, A)[0]
    (line,) = told(one, two)
    begin = f"Not all runs had the same number of processor threads: {count - 1} with 1; {name} with 2. The last"
    assert line.startswith(begin)
    (line,) = told(one, one, two)
    assert f"; {name} with 1, then 2. " in line, "a run that went on with another number"
    every = [replace(record.run, machines=(A, NEWER)) for record in records]
    assert list(map(plain, by_machine(every))) == [
        f"Not all training was done by the same torch: {count} by 2.11.0, then 2.12.0."
    ]


def test_a_report_says_that_times_are_of_runs_that_shared_gpus(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    first, *rest = trained(records_of(study), A)
    assert by_sharing([first.status]) == ""
    first = replace(first, status=replace(first.status, sharing="up to 2 runs at a time, as asked for, by MPS"))
    page = markdown(build(material_of(study, [first, *rest])))
    assert f"1 run of {len(rest) + 1} could share a GPU with others, which slows each of them down" in page


def test_reports_and_tables_name_the_machines(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    records = trained(records_of(study), A, A, replace(OTHER, versions=NEWER.versions))
    page = markdown(build(material_of(study, records)))
    assert f"{len(records)} runs trained on NVIDIA A100 (n1)" in page and "1 run trained on NVIDIA H100 (n3)" in page
    assert "Not all runs were trained on the same device" in page and "2.11.0, then 2.12.0" in page
    first, second, *_ = csv.DictReader(io.StringIO(runs_csv(records, study.toggle_names)))
    assert (first["device"], first["torch"]) == ("NVIDIA A100; NVIDIA H100", "2.11.0; 2.12.0")
    assert (second["device"], second["torch"]) == ("NVIDIA A100", "2.11.0")


def test_mlflow_has_them_as_tags(tmp_path: Path) -> None:
    study, server = study_of(tmp_path), Server()
    with served(server):
        run, folder = make_folder(study, "origin", 0, steps=2)
        folder.made_by(ENGINE, A)
        folder.made_by(ENGINE, replace(OTHER, versions=NEWER.versions), goes_on=True)
        folder.update(state="done", step=2)
        sync(study, study.root, [run])
        (child,) = server.children()
        assert (child.tags["device"], child.tags["torch"]) == ("NVIDIA A100, then NVIDIA H100", "2.11.0, then 2.12.0")
