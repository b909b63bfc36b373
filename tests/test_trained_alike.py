"""A finished run records what proves that another one trained alike: a digest of the weights that it came to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from executed import RUN, execute, install
from harness.runs.folders import RunFolder
from harness.training import checkpoint


def test_the_digest_is_of_the_weights_and_of_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr)
    assert execute(tmp_path / "one" / RUN.id) == 0 == execute(tmp_path / "other" / RUN.id)
    folders = [RunFolder(tmp_path / name / RUN.id) for name in ("one", "other")]
    one, other = (folder.result() for folder in folders)
    assert one is not None and other is not None
    assert len(one.weights) == 64 and one.weights == other.weights
    stored, meta = checkpoint.read_tensors(folders[0].path / "generator.safetensors")
    assert meta["run"] == RUN.id and checkpoint.digest(stored, {}) == one.weights
    name = next(name for name, tensor in stored.items() if tensor.is_floating_point())
    nudged = {**stored, name: torch.nextafter(stored[name], stored[name] + 1)}
    assert checkpoint.digest(nudged, {}) != one.weights


def test_a_result_of_an_earlier_version_has_none_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"metrics": {"fd": 1.0}, "cards": {"fd": {}}, "cost": {}}')
    found = RunFolder(tmp_path).result()
    assert found is not None and found.weights == ""
