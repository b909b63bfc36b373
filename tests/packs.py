"""A study with results, made by hand, to be packed on one machine and opened on another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from harness.cli.main import app
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result, Run, Status
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from hostile import SMALL, write_images

STUDY = (
    SMALL
    + """
toggles: [mix_logits, transform_w]
design: {include: [full], seeds: 2}
train: {kimg: 0.16}
generator: {z_dim: 8, w_dim: 8, mapping_layers: 1, channel_base: 64, channel_max: 8}
discriminator: {channel_base: 64, channel_max: 8}
profiles: {long: {train: {kimg: 0.32}}}
"""
)
CARD = {"n": 32, "n_real": 8, "d": 16, "role": "headline", "extractor": "resnet", "metric": "fd_emoji"}


def finish(root: Path, run: Run, value: float) -> Path:
    """A run folder as a whole training leaves it, with a generator that draws."""
    from harness.models.encoders.load import load_clip
    from harness.models.generator import Generator
    from harness.training.checkpoint import write_tensors

    folder = RunFolder(root / run.id)
    folder.create(run)
    for step in (0, 10):
        folder.append(Point(step, step * 0.016, 1.7e9 + step, {"metrics/fd_emoji": value + 10 - step}))
    folder.finish(Result({"fd_emoji": value}, {"fd_emoji": CARD}, {"seconds": 1.0, "s_per_kimg": 6.0}))
    folder.put(Status("done", 10, 10, 5.0, attempt=1, started=1.7e9, updated=1.7e9, seconds=12.0))
    samples = folder.path / "samples"
    samples.mkdir()
    for name in ("000000010.png", "real.png"):
        Image.new("RGB", (8 * 16, 8), (int(value * 20) % 256, 3, 7)).save(samples / name)
    rows = [{"caption": f"caption {place}", "image_id": place} for place in range(16)]
    (samples / "captions.json").write_text(json.dumps(rows))
    (folder.path / "log.txt").write_text("trained\n")
    (folder.path / "checkpoint").mkdir()
    (folder.path / "checkpoint" / "000000010.safetensors").write_bytes(b"s" * 4096)
    generator = Generator(run.settings.generator, 8, load_clip("embedded:clip-guide").dim)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(run.seed))
    write_tensors(folder.path / "generator.safetensors", generator.state_dict(), {"run": run.id})
    return folder.path


def train(home: Path, *overrides: str, profile: str | None = None, cells: tuple[str, ...] = ()) -> Plan:
    """All runs of the study in `home`, or those of some cells, with results."""
    plan = make_plan(load_study(home / "study.yaml", profile, overrides))
    for place, run in enumerate(plan.select(cells)):
        finish(plan.study.root, run, 9.0 + place)
    return plan


def run(*words: str, code: int = 0) -> str:
    """What `harness ...` prints, standard output first."""
    done = CliRunner().invoke(app, list(words))
    if done.exception and not isinstance(done.exception, SystemExit):
        if code == 2:
            return str(done.exception)
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def told(*words: str) -> Any:
    """The JSON of a command without the places of this machine."""
    return json.loads(run(*words, "--json").replace(str(Path.cwd()), "HERE"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The machine that has the data: a study of eight runs and its report."""
    monkeypatch.delenv("HARNESS_PROFILE", raising=False)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "home"
    write_images(home / "images", 40)
    (home / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(home)
    train(home)
    run("report", "study.yaml")
    yield home


@pytest.fixture
def away(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Goes to another machine, which has neither the data nor a cache, and opens a pack there."""

    def away(pack: Path, name: str = "away") -> Path:
        import zipfile

        folder = tmp_path / name
        zipfile.ZipFile(pack).extractall(folder)
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / f"cache of {name}"))
        monkeypatch.chdir(folder)
        if home.exists():
            home.rename(tmp_path / "gone")
        return folder

    return away
