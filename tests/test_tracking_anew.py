"""A run that was trained anew by other code is another run on the tracking server, and the earlier one says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fake_mlflow import Server, served
from harness.code.engine import Engine
from harness.study.schema import Study
from harness.tracking.mirror import sync
from mirrored import make_folder
from reported import study_of


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of(tmp_path)


def test_what_other_code_trained_again_does_not_mix_with_the_earlier_numbers(study: Study) -> None:
    server = Server()
    with served(server):
        run, folder = make_folder(study, "origin", 0, steps=2)
        folder.made_by(Engine("a", "m"))
        folder.update(state="done", step=2)
        sync(study, study.root, [run])
        (first,) = server.children()
        assert first.tags["engine.training"] == "a" and first.tags["engine.measuring"] == "m"
        shutil.rmtree(folder.path)
        _, folder = make_folder(study, "origin", 0, steps=3)
        folder.made_by(Engine("b", "m"))
        folder.update(state="done", step=3, attempt=1)
        sync(study, study.root, [run])
        one, two = server.children()
        assert "replaced_by" in one.tags and "replaced_by" not in two.tags
        assert (one.tags["engine.training"], two.tags["engine.training"]) == ("a", "b")
        assert len(one.points()) != len(two.points())
        (folder.path / "mlflow.json").unlink()
        sync(study, study.root, [run])
        assert len(server.children()) == 2
