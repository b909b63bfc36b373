"""Frozen networks as features: the built-in two and those of a study's own, by one table."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from harness.cli import doctor
from harness.data import features
from harness.data.features import load_image
from harness.errors import MissingWeights
from harness.frozen_networks import FrozenNetwork, encoders_read, frozen_networks
from harness.metrics.manifest import make_manifest
from harness.metrics.names import guides_that_measure
from harness.models import encoders
from harness.models.encoders import load
from harness.models.losses import projection
from harness.rng import torch_generator
from harness.runs.record import Run
from harness.runs.scale import scale_name
from harness.settings import Settings
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.training import checkpoint, cost
from harness.training.ranks import Draws
from harness.training.trainer import Trainer, view
from runs import BASE, Counted, F, M, R, S, settings, trainer
from things import FakeEncoder, measured_settings, things

OWN = "embedded:resnet-guide"
WIDE = 20  # more than any built-in feature of `runs`


def with_ideas(chosen: Settings, *reads: str, on: bool = True, network: str = OWN, size: int = 0) -> Settings:
    """With an own feature, and a term that reads `reads`."""
    feature = {"kind": "feature", "on": True, "network": network, "size": size, "reads": ()}
    term = {"kind": "term", "on": on, "weight": 1.0, "reads": reads}
    return replace(chosen, ideas={"f_own": feature, "mine": term})


def own_trainer(chosen: Settings) -> Trainer:
    """As `runs.trainer`, with features of width WIDE for "f_own"."""
    subject = trainer(chosen)
    rows = np.random.default_rng(5).standard_normal((M, WIDE)).astype(np.float32)
    corpus = replace(subject.corpus, frozen={**subject.corpus.frozen, "f_own": rows})
    return Trainer(chosen, subject.networks, corpus, {**subject.guides, "f_own": Counted(WIDE)}, subject.seed)


# What is read.


def test_a_network_guides_only_where_something_that_is_on_reads_it() -> None:
    def symbols(chosen: Settings) -> set[str]:
        return set(frozen_networks(chosen))

    assert symbols(settings()) == {"f_c"} and symbols(settings("resnet_guided")) == {"f_c", "f_res"}
    assert symbols(with_ideas(settings())) == {"f_c"}
    assert symbols(with_ideas(settings(), "f_own")) == {"f_c", "f_own"}
    assert symbols(with_ideas(settings(), "f_own", "f_res")) == {"f_c", "f_res", "f_own"}
    assert symbols(with_ideas(settings(), "f_own", "f_res", on=False)) == {"f_c"}
    read = encoders_read(with_ideas(settings(), "f_own", size=64))
    assert read["ideas.f_own.network"] == OWN and "encoders.resnet" not in read
    assert frozen_networks(with_ideas(settings(), "f_own", size=64))["f_own"].size == 64


def test_settings_without_ideas_hash_and_equal_as_ever() -> None:
    assert hash(settings()) == hash(settings()) and settings() == settings()
    assert with_ideas(settings(), "f_own") == with_ideas(settings(), "f_own") != with_ideas(settings())
    assert hash(with_ideas(settings(), "f_own")) == hash(with_ideas(settings(), "f_own"))


# In a step.


def test_a_step_has_their_features_of_real_images_and_sees_generated_ones_through_the_view() -> None:
    chosen = with_ideas(settings(), "f_own")
    subject = own_trainer(chosen)
    batch = subject.batch(3)
    rows = subject.corpus.frozen["f_own"]
    ids = [int(np.flatnonzero((rows == row.numpy()).all(1))[0]) for row in batch.frozen["f_own"]]
    assert set(batch.frozen) == {"f_c", "f_own"} and len(ids) == BASE.train.batch
    assert torch.equal(batch.frozen["f_c"], torch.from_numpy(subject.corpus.frozen["f_c"][ids]))
    images = torch.rand(4, 3, R, R).requires_grad_()
    seen = subject.look("f_own", images, 7)
    moved = view(images.detach(), chosen.encoders, Draws(torch_generator(subject.seed, "f_own view", 7)), R)
    by_hand = moved.flatten(1).double() @ Counted(WIDE).weight.double()
    torch.testing.assert_close(seen.double(), by_hand, rtol=1e-5, atol=1e-5)
    seen.sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_a_further_network_changes_no_step_of_those_that_do_not_read_it() -> None:
    plain, subject = trainer(settings("resnet_guided")), own_trainer(with_ideas(settings("resnet_guided"), "f_own"))
    for step in range(2):
        losses, expected = subject.step(step), plain.step(step)
        assert all(torch.equal(losses[name], value) for name, value in expected.items())
    assert subject.guides["f_own"].seen == [], "nobody asked it"  # type: ignore[attr-defined]


# On the disk.


def test_the_checkpoint_holds_a_projection_for_every_pair_of_widths(tmp_path: Path) -> None:
    chosen = with_ideas(settings("resnet_guided"), "f_own", "f_res")
    subject = own_trainer(chosen)
    subject.step(0)
    checkpoint.save(subject, tmp_path, 1, "run")
    stored = load_file(tmp_path / "000000001.safetensors")
    pairs = {"projection": (S, F), f"projection/{WIDE}x{F}": (WIDE, F), f"projection/{WIDE}x{S}": (WIDE, S)}
    assert {name for name in stored if name.startswith("projection")} == set(pairs)
    for name, (wide, narrow) in pairs.items():
        torch.testing.assert_close(stored[name].T @ stored[name], torch.eye(narrow, dtype=torch.float64))
        assert torch.equal(stored[name], projection(wide, narrow))
    other = own_trainer(chosen)
    assert checkpoint.restore(other, tmp_path, "run") == 1
    # The room that is estimated beforehand is that of the file.
    run = Run("0" * 12, "s", "c", 0, (), chosen, {})
    widths = checkpoint.projection_shapes({"f_c": F, "f_res": S, "f_own": WIDE})
    assert widths == pairs and run.settings.ideas


def test_a_checkpoint_without_one_of_them_does_not_fit(tmp_path: Path) -> None:
    subject = trainer(settings("resnet_guided"))
    checkpoint.save(subject, tmp_path, 1, "run")
    assert checkpoint.restore(own_trainer(with_ideas(settings("resnet_guided"), "f_own")), tmp_path, "run") == 0
    assert list(tmp_path.glob("*.damaged"))


def test_the_room_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    prints = {"data": "0" * 16, "encoders.clip": "c", "encoders.resnet": "r", "ideas.f_own.network": "o"}
    for kind, mark, width in (("clip-text", "c", F), ("resnet-image", "r", S), ("resnet-image@64", "o", 500)):
        folder = features._folder(kind, prints["data"], mark)[0]
        folder.mkdir(parents=True)
        np.save(folder / "features.npy", np.zeros((3, width), np.float32))

    def room(chosen: Settings) -> float:
        chosen = replace(chosen, data=replace(chosen.data, resolution=R))
        return cost.state_mb(Run("0" * 12, "s", "c", 0, (), chosen, prints))

    more = room(with_ideas(settings("resnet_guided"), "f_own", size=64)) - room(settings("resnet_guided"))
    assert more == pytest.approx(500 * (F + S) * 8 / 2**20, rel=0.02)


# Networks of any family and size.


@pytest.mark.parametrize("name", ["embedded:resnet-guide", "embedded:clip-guide"])
def test_a_size_is_that_of_the_images_that_the_network_gets(name: str) -> None:
    own, sized = load_image(name, "cpu"), load_image(name, "cpu", 48)
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    assert (own.size, sized.size, sized.dim, sized.fingerprint) == (32, 48, own.dim, own.fingerprint)
    raw = images * sized.scale + sized.shift  # no resizing
    expected = sized.network.encode_image(raw) if "clip" in name else sized.network(raw)
    got = sized.image(images)
    scale = expected.norm(dim=1, keepdim=True) if "clip" in name else 1.0
    torch.testing.assert_close(got, expected / scale, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(own.image(images), got, atol=1e-3)


def test_a_timm_transformer_of_another_size_has_its_positions_interpolated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_vit", pretrained=False).eval()
    save_file(network.state_dict(), tmp_path / "v.safetensors")
    sized = load_image(f"timm:test_vit@{tmp_path}/v.safetensors", "cpu", 96)
    theirs = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=96).eval()
    convert = timm.models.vision_transformer.checkpoint_filter_fn
    theirs.load_state_dict(convert(load_file(tmp_path / "v.safetensors"), theirs), strict=False)
    images = torch.rand(2, 3, 96, 96) * 2 - 1
    torch.testing.assert_close(sized.image(images), theirs(images * sized.scale + sized.shift), rtol=1e-4, atol=1e-5)
    assert load_image(f"timm:test_vit@{tmp_path}/v.safetensors", "cpu").size == 160


def test_a_size_that_a_network_cannot_work_on_is_refused(tmp_path: Path) -> None:
    name = f"timm:test_vit@{tmp_path}/v.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), tmp_path / "v.safetensors")
    with pytest.raises(MissingWeights, match=r"cannot look at images of 8 x 8 pixels .*give another size, or 0"):
        load_image(name, "cpu", 8)
    inception = load.Inception(torch.nn.Identity(), load.Preparation(299, (0.5,) * 3, (0.5,) * 3), 1, "")
    with pytest.raises(ValueError, match="resizes images to 299 x 299 itself; set size to 0"):
        load._set_size(inception, "torch_fidelity:inception-v3-compat", 64)


def test_the_image_tower_of_an_open_clip_takes_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"half": {"mean": (0.5,) * 3, "std": (0.5,) * 3}})
    made = open_clip.create_model("tiny")
    save_file(made.state_dict(), tmp_path / "c.safetensors")
    name = f"open_clip:tiny/half@{tmp_path}/c.safetensors"
    own, sized = load_image(name, "cpu"), load_image(name, "cpu", 64)
    assert (own.size, sized.size, sized.dim) == (32, 64, 16)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    assert torch.allclose(sized.image(images).norm(dim=1), torch.ones(2), atol=1e-5)
    assert not torch.allclose(own.image(images), sized.image(images), atol=1e-3)


# Computed once, told when it also measures.


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fake(name: str, device: str, size: int = 0) -> Any:
        return FakeEncoder(name)

    FakeEncoder.calls = 0
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders, "fingerprint", lambda name: f"print of {name}")
    monkeypatch.setattr(load, "load_clip", fake)
    monkeypatch.setattr(load, "load_resnet", fake)


@pytest.mark.usefixtures("fakes")
def test_they_are_computed_once_for_each_network_and_size() -> None:
    dataset = things()
    for _ in range(2):
        for network in (FrozenNetwork("a", OWN), FrozenNetwork("b", OWN), FrozenNetwork("a", OWN, 64)):
            assert features.frozen_image(dataset, network).shape == (60, 12)
    assert FakeEncoder.calls == 2
    features.resnet_image(dataset, OWN)
    features.clip_image(dataset, "embedded:clip-guide")
    features.frozen_image(dataset, FrozenNetwork("a", "embedded:clip-guide"))
    assert FakeEncoder.calls == 3, "the cache is that of the networks that guide and measure"


@pytest.mark.usefixtures("fakes")
def test_a_network_that_measures_too_is_recorded_as_seen() -> None:
    plain = measured_settings()
    measuring = plain.metrics.resnet
    for network, size, seen in ((measuring, 0, True), (measuring, 64, True), ("timm:another", 0, False)):
        manifest = make_manifest(things(), with_ideas(plain, "f_own", network=network, size=size))
        assert manifest.resnet.seen == seen
        assert any(name.endswith("_seen") and name.startswith(("fd", "fid")) for name in manifest.cards()) == seen
    assert not make_manifest(things(), with_ideas(plain, network=measuring)).resnet.seen, "nobody reads it"
    prints = {"data": "d", "ideas.f_own.network": "x", "metrics.resnet": "x", "code.mine.py": "x"}
    assert guides_that_measure(prints) == {"metrics.resnet": "ideas.f_own.network"}


def test_a_scale_is_another_where_a_network_that_measures_guides() -> None:
    def name(**more: str) -> str:
        prints = {"data": "d", "metrics.resnet": "x", **{path.replace("__", "."): mark for path, mark in more.items()}}
        return scale_name(Run("0" * 12, "s", "c", 0, (), settings(), prints), "engine")

    assert name() == name(ideas__f_own__network="y") == name(code__mine="z") != name(ideas__f_own__network="x")


# Of a study.


def test_a_network_that_is_missing_is_told_with_the_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from harness.ideas import feature, term\n\n"
        'f_own = feature("timm:resnet18@weights/none.pth", size=64)\n\n'
        '@term("generator", reads=("f_own",))\ndef near(step):\n    return 0\n'
    )
    text = "study: own\ncode: mine.py\ntoggles: [near]\ndata: {resolution: 32}\n"
    text += "encoders: {clip: 'embedded:clip-guide'}\n"
    text += "metrics: {clip: 'embedded:clip-measure', resnet: 'embedded:resnet-measure'}\n"
    (tmp_path / "a.yaml").write_text(text)
    missing = rf"no file {tmp_path}/weights/none\.pth; correct the path"
    study = load_study(tmp_path / "a.yaml")
    with pytest.raises(MissingWeights, match=rf"mine\.py:3: ideas\.f_own\.network: .*{missing}"):
        make_plan(study)
    (finding,) = [each for each in doctor._needs(study) if each.subject == "ideas.f_own.network"]
    assert re.search(missing, finding.fix)
    (tmp_path / "a.yaml").write_text(text + "ideas: {f_own: {network: 'embedded:resnet-gide'}}\n")
    with pytest.raises(MissingWeights, match=r"a\.yaml: ideas\.f_own\.network: .*did you mean 'resnet-guide'"):
        make_plan(load_study(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text(text + "ideas: {f_own: {network: 'embedded:clip-measure'}}\n")
    plan = make_plan(load_study(tmp_path / "a.yaml"))
    assert [("ideas.f_own.network" in run.fingerprints, run.cell) for run in plan.runs] == [
        (False, "origin"),
        (True, "near"),
    ]
    assert any("metrics.clip has the weights of ideas.f_own.network" in each for each in plan.remarks(plan.cells[1]))


GIVEN = """
from torch import nn
from harness.ideas import Network, term

@term("generator")
class near(nn.Module):
    def __init__(self, *, eye: Network = "timm:resnet18@weights/none.pth"):
        super().__init__()
        self.eye = eye
    def forward(self, step):
        return self.eye.image(step.images["x"]).mean()
"""


def test_a_network_that_a_constructor_is_given_is_checked_hashed_and_not_measured_with(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GIVEN)
    text = """
study: own
code: mine.py
toggles: [near, {other: {ideas.near.eye: "embedded:resnet-measure"}}]
design: {kind: one-at-a-time, exclude: [[near, other]]}
data: {resolution: 32}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure"}
"""
    (tmp_path / "a.yaml").write_text(text)
    missing = rf"no file {tmp_path}/weights/none\.pth; correct the path"
    with pytest.raises(MissingWeights, match=rf"mine\.py:6: ideas\.near\.eye: .*{missing}"):
        make_plan(load_study(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text(text + "ideas: {near: {eye: 'embedded:resnet-guide'}}\n")
    plan = make_plan(load_study(tmp_path / "a.yaml"))
    prints = {run.cell: run.fingerprints.get("ideas.near.eye") for run in plan.runs}
    assert prints == {
        "origin": None,
        "near": encoders.fingerprint("embedded:resnet-guide"),
        "other": encoders.fingerprint("embedded:resnet-measure"),
    }
    remarks = {cell.name: " ".join(plan.remarks(cell)) for cell in plan.cells}
    told = "metrics.resnet has the weights of ideas.near.eye"
    assert [name for name, each in remarks.items() if told in each] == ["other"]
    seen = {cell.name: make_manifest(things(), cell.settings).resnet.seen for cell in plan.cells}
    assert seen == {"origin": False, "near": False, "other": True}
