"""Weights written back into a study file: what was there keeps every byte, and the new profile means what was found."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from applied import FULL, TAU, added, assert_written, profiles, written
from harness.errors import HarnessError, SpecError
from harness.study.load import load_study
from harness.study.schema import Tuned
from harness.tuning import profile as module
from harness.tuning.profile import write_profile

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "harness" / "presets").glob("*.yaml"))
WEIGHTS = {"loss.weights.generator.itd": 3.25, "loss.tau": 0.31, "train.r1_gamma": 2.0}
LONG = "img_img_loss-separate_features-transform_w-paired_contrast"
DATA = ("my-images", "coco/train2014", "coco/val2014", "cub/train", "cub/test")
LISTS = ("coco/annotations/captions_train2014.json", "coco/annotations/captions_val2014.json")
"""What the presets name."""


# Real files


@pytest.mark.parametrize("source", [ROOT / "ablations.yaml", *PRESETS], ids=lambda path: path.name)
def test_the_shipped_studies(source: Path, tmp_path: Path) -> None:
    path = written(tmp_path, source.read_bytes())
    for name in (*DATA, *(f"{Path(name).parent}" for name in LISTS)):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    for name in LISTS:
        (tmp_path / name).write_text("{}")
    for base in profiles(path)[:2]:
        assert assert_written(path, base, WEIGHTS, ()) == f"{base}-tuned-full"


def test_the_text_in_the_study_of_this_repository(tmp_path: Path) -> None:
    """The first lines and the last are in the manner of the file; merges and aliases are written out."""
    source = (ROOT / "ablations.yaml").read_bytes()
    path = written(tmp_path, source)
    write_profile(load_study(path, "both"), WEIGHTS, FULL)
    text = added(source, path.read_bytes()).decode()
    assert (
        text
        == """
  # written by harness tune: cell full, 30 trials, objective fd
  both-tuned-full:
    data: {resolution: 16}
    generator: {z_dim: 128, w_dim: 128, mapping_layers: 4, channel_base: 512, channel_max: 64, noise: false}
    discriminator: {channel_base: 512, channel_max: 64}
    encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide", crop: 0.125, pixel_noise: 0.05}
    train: {kimg: 16, batch: 32, lr: 0.005, r1_gamma: 2.0, pl_weight: 0, ema_kimg: 2, snapshots: 4}
    metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 1000}
    design: {kind: both, seeds: 3, control: 3}
    loss:
      weights:
        generator: {itd: 3.25}
      tau: 0.31
    tuned:
      full: {trials: 30, objective: fd}
"""
    )


# What it holds


def test_overrides_that_say_what_is_studied_are_in_it_and_others_are_not(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\nprofiles:\n  a:\n    train: {kimg: 3, batch: 8}\n    data:\n")
    overrides = (
        "train.kimg=5",
        "design={kind: list, include: [origin, full], seeds: 2}",
        "toggles=[mix_logits, {cosine: {loss.similarity: cosine}}]",
        "margins.fd=3",
        "data.resolution=32",
        "tune.storage=sqlite:////secret/place.db",
        "tracking.uri=http://user:word@place",
        "resources.slots=2",
        "study=other",
    )
    name = write_profile(load_study(path, "a", overrides), TAU, FULL)
    found = load_study(path, name)
    assert (found.settings.train.kimg, found.settings.train.batch, found.settings.data.resolution) == (5, 8, 32)
    assert (found.toggle_names, found.design.seeds, found.margins) == (("mix_logits", "cosine"), (0, 1), {"fd": 3})
    assert (found.name, found.resources.slots, found.tracking.uri) == ("s", "auto", None)
    text = path.read_text()
    assert not any(word in text for word in ("secret", "word", "storage", " tune:\n", str(tmp_path)))


OF_THE_USER = """\
study: s
toggles: [mix_logits, img_img_loss]
margins: {fd: 5}
levels: {train.batch: [16, 8]}
tune: {constraints: {kid: 4}}
design: {require: {mix_logits: [img_img_loss]}}
train: {batch: 16, r1_gamma: 1.0}
profiles:
  a: {margins: {clip_score: 1}, train: {kimg: 2}}
"""
"""Mappings whose keys are the user's."""
ADDED = (
    *("margins.kid=2", "levels.train.r1_gamma=[1.0, 10.0]", "tune.constraints.recall=0.1"),
    "design.require.img_img_loss=[mix_logits]",
)
INIT = "study: s\ndata: {resolution: 32}\ninit: 'embedded:origin-32'\nprofiles:\n  a:\n    init:\n"


@pytest.mark.parametrize(
    ("text", "profile", "overrides"),
    [
        (OF_THE_USER, None, ADDED),
        (OF_THE_USER, "a", ADDED),
        (INIT, "a", ()),
        (INIT.replace("init:\n", "init: 'embedded:origin-32'\n"), "a", ("init.generator=''",)),
        ("study: s\ndata: {resolution: 32}\n", None, ("init=embedded:origin-32",)),
    ],
    ids=["added", "added under a profile", "no init in a profile", "short init in a profile", "short init set"],
)
def test_what_profile_and_overrides_lay_over_the_file_is_laid_as_a_run_does(
    text: str, profile: str | None, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """`margins.kid=2` leaves the other margins alone, and a short `init` stands for each network."""
    assert_written(written(tmp_path, text), profile, {"loss.tau": 0.31}, overrides)


def test_ranges_given_to_the_search_come_along_so_that_the_weights_fit_them(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\ntune: {ranges: {loss.tau: [0.4, 0.6]}}\n")
    study = load_study(path, None, ["tune.ranges={loss.tau: [0.1, 2]}"])
    assert load_study(path, write_profile(study, TAU, FULL)).settings.loss.tau == 0.31


def test_later_overrides_win_and_weights_over_them(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n")
    study = load_study(path, None, ["loss.tau=0.4", "train.kimg=2", "train.kimg=3"])
    found = load_study(path, write_profile(study, TAU, FULL))
    assert (found.settings.loss.tau, found.settings.train.kimg) == (0.31, 3)


def test_earlier_searches_are_still_told(tmp_path: Path) -> None:
    path = written(
        tmp_path, "study: s\ntuned: {origin: {trials: 7, objective: kid}, full: {trials: 1, objective: fd}}\n"
    )
    name = write_profile(load_study(path), TAU, FULL)
    assert load_study(path, name).tuned == {"origin": Tuned(7, "kid"), "full": Tuned(30, "fd")}


def test_relative_paths_stay_relative(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    path = written(tmp_path, "study: s\nprofiles:\n  a:\n    data: {source: folder, path: images}\n")
    found = load_study(path, write_profile(load_study(path, "a"), TAU, FULL))
    assert found.settings.data.path == str(tmp_path / "images")
    assert path.read_text().count("data: {source: folder, path: images}") == 2


ODD = (
    "yes",
    "1.0",
    "null",
    "# no",
    "a: b",
    "{x",
    "é\u2028",
    "😀",
    "'",
    '"',
    "\\",
    " ",
    "a\nb\n",
    "2001-01-01",
    "~",
    "x" * 200,
)


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("head", ["", "%YAML 1.1\n---\n"])
def test_text_of_every_kind_survives(text: str, head: str, tmp_path: Path) -> None:
    """Also where the file is of another version of YAML, in which `yes` is true."""
    quoted = json.dumps(text, ensure_ascii=False)
    path = written(
        tmp_path, f"{head}study: s\nprofiles:\n  a:\n    tracking: {{experiment: {quoted}, uri: {quoted}}}\n"
    )
    found = load_study(path, write_profile(load_study(path, "a"), TAU, FULL))
    assert (found.tracking.experiment, found.tracking.uri) == (text, text)


# Its name


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        (("origin",), "tuned-origin"),
        (("mix_logits+transform_w",), "tuned-mix_logits-transform_w"),
        (("full", "origin"), "tuned-full-origin"),
        (("img_img_loss+separate_features+transform_w+paired_contrast",), f"tuned-{LONG}"[:64]),
    ],
)
def test_the_name_is_made_fit(cells: tuple[str, ...], name: str, tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n")
    assert write_profile(load_study(path), TAU, {cell: Tuned(1, "fd") for cell in cells}) == name
    assert load_study(path, name).settings.loss.tau == 0.31
    assert "1 trial, objective fd" in path.read_text()


def test_a_taken_name_gets_a_number_and_every_text_is_written_once(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n")
    study, taus = load_study(path), (0.31, 0.32, 0.33)
    names = [write_profile(study, {"loss.tau": tau}, FULL) for tau in (*taus, *taus)]
    assert names == ["tuned-full", "tuned-full-2", "tuned-full-3"] * 2
    assert [load_study(path, name).settings.loss.tau for name in names[:3]] == list(taus)
    assert profiles(path) == names[:3]


def test_a_long_name_that_is_taken_keeps_to_the_rule(tmp_path: Path) -> None:
    base = "b" * 64
    path = written(tmp_path, f"study: s\nprofiles:\n  {base}: {{}}\n")
    assert write_profile(load_study(path, base), TAU, FULL) == "b" * 62 + "-2"


def test_an_objective_cannot_write_more_than_a_comment(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n")
    write_profile(load_study(path), TAU, {"full": Tuned(2, "fd\n  evil: {}\r\x1b[31m\u2028\x85#")})
    assert profiles(path) == ["tuned-full"]
    assert "\x1b" not in path.read_text() and load_study(path, "tuned-full").tuned["full"].objective.startswith("fd\n")


# What cannot be


def test_weights_that_a_toggle_sets_are_refused(tmp_path: Path) -> None:
    text = "study: s\ntoggles:\n  - cold: {loss.tau: 0.1}\n"
    path = written(tmp_path, text)
    with pytest.raises(SpecError, match=r"toggles.*in the cell full loss\.tau would be 0\.1, not 0\.31"):
        write_profile(load_study(path), TAU, FULL)
    assert path.read_text() == text
    assert write_profile(load_study(path), TAU, {"origin": Tuned(3, "fd")}) == "tuned-origin"


def test_a_file_that_says_something_else_by_now_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n")
    study = load_study(path)
    path.write_text("study: s\ntrain: {kimg: 7}\n")
    with pytest.raises(SpecError, match=r"train\.kimg would be 7\.0, not 25000\.0(.|\n)*tau: 0\.31"):
        write_profile(study, TAU, FULL)
    assert path.read_text() == "study: s\ntrain: {kimg: 7}\n"
    path.write_text("study: s\nmargins: {fd: 5}\ninit: {generator: 'a.pt'}\n")
    with pytest.raises(SpecError, match=r"init\.generator would be 'a\.pt', not '', margins would be \{.*\}, not \{\}"):
        write_profile(study, TAU, FULL)


def test_the_file_as_it_is_now_takes_the_profile(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n")
    study = load_study(path)
    path.write_text("# newer\nstudy: s\nresources: {slots: 3}\n")
    write_profile(study, TAU, FULL)
    assert path.read_text().startswith("# newer\nstudy: s\nresources: {slots: 3}\n\nprofiles:\n")


def test_a_change_at_the_last_moment_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "study: s\n")
    study = load_study(path)
    monkeypatch.setattr(module.shutil, "copymode", lambda *_: path.write_text("study: s # mine\n"))
    with pytest.raises(HarnessError, match="changed"):
        write_profile(study, TAU, FULL)
    assert path.read_text() == "study: s # mine\n" and os.listdir(tmp_path) == ["study.yaml"]


def test_an_unknown_weight_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n")
    with pytest.raises(SpecError, match="unknown setting"):
        write_profile(load_study(path), {"loss.tua": 1.0}, FULL)
    assert path.read_text() == "study: s\n"


def test_a_read_only_file_is_left(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n")
    path.chmod(0o444)
    with pytest.raises(HarnessError, match=r"read-only(.|\n)*tau: 0\.31"):
        write_profile(load_study(path), TAU, FULL)
    assert path.read_text() == "study: s\n" and stat.S_IMODE(path.stat().st_mode) == 0o444


def test_mode_and_links_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "images").mkdir()
    target = written(tmp_path / "real", "study: s\ndata: {source: folder, path: images}\n")
    target.chmod(0o640)
    path = tmp_path / "link.yaml"
    path.symlink_to("real/study.yaml")
    name = write_profile(load_study(path), TAU, FULL)
    assert path.is_symlink() and not target.is_symlink() and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert load_study(path, name).settings.data.path == str(tmp_path / "images")
    assert os.listdir(tmp_path / "real") == ["study.yaml"]
