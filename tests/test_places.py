"""Paths in a study file are relative to that file, wherever the command runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forked import run_forked
from harness import cache
from harness.errors import HarnessError
from harness.study.load import load_study
from harness.study.schema import apply_toggles

STUDY = """
study: tiny
data: {source: coco, path: caps.json, images: pictures, held_out: {path: ~/study-val.json, images: pictures}}
encoders: {clip: "open_clip:ViT-B-32/openai@clip.safetensors", resnet: "timm:resnet50.a1_in1k"}
metrics: {more: ["timm:resnet18.a1_in1k@/far/r.pth", "embedded:resnet-measure"]}
toggles: [mix_logits, {other: {encoders: {resnet: "timm:resnet18.a1_in1k@sub/r.pth"}, loss.tau: 1}}]
"""


def test_they_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("caps.json", "study-val.json"):
        (tmp_path / name).touch()
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    study = load_study(tmp_path / "study.yaml")
    data = study.settings.data
    assert (data.path, data.images) == (f"{tmp_path}/caps.json", f"{tmp_path}/pictures")
    assert (data.held_out.path, data.held_out.images) == (f"{tmp_path}/study-val.json", f"{tmp_path}/pictures")
    assert study.settings.encoders.clip == f"open_clip:ViT-B-32/openai@{tmp_path}/clip.safetensors"
    assert study.settings.encoders.resnet == "timm:resnet50.a1_in1k"
    assert study.settings.metrics.more == ("timm:resnet18.a1_in1k@/far/r.pth", "embedded:resnet-measure")
    patched = apply_toggles(study, ["other"])
    assert patched.encoders.resnet == f"timm:resnet18.a1_in1k@{tmp_path}/sub/r.pth"
    assert patched.loss.tau == 1.0


def test_the_name_of_a_hub_data_set_stays_a_name_unless_such_a_folder_is_there(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("study: tiny\ndata: {source: huggingface, path: org/name}\n")
    assert load_study(tmp_path / "study.yaml").settings.data.path == "org/name"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert load_study(tmp_path / "study.yaml").settings.data.path == f"{tmp_path}/org/name"


def test_a_folder_whose_name_is_not_utf8_is_refused_before_anything_runs(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"p\xff")
    folder.mkdir()
    (folder / "study.yaml").write_text("study: tiny\n")
    done = run_forked(["plan", "study.yaml"], folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert r"p\udcff/study.yaml: the name is not UTF-8; rename the folder" in " ".join(done.stderr.split())


def test_a_cache_in_the_home_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "~nosuchuser/cache")
    with pytest.raises(HarnessError, match=r"^HARNESS_CACHE: '~nosuchuser/cache' begins with .*; write the path from"):
        cache.root()
