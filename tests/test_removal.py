"""Deleting touches what it was asked for, whatever stands in its way, and nothing outside."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.storage import removal
from harness.storage.removal import is_abandoned, is_temporary, purge, set_aside
from harness.storage.usage import Meter, shortage
from kept import KIB, content

AFTER = removal.FORGOTTEN_S + 60


def remove(root: Path, *names: str) -> None:
    """As runs and caches are deleted."""
    purge(root, *names[:-1], set_aside(root, *names))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder `root` with a tree `run`, beside a folder `outside` that must survive."""
    for path in ("root/run/checkpoint/1.bin", "root/run/run.json", "outside/precious/1.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path / "root"


def outside(root: Path) -> dict[str, bytes | str]:
    return content(root.parent / "outside")


def test_a_tree_goes_and_what_its_links_point_at_stays(root: Path) -> None:
    (root / "run" / "run.json").chmod(0o444)
    (root / "run" / "checkpoint" / "file").symlink_to(root.parent / "outside" / "precious" / "1.txt")
    (root / "run" / "folder").symlink_to(root.parent / "outside")
    (root / "other").write_text("stays")
    remove(root, "run")
    assert content(root) == {"other": b"stays"} and [path.name for path in root.iterdir()] == ["other"]
    assert outside(root) == {"precious/1.txt": b"outside/precious/1.txt"}


@pytest.mark.parametrize("target", ["outside", "outside/precious/1.txt", "nowhere"])
def test_a_link_is_refused(root: Path, target: str) -> None:
    (root / "linked").symlink_to(root.parent / target)
    before = content(root.parent)
    with pytest.raises(HarnessError, match=r"root/linked: a link is left alone"):
        remove(root, "linked")
    assert content(root.parent) == before


@pytest.mark.parametrize("act", [remove, set_aside, purge])
def test_nothing_is_reached_through_a_link(root: Path, act: object) -> None:
    (root / "linked").symlink_to(root.parent / "outside")
    before = content(root.parent)
    with pytest.raises(HarnessError, match="root/linked/precious: cannot be deleted"):
        act(root, "linked", "precious")  # type: ignore[operator]
    assert content(root.parent) == before


@pytest.mark.parametrize("name", ["..", ".", "", "../outside", "run/checkpoint", "/", "run\0"])
@pytest.mark.parametrize("above", [(), ("run",)])
def test_only_names_lead_anywhere(root: Path, name: str, above: tuple[str, ...]) -> None:
    before = content(root.parent)
    for act in (remove, purge):
        with pytest.raises(ValueError, match="not a name"):
            act(root, *above, name)
        with pytest.raises(ValueError, match="not a name"):
            act(root, name, *above, "precious")
    assert content(root.parent) == before


def test_the_root_itself_may_lie_on_another_disk(root: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(root)
    remove(tmp_path / "runs", "run", "checkpoint")
    assert content(root) == {"run/run.json": b"root/run/run.json"}


def test_what_is_not_there_is_said(root: Path) -> None:
    with pytest.raises(HarnessError, match=r"root/nothing: cannot be deleted \(No such file"):
        remove(root, "nothing")


def test_killed_in_the_middle_leaves_no_half_of_a_run(root: Path) -> None:
    program = f"""
import os, shutil, signal
from pathlib import Path
from harness.storage import removal
shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
root = Path({str(root)!r})
removal.purge(root, removal.set_aside(root, "run"))
"""
    whole = content(root / "run")
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(removal.__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    (left,) = root.iterdir()
    assert left.name.startswith(".gone-run.") and is_temporary(left.name)
    assert content(left) == whole
    now = left.stat().st_ctime
    assert not is_abandoned(left.name, now, now + removal.FORGOTTEN_S - 60)
    assert is_abandoned(left.name, now, now + AFTER)
    purge(root, left.name)
    assert list(root.iterdir()) == []


def test_a_temporary_of_a_living_process_is_never_abandoned() -> None:
    mine, now = f".status.json.{os.getpid()}-0a1b2c3d.tmp", time.time()
    assert not is_abandoned(mine, now, now + AFTER)
    assert not is_abandoned(f".gone-run.{os.getpid()}-0a1b2c3d", now, now + AFTER)
    assert is_abandoned(mine, now - 1e8, now), "this process is younger than the file: its number was another's"
    (gone := subprocess.Popen(["true"])).wait()
    assert is_abandoned(f".status.json.{gone.pid}-0a1b2c3d.tmp", now, now + AFTER)
    assert is_abandoned(".anything.tmp", now, now + AFTER)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [(".gone-3f2a9c41d07b.12-ab", True), (".run.json.12-ab.tmp", True), ("run.tmp", False), (".lock", False)],
)
def test_which_names_are_temporary(name: str, is_one: bool) -> None:
    assert is_temporary(name) == is_one


def _as_nobody(root: Path, answer: object) -> None:
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        remove(root, "run")
    except HarnessError as error:
        answer.send(str(error))  # type: ignore[attr-defined]


def test_what_may_not_be_changed_is_said_and_stays() -> None:
    base = Path(tempfile.mkdtemp())
    try:
        (base / "root" / "run").mkdir(parents=True)
        (base / "root" / "run" / "kept.txt").write_text("kept")
        base.chmod(0o755)
        (base / "root").chmod(0o555)
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe(duplex=False)
        child = fork.Process(target=_as_nobody, args=(base / "root", there))
        child.start()
        there.close()
        assert "root/run: cannot be deleted (Permission denied)" in here.recv()
        child.join()
        assert content(base) == {"root/run/kept.txt": b"kept"}
    finally:
        (base / "root").chmod(0o755)
        shutil.rmtree(base)


def test_sizes_are_those_of_the_disk(root: Path) -> None:
    """`du` is the judge: holes, blocks, folders, several names of a file, links."""
    run = root / "run"
    with (run / "hole.bin").open("wb") as file:
        file.truncate(64 * KIB * KIB)
    (run / "large.bin").write_bytes(os.urandom(300 * KIB))
    os.link(run / "large.bin", run / "checkpoint" / "same.bin")
    (root.parent / "outside" / "large.bin").write_bytes(bytes(KIB * KIB))
    (run / "link").symlink_to(root.parent / "outside")
    os.sync()
    told = subprocess.run(["du", "-s", "-B1", str(root)], capture_output=True, text=True, check=True).stdout
    found = Meter().path(root)
    assert found.bytes == int(told.split()[0]) and 300 * KIB <= found.bytes < 500 * KIB
    meter = Meter()
    assert (
        sum(meter.path(entry).bytes for entry in os.scandir(root)) + meter.path(root, with_content=False).bytes
        == found.bytes
    )
    assert Meter().path(root.parent / "nothing").bytes == 0


def test_a_rename_is_a_change(root: Path) -> None:
    for path in (root / "run", *(root / "run").rglob("*")):
        os.utime(path, (0, 0))
    assert abs(Meter().path(root / "run").changed - time.time()) < 60


def test_room_is_that_of_the_disk_where_the_files_will_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> object:
        asked.append(path)
        return namedtuple("usage", "total used free")(9e9, 8e9, 1_500_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    root = tmp_path / "not" / "yet" / "there"
    assert shortage(root, 1_500_000_000) is None
    told = shortage(root, 1_500_000_001)
    assert told and f"{root} needs about 1.5 GB and its disk has 1.5 GB free" in told and "`harness gc`" in told
    assert asked == [tmp_path, tmp_path]
