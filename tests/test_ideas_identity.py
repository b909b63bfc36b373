"""What the settings and the code of ideas do to a run's id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.frozen_networks import encoders_read, guides
from harness.runs import identity
from harness.runs.folders import RunFolder
from harness.runs.identity import decisive, differences, run_id
from harness.runs.record import Run
from harness.runs.scale import scale_name
from harness.settings import Settings

PRINTS = {"data": "d", "encoders.clip": "c"}


def changed(settings: Settings, path: str, value: Any) -> Settings:
    return settings.with_values({path: value})


def name(settings: Settings) -> str:
    return run_id(settings, 0, PRINTS)


IDEA = {"on": True, "weight": 1.0, "shift": 3, "kind": "term", "reads": ("f_own",)}
FEATURE = {"network": "embedded:resnet-guide", "size": 0, "kind": "feature", "reads": ()}
WITH_IDEAS = replace(Settings(), ideas={"far": IDEA, "f_own": FEATURE})


def test_settings_of_ideas_are_in_the_id_of_cells_that_have_them() -> None:
    assert name(replace(Settings(), ideas={})) == name(Settings()) and not any(
        "ideas" in path for path in decisive(Settings())
    )
    told = {path: value for path, value in decisive(WITH_IDEAS).items() if path.startswith("ideas.")}
    assert told == {"ideas.far.on": True, "ideas.far.weight": 1.0, "ideas.far.shift": 3, "ideas.f_own.size": 0}
    for path, value in (("ideas.far.shift", 2), ("ideas.far.weight", 0.5), ("ideas.f_own.size", 64)):
        assert name(changed(WITH_IDEAS, path, value)) != name(WITH_IDEAS)
    assert name(changed(WITH_IDEAS, "ideas.f_own.network", "timm:other")) == name(WITH_IDEAS)
    differing = differences(Settings(), WITH_IDEAS)
    assert {path: (before, after) for path, before, after in differing} == {
        path: (None, value) for path, value in told.items()
    }
    moved = changed(WITH_IDEAS, "ideas.f_own.network", "timm:other")
    assert identity.relocated(WITH_IDEAS, moved) == moved and identity.relocated(Settings(), moved) == Settings()


def test_a_network_that_an_idea_is_given_enters_the_id_by_its_weights_alone() -> None:
    given = {"on": True, "network": "embedded:resnet-guide", "width": 4, "kind": "discriminator", "reads": ()}
    own = replace(Settings(), ideas={"projected": {**given, "networks": ("network",)}})
    moved = changed(own, "ideas.projected.network", "timm:other@elsewhere.pth")
    assert name(moved) == name(own) != name(changed(own, "ideas.projected.width", 5))
    path = "ideas.projected.network"
    assert guides(own)[path] == encoders_read(own)[path] == "embedded:resnet-guide"
    assert run_id(own, 0, {**PRINTS, path: "1"}) != run_id(own, 0, {**PRINTS, path: "2"})
    assert path not in guides(replace(own, ideas={"projected": {**own.ideas["projected"], "on": False}}))
    text = replace(Settings(), ideas={"projected": given})  # a plain text, whatever it is called
    assert path not in guides(text) and name(changed(text, path, "timm:other")) != name(text)


def test_an_idea_may_read_every_setting_but_weights_that_are_off() -> None:
    for path, value in (("loss.mix_lambda", 0.1), ("encoders.crop_from", 0.25), ("train.pl_decay", 0.5)):
        bare = Settings().with_values({"train.pl_weight": 0.0})
        assert name(changed(bare, path, value)) == name(bare)
        own = replace(bare, ideas=WITH_IDEAS.ideas)
        assert name(changed(own, path, value)) != name(own)
    assert name(changed(WITH_IDEAS, "loss.weights.generator.itd_r", 9.0)) == name(WITH_IDEAS)


def test_ideas_come_back_from_a_run_folder(tmp_path: Path) -> None:
    run = Run("0" * 12, "study", "far", 0, ("far",), WITH_IDEAS, PRINTS, source={"mine.py": "x = 'ä'\n"})
    RunFolder(tmp_path / run.id).create(run)
    assert replace(RunFolder(tmp_path / run.id).run(), begun=0.0) == run and hash(run.settings) == hash(WITH_IDEAS)


def test_code_measures_no_real_image_again() -> None:
    run = Run("0" * 12, "study", "far", 0, ("far",), WITH_IDEAS, PRINTS)
    further = replace(run, fingerprints={**PRINTS, "code.mine.py": "1", "ideas.f_own.network": "2"})
    assert scale_name(further, "m") == scale_name(run, "m")
    assert scale_name(replace(run, fingerprints={**PRINTS, "metrics.more.0": "2"}), "m") != scale_name(run, "m")


def test_what_a_run_starts_from_measures_no_real_image_again() -> None:
    run = Run("0" * 12, "study", "origin", 0, (), Settings(), PRINTS)
    one, other = (
        replace(run, settings=changed(Settings(), path, text), fingerprints={**PRINTS, path: text})
        for path, text in (("init.generator", "1"), ("init.averaged", "2"))
    )
    elsewhere = replace(run, fingerprints={**PRINTS, "data": "of other images"})
    assert scale_name(one) == scale_name(other) == scale_name(run) != scale_name(elsewhere)
