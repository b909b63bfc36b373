"""What an id is made of: what a run reads, and nothing that it does not."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import RecordError
from harness.models import objective
from harness.models.config import LossConfig
from harness.models.objective import Feature, H, Term
from harness.models.toggles import TOGGLES, apply
from harness.runs import identity
from harness.runs.folders import RunFolder
from harness.runs.identity import decisive, differences, run_id
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.settings import Settings
from harness.since import SINCE, complete
from harness.study.load import load_study
from harness.study.schema import apply_toggles
from harness.trees import as_tree
from runs import settings as tiny
from runs import trainer, weights

PRINTS = {"data": "d", "encoders.clip": "c"}
CODE = Path(identity.__file__).parents[2]


def changed(settings: Settings, path: str, value: Any) -> Settings:
    return settings.with_values({path: value})


def without(tree: dict[str, Any], path: str) -> dict[str, Any]:
    key, _, rest = path.partition(".")
    return {**tree, key: without(tree[key], rest)} if rest else {k: v for k, v in tree.items() if k != key}


def extended(config: Any, path: str, value: Any) -> Any:
    """The settings as a later version would have them, which has this setting more."""
    name, _, rest = path.partition(".")
    if rest and hasattr(config, name):
        return replace(config, **{name: extended(getattr(config, name), rest, value)})
    later = make_dataclass("Later", [(name, Any, field())], bases=(type(config),), frozen=True, kw_only=True)
    own = {each.name: getattr(config, each.name) for each in fields(config)}
    return later(**own, **{name: as_tree({rest: value}) if rest else value})


def as_read(folder: Path, settings: Mapping[str, Any]) -> Settings:
    """What is read of a run.json that holds these settings."""
    run = {"cell": "origin", "fingerprints": PRINTS, "id": folder.name, "seed": 0, "settings": settings}
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({**run, "study": "study", "toggles": []}))
    return RunFolder(folder).run().settings


def name(settings: Settings) -> str:
    return run_id(settings, 0, PRINTS)


def test_an_id_that_was_given_once_is_given_again() -> None:
    """Run folders of every user are found by these: neither number changes for an addition."""
    assert run_id(Settings(), 0, {"data": "d"}) == PINNED["origin"]
    assert run_id(apply(Settings(), TOGGLES), 7, PRINTS) == PINNED["full"]


PINNED = {"origin": "fa2703f92753", "full": "da1dc07fed44"}

FULL = apply(Settings(), TOGGLES).with_values({"condition.pseudo_probability": 0.5})
STOOD_FOR = {"encoders.clip", "encoders.resnet", "metrics.clip", "metrics.resnet", "metrics.more"}
STOOD_FOR |= {"metrics.captions", "init.generator", "init.discriminator", "init.averaged"}


@pytest.mark.parametrize(
    ("profile", "digest"),
    [
        ("both", "bf4da5a2e729173724fa0b39bb91382572e736cb6710b32b288aff77d4802dec"),
        ("paper", "c93cd83059d44810159cf18ec4fa641fda4d41f6935a577d91f8f7558ecd70b9"),
    ],
)
def test_the_ids_of_every_subset_of_the_shipped_study_stay(profile: str, digest: str) -> None:
    """All 64 subsets under two seeds, smallest first; the digests were taken before the code had its present layout.

    The profile `paper` had no crop then, and what is `both` now had the sizes of `quick`.
    """
    study = load_study(CODE / "ablations.yaml", profile, ["encoders.view=shift"])
    prints = {"data": "0" * 16, "encoders.clip": "1" * 16, "metrics.clip": "2" * 16}
    names = study.toggle_names
    subsets = [subset for size in range(7) for subset in combinations(names, size)]
    ids = [name for subset in subsets for name in identity.run_ids(apply_toggles(study, subset), (0, 1), prints)]
    assert len(set(ids)) == 128
    assert hashlib.sha256(" ".join(ids).encode()).hexdigest() == digest


def test_every_setting_that_is_read_changes_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = set(FULL.flat)
    stood_for = STOOD_FOR | {path for path in paths if path.startswith("data.")} - {"data.resolution", "data.mirror"}
    idle = {f"loss.weights.{player}.{term}" for player, term in (("generator", "itd"), ("generator", "itc"))}
    # transform_w has no text MLP, and what frozen encoders see is shifted.
    idle |= {f"generator.{name}" for name in ("modulate_from", "text_width", "text_activation", "text_lr_multiplier")}
    idle |= {"encoders.crop_from", "train.graphs"}  # the second computes the same by other means
    idle |= {path for path in paths if path.startswith("command.")} - {"command.run"}  # no script trains
    numbers = {path: name(changed(FULL, path, 0.123)) for path in paths}
    same = {path for path, each in numbers.items() if each == name(FULL)}
    # Another value of a switch is no row's, so what it switches is off; d_itd_on has one row a value.
    assert same == stood_for | idle
    assert len(set(numbers.values())) == len(paths - same) + 1 > 50
    others = [run_id(FULL, 1, PRINTS), run_id(FULL, 0, {**PRINTS, "data": "e"}), run_id(FULL, 0, {"data": "d"})]
    monkeypatch.setattr(identity, "ALGORITHM", identity.ALGORITHM + 1)
    others.append(name(FULL))
    assert len({*others, *numbers.values()}) == len(numbers.keys() - same) + 1 + 4


def test_what_is_said_of_a_setting_and_ids_is_so() -> None:
    roles = {path: identity.role_in_id(path) for path in FULL.flat}
    same = {path for path in roles if name(changed(FULL, path, 0.123)) == name(FULL)}
    assert {path for path, role in roles.items() if role in ("never", "by content")} <= same
    assert not same & {path for path, role in roles.items() if role == "always"}
    assert [identity.role_in_id(path) for path in ("resources.slots", "train.lr")] == ["never", "always"]


def test_an_id_is_the_hash_of_its_canonical_json() -> None:
    told = {"algorithm": identity.ALGORITHM, "fingerprints": PRINTS, "seed": 3, "settings": decisive(FULL)}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    assert run_id(FULL, 3, PRINTS) == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert decisive(FULL)["loss.terms.generator.iid_r: contrast(f_img(x), f_img(r))"] == 4.0
    assert not [path for path in decisive(FULL) if "weights" in path or path.endswith((".img_img_loss", "d_itd_on"))]


SILENT: dict[str, dict[str, Any]] = {
    "no mixed logits": {"loss.mix_lambda": (0.2, 0.9)},
    "paired": {"loss.weights.generator.itd": (5.0, 3.0), "loss.weights.generator.itc": (10.0, 1.0)},
    "not paired": {
        "loss.weights.generator.itd_r": (5.0, 3.0),
        "loss.weights.generator.itc_f": (2.0, 1.0),
        "condition.pseudo_noise": (0.75, 0.2),
        "condition.shared_noise": (False, True),
    },
    "no terms": {
        "loss.tau": (0.5, 0.1),
        "loss.similarity": ("exp", "cosine"),
        "loss.tau_place": ("factor", "logarithm"),
        "loss.group": (0, 2),
    },
    "no guided terms": {
        "encoders.view": ("shift", "crop"),
        "encoders.crop": (0.0, 0.25),
        "encoders.pixel_noise": (0.0, 0.3),
        "encoders.precision": ("fp32", "bf16"),
    },
    "no r1": {"train.r1_interval": (16, 2)},
    "concat": {"generator.modulate_from": (4, 8)},
    "transform_w": {
        "generator.text_width": (0, 16),
        "generator.text_activation": ("hidden", "both"),
        "generator.text_lr_multiplier": (1.0, 0.01),
    },
    "modulate": {"generator.text_activation": ("hidden", "both")},
    "no minibatch std": {"discriminator.minibatch_std_layout": ("neighbours", "strided")},
    "shift": {"encoders.crop_from": (0.5, 0.25)},
    "crop": {"encoders.crop": (0.125, 0.25)},
    "no path length": {
        "train.pl_mean_gradient": (False, True),
        "train.pl_interval": (4, 2),
        "train.pl_decay": (0.01, 0.5),
        "train.pl_batch_shrink": (2, 4),
    },
    "no average": {"train.ema_rampup": (0.05, 0.5)},
    "language-free": {"condition.text_noise": (0.1, 0.6)},
    "no image-image weights": {"loss.img_img_loss": (False, True)},
    "no ResNet weights": {"loss.resnet_guided": (False, True)},
    "no discriminator weights": {"loss.d_itd_on": ("fake", "real")},
}


NEEDED: dict[str, dict[str, Any]] = {
    "generator.modulate_from": {"generator.conditioning": "modulate"},
    "generator.text_width": {"generator.conditioning": "concat"},
    "generator.text_activation": {"generator.conditioning": "concat"},
    "generator.text_lr_multiplier": {"generator.conditioning": "concat"},
    "encoders.crop_from": {"encoders.view": "crop"},
}
"""Setting -> what all ideas together lack for it to be read."""


def in_state(state: str) -> Settings:
    """Settings that a tiny trainer takes, with what the state's name says is off."""
    paired = state in ("paired",)
    found = tiny(*(["paired_contrast"] if paired else []), r1_interval=2, pl_interval=2, ema_kimg=0.01)
    written = found.loss.weights
    off = {
        "no terms": [(player, term) for player in written for term in written[player]],
        "no guided terms": [("generator", term) for term in ("itc", "iiv_r", "iiv_f", "itc_r", "itc_f", "iic")],
        "no image-image weights": [("generator", term) for term in ("iid_r", "iid_f", "iic")],
        "no ResNet weights": [("generator", term) for term in ("iiv_r", "iiv_f", "iiv_d")]
        + [("discriminator", "iivd")],
        "no discriminator weights": [("discriminator", term) for term in written["discriminator"]],
    }
    for player, term in off.get(state, ()):
        found = changed(found, f"loss.weights.{player}.{term}", 0.0)
    values = {
        "no r1": {"train.r1_gamma": 0.0},
        "no path length": {"train.pl_weight": 0.0},
        "no average": {"train.ema_kimg": 0.0},
        "language-free": {"condition.pseudo_probability": 1.0},
        "transform_w": {"generator.conditioning": "transform"},
        "modulate": {"generator.conditioning": "modulate"},
        "no minibatch std": {"discriminator.minibatch_std_group": 0},
        "crop": {"encoders.view": "crop"},
    }
    for path, value in values.get(state, {}).items():
        found = changed(found, path, value)
    return found


@pytest.mark.parametrize(("state", "path"), [(state, path) for state, paths in SILENT.items() for path in paths])
def test_what_nothing_reads_is_in_no_id_and_changes_no_weight(state: str, path: str) -> None:
    """The rule and the trainer agree, to the last bit."""
    one, other = (changed(in_state(state), path, value) for value in SILENT[state][path])
    assert name(one) == name(other)
    assert not list(differences(one, other)) or path.split(".")[1] in objective.TERM_SWITCHES
    assert torch.equal(trained(one), trained(other))


@pytest.mark.parametrize(
    "path",
    sorted({path for paths in SILENT.values() for path in paths if not path.startswith("loss.weights")}),
)
def test_what_is_read_is_in_the_id_and_changes_weights(path: str) -> None:
    """The other half: where it is on, the very same change of value counts."""
    values = next(paths[path] for paths in SILENT.values() if path in paths)
    whole = changed(tiny(*TOGGLES, r1_interval=2, pl_interval=2, batch=8), "condition.pseudo_probability", 0.5)
    whole = whole.with_values(NEEDED.get(path, {}))
    one, other = (changed(whole, path, value) for value in values)
    assert name(one) != name(other) and [each for each, _, _ in differences(one, other)] == [path]
    if path != "encoders.precision":  # the cheap guides of tests know no bfloat16
        assert not torch.equal(trained(one), trained(other))


def trained(settings: Settings, steps: int = 3) -> torch.Tensor:
    it = trainer(settings)
    for step in range(steps):
        it.step(step)
    return torch.cat([weights(network) for network in vars(it.networks).values()])


def test_switches_of_terms_are_read_by_the_table_alone() -> None:
    """A switch that something else reads too must count by itself."""
    read = {
        (str(path.relative_to(CODE)), node.attr)
        for package in ("models", "harness")
        for path in (CODE / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in objective.TERM_SWITCHES
    }
    assert read == set()
    assert set(objective.TERM_SWITCHES) <= {field for term in objective.TERMS for field in term.when}


def with_term(monkeypatch: pytest.MonkeyPatch, term: Term) -> None:
    monkeypatch.setattr(objective, "TERMS", (*objective.TERMS, term))
    monkeypatch.setattr("harness.since.TERMS", objective.TERMS)


def test_a_new_term_that_is_off_leaves_every_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = name(Settings())

    @dataclass(frozen=True, kw_only=True)
    class Later(LossConfig):
        new_switch: bool = False

    with_term(monkeypatch, Term("new", "generator", 3.0, Feature("f_c", "x"), H, {"new_switch": True}))
    with_term(monkeypatch, Term("other", "discriminator", 3.0, Feature("f_img", "r"), H, {"mix_logits": "never"}))
    assert Settings().loss.weights["generator"]["new"] == 3.0
    off = Settings(loss=Later())
    monkeypatch.setitem(SINCE, "loss.new_switch", False)
    assert name(off) == before
    assert name(changed(off, "loss.new_switch", True)) != before


def test_a_term_that_came_later_has_no_weight_in_an_earlier_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, written = name(Settings()), Settings().as_dict()
    with_term(monkeypatch, Term("new", "generator", 3.0, Feature("f_c", "x"), H))
    old = as_read(tmp_path / "old", written)
    assert name(old) == before and old.loss.weights["generator"]["new"] == 0.0
    assert name(Settings()) != before
    assert list(differences(old, Settings())) == [("loss.weights.generator.new", 0.0, 3.0)]


@pytest.mark.parametrize("path", ["train.new", "loss.adversarial", "later.section", "generator.deep.down"])
def test_a_new_option_at_its_old_value_leaves_every_id_alone(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    before, old = name(Settings()), Settings().as_dict()
    monkeypatch.setitem(SINCE, path, "as before")
    new, other = (extended(Settings(), path, value) for value in ("as before", "otherwise"))
    assert name(new) == name(Settings()) == before and not list(differences(new, new))
    assert name(other) != before and list(differences(new, other)) == [(path, "as before", "otherwise")]
    assert complete(old) == new.as_dict() and complete(other.as_dict()) == other.as_dict()
    assert path.split(".")[-1] not in str(old)


def test_an_earlier_run_is_read_as_it_was_trained_and_not_by_a_later_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = without(Settings().as_dict(), "train.style_mixing")
    monkeypatch.setitem(SINCE, "train.style_mixing", 0.25)
    assert as_read(tmp_path / "old", old).train.style_mixing == 0.25 != Settings().train.style_mixing


def test_a_folder_is_the_run_of_whoever_computes_the_same(tmp_path: Path) -> None:
    def run(**loss: Any) -> Run:
        values = Settings(loss=replace(Settings().loss, **loss))
        return Run(name(values), "study", "origin", 0, (), values, PRINTS)

    folder = RunFolder(tmp_path / "run")
    folder.create(run(mix_lambda=0.5))
    folder.create(run(mix_lambda=0.75))
    assert folder.run().settings.loss.mix_lambda == 0.5
    with pytest.raises(Exception, match="holds a run with other"):
        folder.create(run(tau=0.25))


@pytest.mark.parametrize(
    "values", [{"x": 1}, {"loss": 3}, {"loss": {"weights": 1}}, {"data": {}, "train": 2}, {"train": {"kimgs": 2}}, 3]
)
def test_settings_that_are_none_of_ours_are_refused(tmp_path: Path, values: Any) -> None:
    with pytest.raises(RecordError, match=r"run\.json: cannot be used \(settings.*(; | else )move the folder away"):
        as_read(tmp_path / "strange", values)
    assert Snapshot(tmp_path, ()).other_runs == ()


@pytest.mark.parametrize("values", [{}, {"loss": {}}, {"data": {}, "train": {}}])
def test_what_is_in_no_table_of_later_settings_has_its_default(tmp_path: Path, values: dict[str, Any]) -> None:
    assert as_read(tmp_path / "bare", values) == Settings()
