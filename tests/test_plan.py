"""Plans: which runs a study is, what names them, and what makes a run another run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.select import find_run, run_rows
from harness.errors import DataError, MissingWeights, SpecError
from harness.models.toggles import TOGGLES
from harness.runs.folders import RunFolder
from harness.runs.identity import run_id
from harness.settings import DataConfig, Settings
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.study.remarks import remark_lines


@pytest.fixture(autouse=True)
def prints(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Content of data sets and encoders by name; those not named have their name for content."""
    content: dict[str, str] = {}

    def data(config: DataConfig, cache: Path) -> str:
        return content.get(config.source, f"{config.source} at {config.resolution}")

    monkeypatch.setattr("harness.data.dataset.fingerprint", data)
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: content.get(name, name))
    monkeypatch.setattr("harness.models.encoders.check", lambda name, kind=None: None)
    return content


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    def planned(text: str, *overrides: str) -> Plan:
        path = tmp_path / "study.yaml"
        path.write_text(f"study: tiny\n{text}", encoding="utf-8")
        return make_plan(load_study(path, None, overrides))

    return planned


def ids(plan: Plan) -> dict[tuple[str, int], str]:
    return {(run.cell, run.seed): run.id for run in plan.runs}


def test_runs_are_cells_times_seeds(planned: Any) -> None:
    plan = planned("toggles: [mix_logits, transform_w]\ndesign: {seeds: [0, 7], include: [full]}\n")
    assert [(run.cell, run.seed) for run in plan.runs] == [
        (cell, seed) for cell in ("origin", "mix_logits", "transform_w", "full") for seed in (0, 7)
    ]
    assert all(len(run.id) == 12 and set(run.id) <= set("0123456789abcdef") for run in plan.runs)
    assert plan.runs[2].toggles == ("mix_logits",) and plan.runs[2].settings.loss.mix_logits is True
    assert plan.runs_of(plan.cell("transform_w+mix_logits")) == plan.runs[6:]


def test_all_64_subsets_have_runs_of_their_own(planned: Any) -> None:
    plan = planned("design: {kind: full, seeds: 2}\n")
    assert len(plan.cells) == 64 and len({run.id for run in plan.runs}) == 128


def test_an_id_is_the_same_in_another_process(planned: Any) -> None:
    ours = "from harness.runs.identity import run_id; from harness.settings import Settings"
    code = f"{ours}; print(run_id(Settings(), 3, {{'data': 'd'}}))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == run_id(Settings(), 3, {"data": "d"})


def test_a_setting_that_is_new_in_the_code_makes_new_runs(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(planned(""))
    whole = Settings.as_dict
    monkeypatch.setattr(Settings, "as_dict", lambda self: {**whole(self), "extra": {"new": 0}})
    assert set(before.values()).isdisjoint(run_id(run.settings, run.seed, run.fingerprints) for run in planned("").runs)


@pytest.mark.parametrize("change", ["train.kimg=9", "loss.tau=0.4", "metrics.samples=64", "design.seeds=[1]"])
def test_a_changed_study_shares_no_run(planned: Any, change: str) -> None:
    assert set(ids(planned("")).values()).isdisjoint(ids(planned("", change)).values())


def test_a_weight_makes_new_runs_of_the_cells_whose_term_is_on(planned: Any) -> None:
    before, after = ids(planned("")), ids(planned("", "loss.weights.generator.itd=4"))
    assert {cell for (cell, seed), run in after.items() if run == before[cell, seed]} == {"paired_contrast"}


@pytest.mark.parametrize("change", ["resources.slots=2", "tracking.experiment=x", "study=other", "baseline=mix_logits"])
def test_what_does_not_decide_a_result_does_not_change_its_id(planned: Any, change: str) -> None:
    assert ids(planned("")) == ids(planned("", change))


def test_written_out_defaults_and_key_order_do_not_matter(planned: Any) -> None:
    first = planned("train: {batch: 16, kimg: 4}\nloss: {tau: 0.5}\ntoggles: [mix_logits, transform_w]\n")
    second = planned("toggles: [transform_w, mix_logits]\ntrain: {kimg: 4.0}\n", "design.include=[full]")
    assert ids(first).items() <= ids(second).items()


def test_the_order_of_toggles_does_not_matter(planned: Any) -> None:
    names = list(TOGGLES)
    first = planned(f"toggles: {names}\ndesign: {{include: [full]}}\n".replace("'", ""))
    second = planned(f"toggles: {names[::-1]}\ndesign: {{include: [full]}}\n".replace("'", ""))
    assert ids(first) == ids(second)


def test_other_content_under_the_same_name_is_another_run(planned: Any, prints: dict[str, str]) -> None:
    before = ids(planned("toggles: [mix_logits, resnet_guided]\n"))
    prints["twemoji"] = "new pictures"
    pictures = ids(planned("toggles: [mix_logits, resnet_guided]\n"))
    assert set(before.values()).isdisjoint(pictures.values())
    prints["timm:resnet50.a1_in1k"] = "new weights"
    weights = ids(planned("toggles: [mix_logits, resnet_guided]\n"))
    assert {cell for (cell, _), run in weights.items() if run != pictures[cell, 0]} == {"resnet_guided"}


def test_only_the_encoders_that_a_run_reads_are_its_fingerprints(planned: Any) -> None:
    plan = planned("toggles: [mix_logits, resnet_guided]\n")
    assert set(plan.runs[0].fingerprints) == {"data", "encoders.clip", "metrics.clip", "metrics.resnet"}
    assert set(plan.runs[2].fingerprints) == {*plan.runs[0].fingerprints, "encoders.resnet"}
    off = {"iiv_r": 0, "iiv_f": 0, "iiv_d": 0}
    weights = f"loss: {{weights: {{generator: {off}, discriminator: {{iivd: 0}}}}}}\n".replace("'", "")
    silent = planned(f"toggles: [resnet_guided]\n{weights}")
    assert silent.cell("resnet_guided").same_as == "origin" and "encoders.resnet" not in silent.runs[0].fingerprints


def test_cells_with_the_same_settings_share_their_runs(planned: Any) -> None:
    plan = planned("loss: {mix_logits: true}\ntoggles: [mix_logits, transform_w]\n")
    assert [(cell.name, cell.same_as) for cell in plan.cells] == [
        ("origin", None),
        ("mix_logits", "origin"),
        ("transform_w", None),
    ]
    assert [run.cell for run in plan.runs] == ["origin", "transform_w"]
    assert plan.runs_of(plan.cell("mix_logits")) == plan.runs[:1] == plan.select(["mix_logits"])


@pytest.mark.parametrize("patch", ["data.resolution: 64", "metrics.samples: 500"])
def test_cells_that_could_not_be_compared_are_refused(planned: Any, patch: str) -> None:
    with pytest.raises(SpecError, match=r"study.yaml:\d+:\d+: toggles: small changes data or metrics"):
        planned(f"toggles: [{{small: {{{patch}}}}}]\n")


def test_a_baseline_that_is_another_cell_is_refused(planned: Any) -> None:
    with pytest.raises(SpecError, match="baseline: 'same' has the very settings of 'origin'"):
        planned("toggles: [{same: {loss.tau: 0.5}}]\nbaseline: same\n")


def test_a_cell_that_changes_nothing_that_is_read_is_the_same_as_another(planned: Any) -> None:
    plan = planned("toggles: [{idle: {loss.mix_lambda: 0.25}}, mix_logits]\ndesign: {kind: full, seeds: 2}\n")
    assert {cell.name: cell.same_as for cell in plan.cells} == {
        "origin": None, "idle": "origin", "mix_logits": None, "full": None,
    }  # fmt: skip
    idle = plan.cell("idle")
    assert plan.runs_of(idle) == plan.runs_of(plan.cell("origin")) and len({run.id for run in plan.runs}) == 6
    assert plan.changes(idle) == {"loss.mix_lambda": 0.25} and idle.idle == ("loss.mix_lambda",)
    (told,) = plan.remarks(idle)
    assert told.startswith("differs from 'origin' in loss.mix_lambda alone, which changes nothing that is computed")


@pytest.mark.parametrize(
    ("patch", "setting"),
    [
        ("{loss.weights.generator.iid_r: 9}", "loss.weights.generator.iid_r"),
        ("{condition.pseudo_noise: 0.5}", "condition.pseudo_noise"),
        ("{encoders.resnet: timm:other}", "encoders.resnet"),
    ],
)
def test_a_baseline_that_computes_what_another_cell_does_is_refused(planned: Any, patch: str, setting: str) -> None:
    with pytest.raises(SpecError, match=f"'idle' differs from 'origin' in {setting} alone.*; name 'origin', or"):
        planned(f"toggles: [{{idle: {patch}}}, mix_logits]\nbaseline: idle\n")


def test_two_names_of_the_same_weights_are_one_cell(planned: Any, prints: dict[str, str]) -> None:
    prints["open_clip:ViT-B-32/copy"] = "open_clip:ViT-B-32/openai"
    plan = planned("toggles: [{copy: {encoders.clip: open_clip:ViT-B-32/copy}}]\n")
    assert [cell.same_as for cell in plan.cells] == [None, "origin"] and len(plan.runs) == 1


def test_selecting_cells(planned: Any) -> None:
    plan = planned("toggles: [mix_logits, transform_w]\ndesign: {include: [full], seeds: 2}\n")
    assert plan.select([]) == plan.runs
    assert [run.cell for run in plan.select(["full", "origin"])] == ["origin", "origin", "full", "full"]
    with pytest.raises(SpecError, match=r"no cell 'mix_logit' in the plan; did you mean 'mix_logits'\?"):
        plan.select(["mix_logit"])


def test_missing_weights_name_the_setting(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(name: str, kind: str) -> None:
        if kind == "resnet":
            raise FileNotFoundError(f"no {name}")

    monkeypatch.setattr("harness.models.encoders.check", check)
    with pytest.raises(MissingWeights) as refused:
        planned("toggles: [resnet_guided]\n")
    assert [line.partition("study.yaml: ")[2] for line in str(refused.value).splitlines()] == [
        "metrics.resnet: no timm:resnet101.a1_in1k",
        "encoders.resnet: no timm:resnet50.a1_in1k",
    ]


def test_a_judge_with_the_weights_of_a_guide_is_remarked(planned: Any, prints: dict[str, str]) -> None:
    prints.update({"open_clip:ViT-B-32/openai": "same", "open_clip:ViT-L-14/laion2b_s32b_b82k": "same"})
    plan = planned("toggles: [resnet_guided]\nmetrics: {resnet: timm:resnet50.a1_in1k}\n")
    origin, guided = (plan.remarks(cell) for cell in plan.cells)
    assert len(origin) == 1 and origin[0].startswith("metrics.clip has the weights of encoders.clip, which guides")
    assert origin[0].endswith("with the ending _seen and takes no part in verdicts; no clip_score is left for them, "
                              "so name another network")  # fmt: skip
    assert len(guided) == 2 and "metrics.resnet has the weights of encoders.resnet" in guided[1]
    assert "no headline distance is left" in guided[1]
    lines = remark_lines({cell.name: plan.remarks(cell) for cell in plan.cells})
    assert [line.partition(":")[0] for line in lines] == ["every cell", "resnet_guided"]


def test_further_networks_are_fingerprints_and_may_be_guides_without_losing_the_headline(planned: Any) -> None:
    plan = planned("toggles: [resnet_guided]\nmetrics: {more: [timm:resnet50.a1_in1k]}\n")
    assert plan.runs[0].fingerprints["metrics.more.0"] == "timm:resnet50.a1_in1k"
    assert plan.remarks(plan.cells[0]) == ()
    (remark,) = plan.remarks(plan.cells[1])
    assert remark.startswith("metrics.more.0 has the weights of encoders.resnet") and "is left" not in remark
    assert set(ids(plan).values()).isdisjoint(ids(planned("toggles: [resnet_guided]\n")).values())


def test_data_errors_pass_through(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, resolution: int) -> str:
        raise DataError("no pictures")

    monkeypatch.setattr("harness.data.dataset.fingerprint", refuse)
    with pytest.raises(DataError, match="no pictures"):
        planned("")


def test_states_come_from_the_run_folders(planned: Any) -> None:
    plan = planned("toggles: [mix_logits, transform_w]\n")
    folder = RunFolder(plan.study.root / plan.runs[1].id)
    folder.create(plan.runs[1])
    folder.update(
        state="failed",
        step=5,
        total_steps=10,
        attempt=2,
        images_per_s=3.5,
        failure="out_of_memory",
        error="out of memory",
    )
    assert list(plan.states().values()) == ["pending", "failed", "pending"]
    pending, failed, _ = run_rows(plan)
    assert failed == {
        "id": plan.runs[1].id, "cell": "mix_logits", "seed": 0, "state": "failed", "step": 5, "total_steps": 10,
        "kimg": 0.08, "images_per_s": 3.5, "attempt": 2, "held_by": "", "failure": "out_of_memory",
        "error": "out of memory", "folder": str(folder.path), "script_notes": {}, "worker": None, "device": "",
        "memory_mib": 0.0, "sharing": "", "measuring": False, "seconds_left": None, "scores": {},
    }  # fmt: skip
    assert (pending["state"], pending["step"], pending["total_steps"]) == ("pending", 0, Settings().total_steps)


def test_a_run_is_found_by_id_or_by_cell_and_seed(planned: Any) -> None:
    plan = planned("toggles: [mix_logits]\ndesign: {seeds: 2}\n")
    for run in plan.runs:
        RunFolder(plan.study.root / run.id).create(run)
    run = plan.runs[3]
    assert find_run(plan.study, run.id) == find_run(plan.study, run.id[:8]) == plan.study.root / run.id
    assert find_run(plan.study, "full/1") == plan.study.root / run.id
    with pytest.raises(SpecError, match=r"names no runs of .*; did you mean 'mix_logits/1'\?"):
        find_run(plan.study, "mix_logits/7")
    for word in ("runs/tiny/0123456789ab", f"{plan.study.root}/{run.id}/run.json", "ful/0"):
        with pytest.raises(
            SpecError,
            match=f"'{word}' is no folder with a run.json, and there is no cell '.*; allowed|did you mean 'full'",
        ):
            find_run(plan.study, word)
    with pytest.raises(SpecError, match="names no runs"):
        find_run(plan.study, "")


def test_a_run_that_has_not_started_is_said_to_be_so(planned: Any) -> None:
    plan = planned("toggles: [mix_logits]\n")
    study = replace(plan.study, profile="none", overrides=("train.batch=8",))
    with pytest.raises(SpecError, match=r"harness run-grid .* --profile none --set train\.batch=8 --only mix_logits`"):
        find_run(study, "mix_logits/0")


def test_the_json_is_stable(planned: Any) -> None:
    plan = planned("toggles: [mix_logits, transform_w]\ndesign: {kind: full, exclude: [[mix_logits, transform_w]]}\n")
    document = json.loads(json.dumps(plan.as_dict()))
    assert document["runs"][1] == {
        "id": plan.runs[1].id, "cell": "mix_logits", "seed": 0, "toggles": ["mix_logits"], "state": "pending",
    }  # fmt: skip
    document["can"]["condition"] = round(document["can"]["condition"], 9)
    assert document.pop("runs") and document == {
        "study": "tiny",
        "profile": None,
        "baseline": "origin",
        "design": {
            "kind": "full", "include": [], "seeds": [0], "max_seeds": None, "cells": [],
            "exclude": [["mix_logits", "transform_w"]],
            "require": {}, "resolution": None, "generators": [], "control": 0,
        },
        "levels": [],
        "can": {
            "name": "full", "runs": 3, "fraction": None, "basis": "pairs", "condition": 2.0,
            "effects": [
                {"toggle": "mix_logits", "aliases": [], "pairs": 1},
                {"toggle": "transform_w", "aliases": [], "pairs": 1},
            ],
            "interactions": [], "trends": [], "inestimable": ["mix_logits:transform_w"],
            "warnings": [
                "the rules drop cells: no interaction can be estimated of mix_logits:transform_w",
                "no longer orthogonal (condition number 2; 1 is orthogonal): effects are read from pairs of cells that "
                "differ in one toggle, with wider intervals",
            ],
        },
        "cells": [
            {"name": "origin", "toggles": [], "same_as": None, "changes": {}, "remarks": []},
            {
                "name": "mix_logits", "toggles": ["mix_logits"], "same_as": None,
                "changes": {"loss.mix_logits": True}, "remarks": [],
            },
            {
                "name": "transform_w", "toggles": ["transform_w"], "same_as": None,
                "changes": {"generator.conditioning": "transform"}, "remarks": [],
            },
        ],
        "dropped": [{"name": "full", "reason": "mix_logits and transform_w exclude each other"}],
    }  # fmt: skip
