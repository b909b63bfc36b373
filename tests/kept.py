"""A study with run folders and a cache, written by hand, for tests of what is kept on disk and what is deleted."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.files import write_json
from harness.runs.folders import RunFolder
from harness.runs.record import Result, Run, State
from harness.storage.folders import StoredRuns
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan

STUDY = "study: tiny\ntoggles: [mix_logits, transform_w]\ndesign: {include: [full], seeds: 2}\n"
KIB = 1024


def plan_in(folder: Path, text: str = STUDY) -> Plan:
    (folder / "ablations.yaml").write_text(text)
    return make_plan(load_study(folder / "ablations.yaml", None, ()))


def lay(root: Path, run: Run, state: State = "done", states: int = 40 * KIB) -> Path:
    """A run folder as training leaves it, with `states` bytes of training states."""
    folder = RunFolder(root / run.id)
    folder.create(run)
    folder.update(state=state, step=10, total_steps=10)
    for name, size in (("checkpoint/000000010.safetensors", states), ("samples/000000010.png", 9 * KIB)):
        path = folder.path / name
        path.parent.mkdir()
        path.write_bytes(bytes(range(256)) * (size // 256))
    (folder.path / "log.txt").write_text("trained\n")
    if state == "done":
        (folder.path / "generator.safetensors").write_bytes(b"g" * 20 * KIB)
        folder.finish(Result({"fd": 1.0}, {}, {}))
    return folder.path


def earlier(run: Run, **changes: Any) -> Run:
    """As a run of the plan, under an id that the plan does not know."""
    new = hashlib.sha256(json.dumps([run.id, str(changes)]).encode()).hexdigest()[:12]
    return replace(run, id=new, **changes)


def prepared(cache: Path, fingerprint: str, name: str = "") -> Path:
    """A prepared data set in the cache."""
    folder = cache / "data" / (name or hashlib.md5(fingerprint.encode()).hexdigest())
    folder.mkdir(parents=True)
    (folder / "00000.npy").write_bytes(b"p" * 30 * KIB)
    write_json(folder / "index.json", {"fingerprint": fingerprint})
    return folder


def encoded(cache: Path, data: str, encoder: str) -> Path:
    """Features of a data set by an encoder in the cache."""
    folder = cache / "features" / hashlib.md5(f"{data} {encoder}".encode()).hexdigest()[:16]
    folder.mkdir(parents=True)
    (folder / "features.npy").write_bytes(b"f" * 10 * KIB)
    write_json(folder / "about.json", {"data": data, "encoder_fingerprint": encoder, "encoder": "some name"})
    return folder


def content(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: path -> bytes of a file, target of a link."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


CODE = Path(main.__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from harness.runs.lease import Claim
claim = Claim(Path(sys.argv[1]))
print(claim.take(), flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of six runs, whose data set and encoders need not be read: two have run, one has failed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_PROFILE", raising=False)
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda source, resolution: "data")
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: name)
    plan = plan_in(tmp_path)
    for run, state in zip(plan.runs[:3], ("done", "done", "failed"), strict=True):
        lay(plan.study.root, run, state)  # type: ignore[arg-type]
    return plan


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `harness ...` in this process: (exit code, standard output, standard error)."""

    def harness(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return harness


@pytest.fixture
def hold() -> Iterator[Any]:
    """Lets another process take the claim of a run folder, and returns the process."""
    started = []

    def hold(folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(folder)]
        started.append(subprocess.Popen(command, cwd=CODE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout and started[-1].stdout.readline() == "True\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def ids(found: StoredRuns) -> list[str]:
    return [kept.run.id for kept in found.runs]


def disk(path: Path) -> int:
    os.sync()
    return int(subprocess.run(["du", "-s", "-B1", str(path)], capture_output=True, text=True).stdout.split()[0])
