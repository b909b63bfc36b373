"""What no worker could train, and where none could be started, is refused before anything is submitted."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from harness.code.engine import today
from harness.errors import HarnessError
from harness.executors.job import AskedStudy, Job, JobFolder
from harness.executors.places import unusable
from harness.executors.room import misfits
from harness.grid import work
from harness.grid.submit import Submission
from harness.scheduler import slots
from harness.scheduler.gpus import Gpu
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.resources import RayResources, Resources, SlurmResources
from harness.text import escaped
from searched import name_for_content

STUDY = """study: s
resources:
  gpus_per_run: 2
  slurm: {gpus: 1}
"""


def resources(engine: str, gpus: int, cpus: int, **asked: Any) -> Resources:
    slurm, ray = SlurmResources(gpus=gpus, cpus=cpus), RayResources(gpus=gpus, cpus=cpus)
    return Resources(executor=engine, slurm=slurm, ray=ray, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["slurm", "ray"])
def test_what_is_refused_is_what_a_worker_would_refuse(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 0
    for gpus, cpus, together, sharing, asked in product((0, 1, 2, 3, 4), (1, 4), (1, 2, 4), (1, 2), ("auto", 1, 2, 4)):
        cards = tuple(Gpu(f"GPU-{number}") for number in range(gpus))
        monkeypatch.setattr(slots, "listed_gpus", lambda cards=cards: cards)
        monkeypatch.setattr(slots, "core_count", lambda: 64)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        wanted = resources(engine, gpus, cpus, gpus_per_run=together, runs_per_gpu=sharing, slots=asked)
        told = [each for each in misfits(wanted, {}) if each.fix]
        try:
            slots.find_slots(wanted.slots, sharing, together, cpus)
            assert not told, (wanted, told)
        except HarnessError:
            assert len(told) == 1, wanted
            refused += 1
    assert refused > 50


def test_what_would_be_left_unused_is_told_and_not_refused() -> None:
    (left,) = misfits(resources("slurm", 3, 1, gpus_per_run=2), {})
    assert (left.fix, left.caveat) == ("", True) and "1 of a worker's 3 GPUs would get no run" in left.detail
    (none,) = misfits(resources("ray", 0, 1, gpus_per_run=2), {})
    assert (none.fix, none.caveat) == ("", True) and "2 processes train each run on the processor" in none.detail


def test_of_what_is_asked_for_in_other_words_nothing_is_known() -> None:
    asked = Resources(
        executor="slurm", gpus_per_run=2, slots=4, slurm=SlurmResources(gpus=1, extra=("--gres=gpu:a100:4",))
    )
    assert not [*misfits(asked, {})] and not [*misfits(Resources(executor="folder", gpus_per_run=4), {})]


def test_it_is_refused_with_its_places_and_without_asking_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_for_content(monkeypatch)
    (tmp_path / "s.yaml").write_text(STUDY)
    plan = make_plan(load_study(tmp_path / "s.yaml", None, ["resources.executor=slurm"]))

    class Asked:
        name, look_s, outlives_caller = "slurm", 1.0, True

    with pytest.raises(HarnessError) as caught:
        Submission(plan, Asked()).train(plan.runs, plan.runs, None)  # type: ignore[arg-type]
    assert str(caught.value).replace(str(tmp_path), "") == (
        "/s.yaml:3:17: resources.gpus_per_run: a run needs 2 GPUs, and a worker is granted 1: "
        "/s.yaml:4:17: resources.slurm.gpus is 1; "
        "ask for 2 or a multiple of it in resources.slurm.gpus, or for fewer GPUs a run"
    )
    assert not plan.study.root.exists()


@pytest.mark.parametrize(
    ("name", "engine", "why"),
    [
        ("d:c", "folder", "':' in a path ends an entry of PYTHONPATH, by which workers find their code"),
        ("d:c", "ray", "':' in a path ends an entry of PYTHONPATH, by which workers find their code"),
        ("a\\b", "slurm", "Slurm cannot name the logs of workers in a path with a backslash, a line end or the like"),
        ("a\nb", "slurm", "Slurm cannot name the logs of workers in a path with a backslash, a line end or the like"),
    ],
)
def test_a_folder_in_which_no_worker_could_be_started_is_refused_before_a_job_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, engine: str, why: str
) -> None:
    name_for_content(monkeypatch)
    (tmp_path / name).mkdir()
    (tmp_path / name / "s.yaml").write_text("study: s\n")
    plan = make_plan(load_study(tmp_path / name / "s.yaml", None, [f"resources.executor={engine}"]))

    class Asked:
        look_s, outlives_caller = 1.0, True

    Asked.name = engine  # type: ignore[attr-defined]
    with pytest.raises(HarnessError) as caught:
        Submission(plan, Asked()).train(plan.runs, plan.runs, None)  # type: ignore[arg-type]
    assert (
        str(caught.value)
        == f"{escaped(str(plan.study.root))}: {why}; rename the folder, or move the study to another one"
    )
    assert not plan.study.root.exists()


def test_all_other_characters_of_a_path_are_fit() -> None:
    assert not [*unusable(Path("/a b%a'c#$Ä/runs/s"), "slurm"), *unusable(Path("/a\\b/runs/s"), "ray")]


def execve(*words: object) -> None:
    raise AssertionError("it starts itself again")


def test_a_job_that_was_copied_out_of_its_runs_is_refused_before_a_worker_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "execve", execve)
    made = tmp_path / "runs" / "s" / ".jobs" / "1"
    copy = JobFolder(tmp_path / "copy")
    copy.path.mkdir()
    asked = AskedStudy(str(tmp_path / "study.yaml"), None, (), ())
    for folder, where in (("", ""), (str(made), f", which was made as {made}")):
        copy.write(Job(asked, Resources(), 1, today(), folder=folder))
        with pytest.raises(HarnessError, match=f"copy: is a copy of a job{where}, without the study's runs beside it;"):
            work.work(copy.path, work.Place())
        assert copy.workers() == []


def test_a_worker_never_starts_itself_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(HarnessError, match="d:c/runs/s: ':' in a path ends an entry of PYTHONPATH"):
        work._go_over_to(JobFolder(tmp_path / "d:c" / "runs" / "s" / ".jobs" / "1"))
    folder = JobFolder(tmp_path / "runs" / "s" / ".jobs" / "1")
    monkeypatch.setenv("PYTHONPATH", folder.environment["PYTHONPATH"])
    with pytest.raises(HarnessError, match="is the copy there"):
        work._go_over_to(folder)
