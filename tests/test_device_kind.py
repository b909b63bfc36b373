"""A run begun on a processor goes on on processors alone, and one begun on a GPU on GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import executed
from executed import RUN, STEPS, At, execute, install, left
from fakes import make_run
from harness.code.engine import Engine
from harness.errors import HarnessError
from harness.grid import run as grid
from harness.grid import tune, work
from harness.grid.search_work import work_on_search
from harness.report.document.model import plain
from harness.report.made_by import by_machine
from harness.runs.device_kind import begun_on, refuse_other_kind
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim, ClaimCheck
from harness.runs.machine import Kind, Machine
from harness.scheduler.slots import Slot
from harness.training import session

ENGINE = Engine("t", "m")
GPU = Slot(0, "GPU-aaaa", 1)


def machine(kind: Kind | str) -> Machine:
    return Machine("n1", {"cuda": "NVIDIA H100", "cpu": "Xeon"}.get(kind, "something"), {}, kind)  # type: ignore[arg-type]


def begun(root: Path, *kinds: str, state: bool = True) -> RunFolder:
    """A run that was trained by machines of these kinds, one after the other, and has a training state."""
    folder = RunFolder(root / RUN.id)
    folder.create(RUN)
    for place, kind in enumerate(kinds):
        folder.made_by(ENGINE, machine(kind), goes_on=place > 0)
    (folder.path / "checkpoint").mkdir(exist_ok=True)
    if state:
        (folder.path / "checkpoint" / "000000004.safetensors").touch()
    return folder


@pytest.mark.parametrize(
    ("kinds", "here", "way"),
    [
        (("cpu",), "cuda", "begun on the processor, .* a GPU, the device here; go on with CUDA_VISIBLE_DEVICES="),
        (("cuda",), "cpu", "begun on a GPU, .* the processor, the device here; go on where a GPU is free"),
        (("cpu", "cuda"), "cpu", "begun on a GPU"),
        (("cuda", ""), "cpu", "begun on a GPU"),
    ],
)
def test_another_kind_is_refused_by_name_with_the_ways_to_go_on(
    tmp_path: Path, kinds: tuple[str, ...], here: Kind, way: str
) -> None:
    begun(tmp_path, *kinds)
    with pytest.raises(HarnessError, match=f"{RUN.cell} seed 0: {way}.* `harness rm STUDY {RUN.cell}/0`"):
        refuse_other_kind(tmp_path, [make_run("origin"), RUN], here)


def test_what_begins_anew_is_of_the_same_kind_or_of_none_that_was_noted_is_not_refused(tmp_path: Path) -> None:
    begun(tmp_path / "anew", "cuda", state=False)
    begun(tmp_path / "same", "cuda", "cpu")
    begun(tmp_path / "earlier", "")
    for name in ("anew", "same", "earlier"):
        refuse_other_kind(tmp_path / name, [RUN], "cpu")
    refuse_other_kind(tmp_path / "earlier", [RUN], "cuda")


def test_runs_in_the_hands_of_another_scheduler_are_its_own_concern(tmp_path: Path) -> None:
    claim = Claim(begun(tmp_path, "cuda").path)
    assert claim.take()
    try:
        refuse_other_kind(tmp_path, [RUN], "cpu")
    finally:
        claim.drop()
    with pytest.raises(HarnessError):
        refuse_other_kind(tmp_path, [RUN], "cpu")


def test_the_process_of_a_run_refuses_before_it_loads_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr, At({("prepare", 0): lambda: pytest.fail("data were loaded")}))
    folder = begun(tmp_path, "cuda")
    before = folder.run()
    with pytest.raises(HarnessError, match="begun on a GPU"):
        execute(folder.path)
    assert folder.run() == before and [path.name for path in (folder.path / "checkpoint").iterdir()]
    begun(tmp_path / "other", "cpu")
    with pytest.raises(HarnessError, match="begun on the processor"):
        session.execute(tmp_path / "other" / RUN.id, GPU, ClaimCheck(tmp_path / "other" / RUN.id, ""))


def test_a_run_of_an_earlier_version_goes_on_once_told_and_is_of_this_kind_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch.setattr)
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(session, "CHECKPOINT_SHARE", 1e9)

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as first:
        install(first.setattr, At({("step", 5): stop}))
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path / RUN.id)
    folder = RunFolder(tmp_path / RUN.id)
    assert begun_on(folder.run()) == "cpu" and executed.steps(folder.path)
    (noted,) = folder.run().machines
    folder.made_by(folder.run().engine, replace(noted, kind=""))
    assert begun_on(folder.run()) is None
    capsys.readouterr()
    assert execute(folder.path) == 0
    assert "on the processor; an earlier version began it, and did not note on what" in capsys.readouterr().err
    assert begun_on(folder.run()) == "cpu" and left(folder.path)["state"][0] == f"{STEPS:09d}.safetensors"


def test_every_command_that_trains_asks_before_anything_runs() -> None:
    for command in (grid._Call._train, grid._retrain, work._train, tune._slots, work_on_search):
        assert "refuse_other_kind" in command.__code__.co_names, command


def test_the_report_says_that_a_seed_is_not_paired_across_kinds() -> None:
    runs = [replace(make_run(cell), machines=(machine(kind),)) for cell, kind in (("origin", "cpu"), ("full", "cuda"))]
    (line,) = map(plain, by_machine(runs))
    assert "1 on Xeon; full seed 0 on NVIDIA H100." in line and "so runs of one seed are not paired here" in line
    (same,) = map(
        plain, by_machine([runs[1], replace(runs[0], machines=(replace(machine("cuda"), device="NVIDIA A100"),))])
    )
    assert "paired" not in same
