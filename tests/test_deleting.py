"""`harness rm`: what it said goes, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim
from harness.scheduler.ownership import Ownership
from harness.storage import folders
from harness.storage.folders import identify, stored_runs
from harness.study.plan import Plan
from kept import CODE, content, disk, earlier, harness, hold, ids, lay, plan

__all__ = ["harness", "hold", "plan"]


def test_a_dry_run_changes_nothing_and_yes_deletes_what_it_said(plan: Plan, harness: Any) -> None:
    root, gone = plan.study.root, plan.runs[1].id
    before = content(root)
    code, out, err = harness("rm", "ablations.yaml", "origin/1")
    assert code == 0 and gone in out and "1 run, " in out and "nothing is deleted without --yes" in out
    assert content(root) == before and "report" not in out
    code, out, err = harness("rm", "ablations.yaml", "origin/1", "--yes", "--set", "train.batch=64")
    assert code == 2 and "of earlier settings" in err and content(root) == before
    code, out, err = harness("rm", "ablations.yaml", "origin/1", "--yes")
    assert code == 0 and "deleted 1 run, " in out
    assert content(root) == {path: data for path, data in before.items() if not path.startswith(gone)}
    assert sorted(path.name for path in root.iterdir()) == sorted(run.id for run in (plan.runs[0], plan.runs[2]))
    assert "`harness report ablations.yaml`" in out and "`harness run-grid ablations.yaml`" in out


@pytest.mark.parametrize("told", [(), ("-q",)])
def test_what_gc_could_not_delete_is_an_error(
    plan: Plan, harness: Any, monkeypatch: pytest.MonkeyPatch, told: tuple[str, ...]
) -> None:
    root, rename = plan.study.root, os.rename
    readonly = {"checkpoint"}

    def renamed(name: str, new: str, **folders: int) -> None:
        if name in readonly:
            raise OSError(errno.EROFS, "Read-only file system")
        if name == "checkpoint":
            readonly.add(name)
        rename(name, new, **folders)

    monkeypatch.setattr(os, "rename", renamed)
    code, out, err = harness("gc", "ablations.yaml", "--yes", *told)
    assert code == 2 and "deleted 0 of 2 files and folders, 0 bytes" in out
    for run in plan.runs[:2]:
        said = f"{root / run.id / 'checkpoint'}: cannot be deleted (Read-only file system)"
        assert said.replace(" ", "") in "".join(err.split())
    readonly.clear()
    code, out, err = harness("gc", "ablations.yaml", "--yes", *told)
    assert code == 2 and "deleted 1 of 2 files and folders, 45.1 kB" in out and plan.runs[1].id in err
    shutil.rmtree(root / plan.runs[1].id)
    (root / ".empty.1-ab.tmp").touch()
    monkeypatch.setattr("harness.storage.garbage.is_abandoned", lambda *about: True)
    _, out, _ = harness("gc", "ablations.yaml")
    assert "1 file or folder, 0 bytes: nothing is deleted without --yes" in out


def test_what_to_run_next_is_about_the_same_study(plan: Plan, harness: Any) -> None:
    _, out, _ = harness("rm", "ablations.yaml", "origin/1", "--yes", "--set", "resources.slots=3")
    assert "`harness report ablations.yaml --set resources.slots=3`" in out
    lay(plan.study.root, earlier(plan.runs[1]))
    assert "report" not in harness("rm", "ablations.yaml", "--unplanned", "--yes")[1], "it told of no such run"


def test_runs_of_another_study_in_the_folder_go_by_their_ids_alone(plan: Plan, harness: Any) -> None:
    root, other = plan.study.root, replace(earlier(plan.runs[0]), study="other")
    lay(root, other)
    before = content(root)
    for words in (("--unplanned",), ("--state", "failed"), ("--unplanned", "--state", "done")):
        code, out, err = harness("rm", "ablations.yaml", *words)
        assert code == 0 and other.id not in out
        assert f"{root}: 1 run of another study (other) left alone; ids alone delete them" in err.replace("\n", "")
    assert harness("rm", "ablations.yaml", "--unplanned", "--yes")[0] == 0 and content(root) == before
    code, out, err = harness("rm", "ablations.yaml", other.id, "--yes")
    assert code == 0 and not (root / other.id).exists() and "left alone" not in err


def test_a_run_that_a_living_scheduler_holds_is_refused_by_name(plan: Plan, harness: Any, hold: Any) -> None:
    root, before = plan.study.root, content(plan.study.root)
    process = hold(root / plan.runs[1].id)
    for words in (("origin",), ("origin", "--yes"), ("--state", "done", "--yes")):
        code, out, err = harness("rm", "ablations.yaml", *words)
        assert (code, out) == (2, "") and f"origin/1 ({plan.runs[1].id}): held by " in err
        assert f":{process.pid}" in err
    left = content(root)
    assert left.pop(f"{plan.runs[1].id}/claim") and left == before
    process.kill()
    process.wait()
    assert harness("rm", "ablations.yaml", "origin/1", "--yes")[0] == 0, "its holder is dead"
    assert not (root / plan.runs[1].id).exists()


def test_while_a_run_is_deleted_nobody_can_begin_it(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    root, run = plan.study.root, plan.runs[0].id
    taken = []

    def watched(root: Path, name: str) -> str:
        taken.append(Claim(root / name).take())
        return original(root, name)

    original = folders.set_aside
    monkeypatch.setattr(folders, "set_aside", watched)
    folders.delete(root, run)
    assert taken == [False] and not (root / run).exists()


def test_one_that_is_taken_meanwhile_is_left_alone(plan: Plan, hold: Any) -> None:
    root, run = plan.study.root, plan.runs[0].id
    hold(root / run)
    before = content(root)
    with pytest.raises(HarnessError, match=f"{run}: held by .*stop that run-grid first"):
        folders.delete(root, run)
    assert content(root) == before


def test_an_interrupted_deletion_leaves_no_run(plan: Plan) -> None:
    root, run = plan.study.root, plan.runs[0].id
    program = f"""
import os, shutil, signal
from pathlib import Path
from harness.storage import folders
shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
folders.delete(Path({str(root)!r}), {run!r})
"""
    before = disk(root)
    assert subprocess.run([sys.executable, "-c", program], cwd=CODE).returncode == -9
    found = stored_runs(plan)
    assert ids(found) == [each.id for each in plan.runs[1:3]] and found.not_ours == {}
    assert found.rest + sum(kept.bytes for kept in found.runs) == disk(root) >= before
    assert plan.states()[run] == "pending"


def test_a_run_that_is_deleted_while_it_is_queued_begins_anew(plan: Plan) -> None:
    root, run = plan.study.root, plan.runs[2]
    ownership = Ownership(root, 1.0, {})
    assert ownership.enter(run)
    folders.delete(root, run.id)
    assert ownership.take(run.id)
    try:
        assert identify(root, run.id).seed == run.seed and ownership.statuses[run.id].state == "pending"
    finally:
        ownership.drop_all()


def test_a_run_that_is_deleted_while_it_is_under_way_keeps_how_it_ended(
    plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    root, run = plan.study.root, plan.runs[2]
    ownership = Ownership(root, 1.0, {})
    assert ownership.enter(run) and ownership.take(run.id)
    try:
        ownership.write(run.id, state="running", attempt=2)
        shutil.rmtree(root / run.id)
        ownership.write(run.id, state="failed", failure="data", error="was deleted")
        status = RunFolder(root / run.id).status()
        assert identify(root, run.id).seed == run.seed and not caplog.records
        assert (status.state, status.attempt, status.error) == ("failed", 2, "was deleted")
        shutil.rmtree(root)
        ownership.write(run.id, state="interrupted")
        assert not root.exists(), "a study that is gone as a whole, or a disk that is, is not begun anew"
        assert "No such file or directory; the states of runs are kept in memory until" in caplog.text
    finally:
        ownership.drop_all()


def test_that_states_cannot_be_written_is_told_once_and_they_are_written_later(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, (first, second) = plan.study.root, plan.runs[1:3]
    folders.delete(root, first.id)
    ownership = Ownership(root, 1.0, {})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    try:
        for run in (first, second):
            assert ownership.enter(run) and ownership.take(run.id)
        for times in (1, 2):
            with monkeypatch.context() as patch:
                patch.setattr(RunFolder, "update", full)
                for run in (first, second):
                    ownership.write(run.id, state="interrupted", attempt=times)
                    ownership.look(set())
                ownership.look(set())
            assert [record.message.partition("; ")[0] for record in caplog.records] == [
                f"{root}: No space left on device"
            ] * times
            ownership.look(set())
            assert [RunFolder(root / run.id).status().attempt for run in (first, second)] == [times] * 2
    finally:
        ownership.drop_all()


def strangers(root: Path, outside: Path, plan: Plan) -> dict[str, str]:
    """Puts beside the runs what looks like some, and returns what each is."""
    (root / "notes").mkdir()
    (root / "notes" / "mine.txt").write_text("mine")
    moved = lay(root, earlier(plan.runs[0], seed=40)).rename(root / "0123456789ab")
    lay(outside, earlier(plan.runs[0], seed=41))
    linked = earlier(plan.runs[0], seed=41).id
    (root / linked).symlink_to(outside / linked)
    lay(root, earlier(plan.runs[0], seed=42)).joinpath("run.json").write_text('{"id": ')
    lay(root, earlier(plan.runs[0], seed=43)).joinpath("run.json").write_text("[]")
    half = lay(root, earlier(plan.runs[0], seed=44))
    told = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps({**told, "fingerprints": None}))
    return {
        "notes": "no run.json",
        moved.name: f"is that of {earlier(plan.runs[0], seed=40).id!r}",
        linked: "a link",
        earlier(plan.runs[0], seed=42).id: "run.json",
        earlier(plan.runs[0], seed=43).id: "",
        half.name: "fingerprints",
    }


def test_what_is_not_ours_is_shown_and_left_alone(plan: Plan, harness: Any, tmp_path: Path) -> None:
    root = plan.study.root
    told = strangers(root, tmp_path / "outside", plan)
    names = {path for path in content(tmp_path) if set(path.split("/")) & told.keys() or path.startswith("outside")}
    before = content(tmp_path)
    found = stored_runs(plan)
    assert found.not_ours.keys() == told.keys() and ids(found) == [run.id for run in plan.runs[:3]]
    assert all(told[name] in why for name, why in found.not_ours.items())
    _, _, err = harness("ls")
    assert all(f"runs/tiny/{name}: " in err.replace("\n", "") for name in told)
    for name in told:
        assert harness("rm", "ablations.yaml", name, "--yes")[0] == 2
        with pytest.raises(HarnessError):
            folders.delete(root, name)
    assert content(tmp_path) == before
    harness("rm", "ablations.yaml", "--unplanned", "--yes")
    for state in ("done", "failed", "damaged"):
        harness("rm", "ablations.yaml", "--state", state, "--yes")
    after = content(tmp_path)
    assert ids(stored_runs(plan)) == [] and len(names) > 20
    assert all(after[path] == before[path] for path in names)


def test_a_run_whose_status_is_damaged_can_be_deleted(plan: Plan, harness: Any) -> None:
    (plan.study.root / plan.runs[0].id / "status.json").write_text("{")
    assert stored_runs(plan).runs[0].state == "damaged"
    assert harness("rm", "ablations.yaml", "--state", "damaged", "--yes")[0] == 0
    assert ids(stored_runs(plan)) == [run.id for run in plan.runs[1:3]]
