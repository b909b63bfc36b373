"""A run notes the code that trains it, and one that goes on from other code's checkpoint notes both."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from executed import At, execute, install
from harness.code.engine import Engine
from harness.exit_codes import INTERRUPTED
from harness.runs.folders import RunFolder
from harness.training.session import ENGINE

OLD = Engine("0" * 12, "1" * 12)


def stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with a checkpoint that other code has made."""
    with monkeypatch.context() as patched:
        install(patched.setattr, At({("step", 4): lambda: os.kill(os.getpid(), signal.SIGTERM)}))
        assert execute(folder) == INTERRUPTED
    RunFolder(folder).made_by(OLD)
    return RunFolder(folder)


def test_a_run_by_one_code_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr)
    monkeypatch.setattr("harness.training.session.cards", lambda *_: {"fd": {"n": 16}})
    assert execute(tmp_path / "run") == 0
    folder = RunFolder(tmp_path / "run")
    assert folder.run().engine == ENGINE != Engine()
    result = folder.result()
    assert result and result.cards["fd"] == {"n": 16, "engine": ENGINE.measuring}


def test_a_run_that_goes_on_by_other_code_says_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(tmp_path / "run", monkeypatch)
    install(monkeypatch.setattr)
    assert execute(folder.path) == 0
    assert folder.run().engine == Engine(f"{OLD.training}+{ENGINE.training}", f"{OLD.measuring}+{ENGINE.measuring}")
    assert "goes on at step 5 by other code than it was begun by" in capsys.readouterr().err


def test_a_run_without_a_checkpoint_is_of_one_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(tmp_path / "run", monkeypatch)
    shutil.rmtree(folder.path / "checkpoint")
    install(monkeypatch.setattr)
    assert execute(folder.path) == 0 and folder.run().engine == ENGINE
