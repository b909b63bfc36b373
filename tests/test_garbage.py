"""`harness gc`: what no run needs goes, and whatever a run or a study may still read stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.cli import main
from harness.code.engine import loaded
from harness.files import write_json
from harness.runs.lease import Claim
from harness.runs.record import Run, State
from harness.runs.scale import scale_name
from harness.storage import garbage
from harness.storage.caches import Reads, needed, reads_of, register
from harness.storage.folders import stored_runs
from harness.storage.garbage import Garbage, Removable
from harness.study.plan import Plan
from kept import KIB, STUDY, content, disk, earlier, encoded, harness, lay, plan_in, prepared

__all__ = ["harness"]
LATER = garbage.YOUNG_S + 3600
STATES: tuple[State, ...] = ("done", "diverged", "failed", "interrupted", "pending", "running")


@pytest.fixture(autouse=True)
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of eight runs in a folder of its own, whose data set and encoders need not be read."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_PROFILE", raising=False)
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda source, resolution: "data")
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: name)
    return plan_in(tmp_path / "mine")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def found(plan: Plan, after: float = LATER) -> Garbage:
    return garbage.find(plan, stored_runs(plan), time.time() + after)


def told(pieces: Sequence[Removable], kind: str) -> list[str]:
    return ["/".join(piece.names) for piece in pieces if piece.kind == kind]


def clean(plan: Plan, after: float = LATER) -> list[str]:
    """Delete what can go; why some of it did not."""
    return garbage.delete(found(plan, after).pieces)[1]


def encoder(run: Run) -> str:
    return next(value for name, value in run.fingerprints.items() if name != "data")


def test_only_finished_runs_lose_their_states_and_nothing_else(plan: Plan) -> None:
    root = plan.study.root
    for run, state in zip(plan.runs, STATES, strict=False):
        lay(root, run, state)
    lay(root, earlier(plan.runs[0]), "done")
    before = content(root)
    made = found(plan)
    finished = [plan.runs[0].id, plan.runs[1].id, earlier(plan.runs[0]).id]
    assert [piece.kind for piece in made.pieces] == ["checkpoints"] * 3
    assert told(made.pieces, "checkpoints") == [f"{name}/checkpoint" for name in finished]
    assert [piece.bytes for piece in made.pieces] == [disk(root / name / "checkpoint") for name in finished]
    assert content(root) == before, "to look is not to touch"
    assert garbage.delete(made.pieces) == (list(made.pieces), [])
    states = {f"{name}/checkpoint/000000010.safetensors" for name in finished}
    assert content(root) == {path: data for path, data in before.items() if path not in states}
    assert found(plan).pieces == ()


def test_the_dry_run_says_what_yes_then_does(plan: Plan, harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    root = plan.study.root
    lay(root, plan.runs[0])
    before = content(root)
    code, out, _ = harness("gc", "ablations.yaml")
    assert code == 0 and content(root) == before
    assert "checkpoints       1   45.1 kB   of runs that are done" in out
    assert "1 file or folder, 45.1 kB: nothing is deleted without --yes" in out
    code, out, _ = harness("gc", "ablations.yaml", "--yes")
    assert (
        code == 0
        and "deleted 1 file or folder, 45.1 kB" in out
        and not (root / plan.runs[0].id / "checkpoint").exists()
    )
    assert harness("gc", "ablations.yaml", "--yes")[1] == "nothing to delete\n"


def test_a_held_run_is_left_alone_and_said(plan: Plan, harness: Any) -> None:
    root = plan.study.root
    folders = [lay(root, run) for run in plan.runs[:2]]
    (folders[0] / "checkpoint" / ".0.safetensors.1-ab.tmp").write_text("half")
    claim = Claim(folders[0])
    made = found(plan)
    assert len(told(made.pieces, "checkpoints")) == 2
    assert claim.take()
    try:
        assert told(found(plan).pieces, "checkpoints") == [f"{plan.runs[1].id}/checkpoint"]
        assert told(found(plan).pieces, "leftovers") == []
        (remark,) = found(plan).remarks
        assert remark.startswith(f"origin/0 ({plan.runs[0].id}): held by ")
        went, (failed,) = garbage.delete(made.pieces)
        assert told(went, "checkpoints") == [f"{plan.runs[1].id}/checkpoint"] and "held by" in failed
        assert (folders[0] / "checkpoint" / "000000010.safetensors").exists()
    finally:
        claim.drop()


def test_damaged_states_of_an_unfinished_run_go_and_sound_ones_stay(plan: Plan) -> None:
    folder = lay(plan.study.root, plan.runs[0], "failed")
    (folder / "checkpoint" / "000000020.safetensors.damaged").write_bytes(b"x" * 5000)
    assert told(found(plan).pieces, "damaged states") == [f"{plan.runs[0].id}/checkpoint/000000020.safetensors.damaged"]
    assert clean(plan) == []
    assert [path.name for path in (folder / "checkpoint").iterdir()] == ["000000010.safetensors"]


def test_leftovers_of_the_dead_go_after_an_hour(plan: Plan, cache: Path) -> None:
    root = plan.study.root
    folder = lay(root, plan.runs[0], "failed")
    (dead := subprocess.Popen(["true"])).wait()
    gone = f".gone-3f2a9c41d07b.{dead.pid}-0a1b"
    (root / gone / "checkpoint").mkdir(parents=True)
    (root / gone / "checkpoint" / "1.safetensors").write_bytes(b"x" * 20 * KIB)
    places = ("", f"{folder.name}/", f"{folder.name}/checkpoint/", f"{folder.name}/samples/")
    paths = [f"{place}.some.file.{dead.pid}-0a1b.tmp" for place in places]
    for path in paths:
        (root / path).write_bytes(b"half")
    mine = root / f".grid.json.{os.getpid()}-0a1b.tmp"
    mine.write_text("being written")
    (cache / "features" / "0123456789abcdef").mkdir(parents=True)
    (cache / "features" / "0123456789abcdef" / f".about.json.{dead.pid}-0e.tmp").write_text("half")
    before = content(root)
    assert found(plan, 3000).pieces == ()
    of_cache = f"features/0123456789abcdef/.about.json.{dead.pid}-0e.tmp"
    assert sorted(told(found(plan, 4000).pieces, "leftovers")) == sorted([gone, *paths, of_cache])
    assert clean(plan, 4000) == []
    assert content(root) == {path: data for path, data in before.items() if path not in paths and gone not in path}
    assert mine.exists() and not (root / gone).exists()


def test_links_are_left_alone(plan: Plan, tmp_path: Path, cache: Path) -> None:
    root, outside = plan.study.root, tmp_path / "outside"
    shutil.move(lay(root, plan.runs[0]) / "checkpoint", outside / "states")
    (root / plan.runs[0].id / "checkpoint").symlink_to(outside / "states")
    shutil.move(lay(root, plan.runs[1], "failed") / "samples", outside / "samples")
    (root / plan.runs[1].id / "samples").symlink_to(outside / "samples")
    (outside / "samples" / ".1.png.1-ab.tmp").write_text("half")
    (root / ".gone-x.1-ab").symlink_to(outside)
    shutil.move(prepared(cache, "unread"), outside / "data")
    (cache / "data" / ("0" * 32)).symlink_to(outside / "data")
    shutil.move(encoded(cache, "unread", "network"), outside / "features")
    (cache / "features").rmdir()
    (cache / "features").symlink_to(outside)
    before = content(tmp_path)
    made = found(plan)
    assert made.pieces == () and made.remarks == (f"{root / plan.runs[0].id / 'checkpoint'}: a link is left alone",)
    assert content(tmp_path) == before


def test_one_that_becomes_a_link_meanwhile_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    folder = lay(plan.study.root, plan.runs[0])
    pieces = found(plan).pieces
    shutil.move(folder / "checkpoint", tmp_path / "outside")
    (folder / "checkpoint").symlink_to(tmp_path / "outside")
    before = content(tmp_path)
    went, (failed,) = garbage.delete(pieces)
    assert went == [] and "a link is left alone" in failed and content(tmp_path) == before


def test_an_interrupted_cleaning_leaves_the_run_whole(plan: Plan) -> None:
    root, folder = plan.study.root, lay(plan.study.root, plan.runs[0])
    program = f"""
import os, shutil, signal
from pathlib import Path
from harness.storage.garbage import Removable, delete
shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
delete([Removable("checkpoints", Path({str(root)!r}), ({plan.runs[0].id!r}, "checkpoint"), 0)])
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(main.__file__).parents[2]).returncode == -9
    assert not (folder / "checkpoint").exists()
    (run,) = stored_runs(plan).runs
    assert (run.state, run.parts["checkpoints"]) == ("done", 0) and run.bytes > 90 * KIB
    assert told(found(plan, 3000).pieces, "leftovers") == []
    clean(plan, 4000)
    assert stored_runs(plan).runs[0].bytes < 60 * KIB and stored_runs(plan).runs[0].parts["generator"] == 20 * KIB


def test_timed_steps_stay_while_a_plan_may_read_them(plan: Plan, cache: Path, harness: Any) -> None:
    today, timings = [loaded("training"), loaded("measuring")], cache / "timings"
    timings.mkdir(parents=True)
    for name, data, code in (("a", "data", today), ("b", "other", today), ("c", "data", ["older", today[1]])):
        write_json(timings / f"{name * 16}.json", {"data": data, "code": code})
    write_json(timings / f"{'d' * 16}.json", {"steps": {}})  # of nobody knows what
    (timings / "mine.json").touch()
    assert found(plan, garbage.YOUNG_S - 60).pieces == ()
    assert told(found(plan).pieces, "timings") == [f"timings/{name * 16}.json" for name in "bc"]
    assert f"timed steps: 4.1 kB in {timings}, shared" in harness("ls", "ablations.yaml")[1]
    assert clean(plan) == []
    assert sorted(path.stem[0] for path in timings.iterdir()) == ["a", "d", "m"]


def test_what_a_study_reads_stays_in_the_cache(plan: Plan, cache: Path) -> None:
    reads = [prepared(cache, "data"), encoded(cache, "data", encoder(plan.runs[0])),
             encoded(cache, "data-mirrored", encoder(plan.runs[0]))]  # fmt: skip
    unread = [prepared(cache, "other"), encoded(cache, "data", "other network"),
              encoded(cache, "other", encoder(plan.runs[0]))]  # fmt: skip
    scales = [cache / "scales" / name for name in (scale_name(plan.runs[0]), "scale-0123456789ab.json")]
    for path in scales:
        write_json(path if path.parent.exists() else (path.parent.mkdir(), path)[1], {"real": 1.0})
    assert found(plan, garbage.YOUNG_S - 60).pieces == ()
    pieces = found(plan).pieces
    assert {(piece.kind, piece.names[1]): piece.bytes for piece in pieces} == {
        ("prepared data", unread[0].name): disk(unread[0]),
        ("features", unread[1].name): disk(unread[1]),
        ("features", unread[2].name): disk(unread[2]),
        ("scales", scales[1].name): disk(scales[1]),
    }
    assert clean(plan) == []
    assert [path.exists() for path in (*reads, scales[0])] == [True] * 4
    assert [path.exists() for path in (*unread, scales[1])] == [False] * 4
    assert not any(path.name.startswith(".gone") for path in cache.rglob("*"))


def other_study(folder: Path, plan: Plan, data: str) -> tuple[Plan, Run]:
    """A second study elsewhere, with a run on disk that its plan no longer holds."""
    folder.mkdir()
    other = plan_in(folder, STUDY.replace("tiny", "other"))
    run = earlier(plan.runs[0], fingerprints={"data": data, "encoders.clip": "their network"})
    lay(other.study.root, run)
    return other, run


def test_what_another_studys_runs_read_stays_as_long_as_it_is_there(plan: Plan, cache: Path, tmp_path: Path) -> None:
    other, _ = other_study(tmp_path / "theirs", plan, "theirs")
    theirs = [prepared(cache, "theirs"), encoded(cache, "theirs", "their network")]
    planned = prepared(cache, "planned")
    assert len(found(plan).pieces) == 3, "nobody has told of that study"
    register(other.study, Reads(frozenset({frozenset({"planned"})})))
    assert found(plan).pieces == ()
    register(other.study, Reads())
    assert told(found(plan).pieces, "prepared data") == [f"data/{planned.name}"]
    other.study.path.unlink()
    assert len(found(plan).pieces) == 1, "its runs are there"
    shutil.rmtree(other.study.root)
    assert len(found(plan).pieces) == 4 and told(found(plan).pieces, "studies")
    assert found(plan).remarks == (f"{other.study.path} is gone: what only that study read counts as unread",)
    assert clean(plan) == [] and not any(path.exists() for path in (*theirs, planned))
    assert found(plan) == Garbage((), ())


@pytest.mark.parametrize("broken", ["run", "registry", "entry", "list", "folder"])
def test_what_cannot_be_read_might_need_everything(plan: Plan, cache: Path, tmp_path: Path, broken: str) -> None:
    other, run = other_study(tmp_path / "theirs", plan, "theirs")
    register(other.study, Reads())
    unread = prepared(cache, "unread")
    assert told(found(plan).pieces, "prepared data") == [f"data/{unread.name}"]
    (entry,) = (cache / "studies").iterdir()
    if broken == "run":
        (other.study.root / run.id / "run.json").write_text("{")
    elif broken == "folder":
        shutil.rmtree(other.study.root)
        other.study.root.write_text("a file")
    else:
        entry.write_text({"registry": "", "entry": '{"study": "/nowhere"}', "list": "[]"}[broken])
    made = found(plan)
    assert made.pieces == () and "cannot be read" in made.remarks[0] and "the cache is left alone" in made.remarks[0]


def test_a_cache_entry_that_does_not_say_what_it_is_stays(plan: Plan, cache: Path) -> None:
    unfinished = prepared(cache, "unread", "0" * 32)
    (unfinished / "index.json").unlink()
    odd = encoded(cache, "unread", "network")
    write_json(odd / "about.json", {"data": "unread", "encoder_fingerprint": ["network"]})
    foreign = [prepared(cache, "unread", "my-own-folder"), cache / "notes.txt", cache / "scales" / "mine.json"]
    foreign[2].parent.mkdir()
    for path in foreign[1:]:
        path.write_text("mine")
    assert found(plan).pieces == ()


def test_what_somebody_is_writing_stays(plan: Plan, cache: Path) -> None:
    unread = prepared(cache, "unread")
    pieces = found(plan).pieces
    program = f"""
from filelock import FileLock
with FileLock({str(unread / "lock")!r}):
    print("held", flush=True)
    input()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdin and writer.stdout and writer.stdout.readline() == "held\n"
        went, (failed,) = garbage.delete(pieces)
        writer.stdin.write("\n")
    assert went == [] and "somebody is writing it" in failed and (unread / "index.json").exists()
    with FileLock(unread / "lock"):
        pass
    assert clean(plan) == [] and not unread.exists()


def test_a_study_registers_once_however_often_it_is_asked(plan: Plan, cache: Path) -> None:
    register(plan.study, reads_of(plan.runs))
    before = content(cache)
    register(plan.study, reads_of(plan.runs))
    assert content(cache) == before and len(before) == 1
    assert needed(cache / "no" / "root", Reads()).reads == reads_of(plan.runs)
    (entry,) = (cache / "studies").iterdir()
    assert json.loads(entry.read_text())["root"] == str(plan.study.root)
    register(replace(plan.study, profile="paper"), Reads())
    assert len(content(cache)) == 2, "profiles have folders of their own"


def test_a_cache_that_cannot_be_written_is_used_all_the_same(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    register(plan.study, Reads())
