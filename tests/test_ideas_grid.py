"""Own code in whole grids: killed runs, and edits and a deleted file while runs are queued or finished."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from safetensors import safe_open

from conftest import EMOJI_CACHE, trained_once
from forked import run_forked
from harness.files import read_json

STUDY = """
study: own
code: my_ideas.py
data: {source: twemoji, resolution: 8}
generator: {z_dim: 16, w_dim: 16, mapping_layers: 2, channel_base: 64, channel_max: 8}
discriminator: {channel_base: 64, channel_max: 8}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide", crop: 0.125}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 16}
train: {batch: 8, kimg: 0.16, lr: 0.005, snapshots: 2, pl_weight: 0}
toggles: [noisy, adaptive]
design: {kind: list, cells: [{both: [noisy, adaptive]}, {first: [noisy]}]}
baseline: first
resources: {slots: 1}
"""
CODE = '''"""Ideas that end their own process once, and edit their own file on the disk."""

import os
import signal
from pathlib import Path

import torch
from torch import nn

from harness.ideas import augment, layer

KILLED, EDITED = Path(os.environ["OWN_KILLED"]), Path(os.environ["OWN_EDITED"])
if EDITED.name == "my_ideas.py":
    EDITED.write_text(EDITED.read_text() + "\\nraise RuntimeError('this text must reach no run')\\n")


@layer("generator", at=8)
class noisy(nn.Module):
    def __init__(self, channels: int, *, rate: float = 0.3):
        super().__init__()
        self.dropout, self.norm = nn.Dropout(rate), nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.dropout(x))


@augment
class adaptive(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("p", torch.zeros(()))

    def after(self, step):
        self.p += 0.01 * step.logit("r").sigmoid().mean()
        if step.number == 13 and not KILLED.exists():
            KILLED.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, images, rng):
        return images + self.p * torch.randn(images.shape, generator=rng, device=images.device)
'''
STEPS = 20


def environment(folder: Path, edited: str) -> dict[str, str]:
    own = {"OWN_KILLED": str(folder / "killed"), "OWN_EDITED": str(folder / edited)}
    return {**os.environ, **own, "HARNESS_CACHE": os.environ[EMOJI_CACHE], "HF_HUB_OFFLINE": "1"}


pytestmark = pytest.mark.timeout(900)  # two grids


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same grid undisturbed, and with a run that was killed and a file that each import has edited."""
    trained = trained_once("own-ideas", train, tmp_path_factory.mktemp("own"))
    return trained / "quiet", trained / "disturbed"


def train(home: Path) -> None:
    for name, edited, only in (("quiet", "nothing", ["--only", "both"]), ("disturbed", "my_ideas.py", [])):
        folder = home / name
        folder.mkdir()
        (folder / "own.yaml").write_text(STUDY)
        (folder / "my_ideas.py").write_text(CODE)
        if name == "quiet":
            (folder / "killed").touch()
        done = run_forked(["run-grid", "own.yaml", *only], folder, environment(folder, edited))
        assert done.returncode == 0, done.stderr


def run_folders(folder: Path) -> dict[str, Path]:
    return {read_json(path)["cell"]: path.parent for path in (folder / "runs").rglob("run.json")}


def state(folder: Path) -> dict[str, bytes]:
    with safe_open(folder / "checkpoint" / f"{STEPS:09d}.safetensors", "np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def test_a_killed_run_with_dropout_and_own_state_ends_with_the_same_bytes(folders: tuple[Path, Path]) -> None:
    quiet, disturbed = map(run_folders, folders)
    assert (folders[1] / "killed").exists() and disturbed.keys() == {"both", "first"}
    assert json.loads((disturbed["both"] / "status.json").read_text())["attempt"] > 0
    assert quiet["both"].name == disturbed["both"].name and state(quiet["both"]) == state(disturbed["both"])
    (p,) = (value for name, value in state(quiet["both"]).items() if name.endswith(".p"))
    assert p != bytes(4)


def test_an_edit_reaches_no_queued_run(folders: tuple[Path, Path]) -> None:
    _, disturbed = folders
    assert (disturbed / "my_ideas.py").read_text().count("must reach no run") > 2
    for folder in run_folders(disturbed).values():
        assert read_json(folder / "run.json")["source"] == {"my_ideas.py": CODE}
        assert read_json(folder / "status.json")["state"] == "done"


def test_a_finished_run_draws_samples_when_its_file_has_changed_or_gone(folders: tuple[Path, Path]) -> None:
    quiet, disturbed = folders
    (disturbed / "my_ideas.py").unlink()
    for folder in folders:
        words = ["sample", str(run_folders(folder)["both"]), "a cat", "--out", "one.png"]
        done = run_forked(words, folder, environment(folder, "nothing"))
        assert done.returncode == 0, done.stderr
    assert (quiet / "one.png").read_bytes() == (disturbed / "one.png").read_bytes()


def test_bringing_the_old_text_back_finds_the_old_runs(folders: tuple[Path, Path]) -> None:
    _, disturbed = folders
    (disturbed / "my_ideas.py").write_text("# A comment more.\n" + CODE)
    again = run_forked(["run-grid", "own.yaml"], disturbed, environment(disturbed, "nothing"))
    assert again.returncode == 0 and "nothing to do" in again.stderr
