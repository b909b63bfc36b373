"""A study with run folders and a cache, written by hand, for tests of what is kept on disk and what is deleted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from harness.records import Result, Run, RunFolder, State, write_json
from harness.study.plan import Plan, make_plan
from harness.study.spec import load_study

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


def earlier(run: Run, **changes: object) -> Run:
    """As a run of the plan, under an id that the plan does not know."""
    new = hashlib.sha256(json.dumps([run.id, str(changes)]).encode()).hexdigest()[:12]
    return Run(**{**asdict(run), "id": new, "toggles": run.toggles, **changes})


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
