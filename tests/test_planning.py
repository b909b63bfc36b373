"""What a plan says beside its runs: the order, why each would run, what it costs and what it can detect."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.planning.forecast import Given, forecast, wall_time
from harness.planning.reasons import reasons
from harness.runs import identity
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim
from harness.runs.machine import Machine
from harness.runs.record import Result, Run
from harness.scheduler.slots import Slot
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan

TWO = "toggles: [mix_logits, transform_w]\ndesign: {seeds: 2}\ntrain: {kimg: 10}\n"
CARDS = {"fd_emoji": {"role": "headline"}, "clip_score": {"role": "headline"}, "kid_emoji": {"role": "further"}}


@pytest.fixture(autouse=True)
def content(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Fingerprints of data sets and encoders by name; those not named have their name for one."""
    found: dict[str, str] = {}
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda config, cache: found.get(config.source, "data"))
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: found.get(name, name))
    monkeypatch.setattr("harness.models.encoders.check", lambda name, kind=None: None)
    monkeypatch.setattr("harness.planning.forecast.find_slots", lambda *_: (Slot(0, "cpu", 1),) * 2)
    return found


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    def planned(text: str, *overrides: str) -> Plan:
        path = tmp_path / "study.yaml"
        path.write_text(f"study: tiny\n{text}", encoding="utf-8")
        return make_plan(load_study(path, None, overrides))

    return planned


def ids(plan: Plan) -> dict[tuple[str, int], str]:
    return {(run.cell, run.seed): run.id for run in plan.runs}


def folder(plan: Plan, run: Run, **status: Any) -> RunFolder:
    made = RunFolder(plan.study.root / run.id)
    made.create(run)
    made.update(**status)
    return made


def finish(
    plan: Plan, run: Run, fd: float = 20.0, s_per_kimg: float = 3.0, seconds: float = 40.0, weights: str = ""
) -> None:
    made = folder(plan, run, state="done", step=625, total_steps=625)
    metrics = {"fd_emoji": fd, "clip_score": 50.0 + fd, "kid_emoji": 0.1}
    made.finish(Result(metrics, CARDS, {"s_per_kimg": s_per_kimg, "seconds": seconds}, weights))


def test_control_seeds_follow_the_baselines_own(planned: Any) -> None:
    plan = planned("toggles: [mix_logits]\nbaseline: mix_logits\ndesign: {seeds: [2, 0], control: 2}\n")
    expected = [("origin", 2), ("origin", 0), *(("mix_logits", seed) for seed in (2, 0, 3, 4))]
    assert [(run.cell, run.seed) for run in plan.runs] == expected and plan.design.runs == 6
    plain = planned("toggles: [mix_logits]\nbaseline: mix_logits\ndesign: {seeds: [2, 0, 3, 4]}\n")
    assert ids(plan).items() < ids(plain).items(), "a seed more and a control seed are the same run"
    assert len(plan.select(["mix_logits"])) == 4


def test_the_queue_goes_seed_by_seed_with_the_cells_of_each_shuffled(planned: Any) -> None:
    text = "design: {kind: full, seeds: [5, 1, 8, 2], control: 2}\n"
    plan = planned(text)
    queue = plan.queue(plan.runs)
    assert sorted(run.id for run in queue) == sorted(run.id for run in plan.runs)
    assert [run.seed for run in queue] == [seed for seed in (5, 1, 8, 2) for _ in range(64)] + [9, 10]
    orders = [[run.cell for run in queue if run.seed == seed] for seed in (5, 1, 8)]
    written = [cell.name for cell in plan.cells]
    assert all(sorted(order) == sorted(written) and order != written for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert [run.id for run in planned(text).queue(plan.runs[::-1])] == [run.id for run in queue]
    other = planned(text, "study=other")
    assert [run.cell for run in other.queue(other.runs)] != [run.cell for run in queue]


def test_what_takes_longest_begins_first_in_the_last_seed(planned: Any) -> None:
    text = "toggles: [transform_w, mix_logits, {brief: {train.kimg: 2}}]\ndesign: {kind: full, seeds: [3, 0]}\n"
    plan = planned(text)
    queue = plan.queue(plan.runs)
    before, last = ([run for run in queue if run.seed == seed] for seed in (3, 0))
    ranks = [(run.settings.train.kimg, len(run.toggles)) for run in last]
    assert ranks == sorted(ranks, reverse=True) and len(set(ranks)) < len(ranks)
    assert [(run.settings.train.kimg, len(run.toggles)) for run in before] != ranks
    alone = planned(text.replace("[3, 0]", "[0, 3]"))
    assert alone.queue(alone.runs)[0].cell != last[0].cell, "shuffled as ever where another seed is the last"
    added = planned(text.replace("[3, 0]", "auto"))
    assert [run.cell for run in added.queue(added.runs)][-8] == "full-minus-brief", "a look waits for the last run"


def test_a_part_of_the_grid_keeps_the_order_of_the_whole(planned: Any) -> None:
    plan = planned("design: {kind: both, seeds: 2}\n")
    some = plan.select(["origin", "full", "mix_logits", "full-minus-mix_logits"])
    assert plan.queue(some) == tuple(run for run in plan.queue(plan.runs) if run in some)


def test_why_each_run_would_run(planned: Any) -> None:
    plan = planned(TWO)
    states: list[dict[str, Any]] = [
        {"state": "done", "step": 9, "total_steps": 10},
        {"state": "failed", "step": 5, "total_steps": 10, "error": "Traceback\n  deep\nMemoryError: out of it\n"},
        {"state": "interrupted", "step": 4, "total_steps": 10},
        {"state": "running", "step": 1, "total_steps": 10},
        {"state": "diverged", "step": 3, "total_steps": 10},
    ]
    for run, status in zip(plan.runs, states, strict=False):
        folder(plan, run, **status)
    RunFolder(plan.study.root / plan.runs[0].id).finish(Result({"fd": 1.0}, {}, {}))
    claim = Claim(plan.study.root / plan.runs[3].id)
    assert claim.take()
    found = reasons(plan)
    claim.drop()
    assert reasons(plan)[3].why == "interrupted", "nobody has it any more"
    assert [reason.run for reason in found] == list(plan.runs)
    assert [(reason.why, reason.detail, reason.left) for reason in found] == [
        ("done", "", 0), ("failed", "MemoryError: out of it", 0.5), ("interrupted", "continues at step 4 of 10", 0.6),
        ("running", "at step 1 of 10", 0.9), ("diverged", "", 0), ("new", "", 1),
    ]  # fmt: skip


def test_a_run_with_other_settings_is_said_to_be_changed_and_in_what(planned: Any, content: dict[str, str]) -> None:
    before = planned(TWO)
    for run in before.runs[:3]:
        finish(before, run)

    def told(*overrides: str, text: str = TWO) -> list[str]:
        return [f"{reason.why} {reason.detail}".strip() for reason in reasons(planned(text, *overrides))]

    assert told() == ["done"] * 3 + ["new"] * 3
    longer = "changed train.kimg 10 -> 8"
    assert told("train.kimg=8") == [longer, longer, longer, "new", "new", "new"]
    many = told("train.kimg=8", "train.batch=8", "loss.tau=0.25", "train.lr=0.1", "discriminator.minibatch_std_group=4")
    assert many[0].startswith("changed loss.tau 0.5 -> 0.25, train.kimg 10 -> 8, train.batch 16 -> 8 and ")
    assert told(text=TWO.replace("mix_logits, transform_w", "transform_w, mix_logits")).count("new") == 3
    content["twemoji"] = "other pictures"
    assert told()[0] == "changed the content of data"


def test_the_most_alike_of_several_runs_is_the_one_compared(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for overrides in (["train.kimg=4", "loss.tau=0.1"], ["train.kimg=5"]):
        other = planned(TWO, *overrides)
        finish(other, other.runs[0])
    assert reasons(planned(TWO))[0].detail == "train.kimg 5 -> 10"
    plan = planned(TWO)
    finish(plan, plan.runs[0])
    monkeypatch.setattr(identity, "ALGORITHM", identity.ALGORITHM + 1)
    assert reasons(planned(TWO))[0].detail == "the code that computes results"


def test_folders_that_hold_no_run_are_passed_over(planned: Any) -> None:
    plan = planned(TWO)
    for name, text in {"a": None, "b": "{", "c": "[1]", "d": '{"cell": 1}'}.items():
        (plan.study.root / name).mkdir(parents=True)
        if text:
            (plan.study.root / name / "run.json").write_text(text)
    assert {reason.why for reason in reasons(plan)} == {"new"}


def test_cost_is_measured_by_cell_and_by_the_mean_of_cells_elsewhere(planned: Any) -> None:
    plan = planned(TWO)
    unknown = forecast(plan, Given())
    assert unknown.pace is None and unknown.as_dict()["cost"]["seconds_total"] is None
    finish(plan, plan.runs[0], s_per_kimg=2.0, seconds=26.0)
    finish(plan, plan.runs[1], s_per_kimg=4.0, seconds=44.0)
    finish(plan, plan.runs[2], s_per_kimg=6.0, seconds=65.0)
    found = forecast(plan, Given())
    assert found.pace is not None and found.pace.of_cell == {"origin": 3.0, "mix_logits": 6.0}
    # Beside training the three took 6, 4 and 5 seconds; a cell without a run is taken for the mean cell, 4.5 s/kimg.
    assert found.total == pytest.approx(2 * 35 + 2 * 65 + 2 * 50)
    assert found.left == pytest.approx(65 + 2 * 50)
    # On two slots: 50 beside the first of 65 and 50, and the other after the shorter.
    last = [run.cell for run in plan.queue(plan.runs) if run.seed == 1 and run.cell != "origin"][1]
    assert found.wall == pytest.approx({"transform_w": 50 + 50, "mix_logits": 50 + 65}[last])
    folder(plan, plan.runs[3], state="interrupted", step=3, total_steps=4)
    assert forecast(plan, Given()).left == pytest.approx(65 / 4 + 2 * 50)
    assert forecast(plan, Given(seconds_per_kimg=7)).total == pytest.approx(6 * 70)


def test_the_model_of_this_machine_is_asked_for_once(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, asked = planned(TWO), []
    monkeypatch.setattr("harness.planning.forecast.processor", lambda: asked.append(1) or "this one")
    for run, device in zip(plan.runs, ("this one", "this one", "another"), strict=False):
        finish(plan, replace(run, machines=(Machine("a host", device, {}),)))
    found = forecast(plan, Given()).pace
    assert found is not None and (found.source, found.runs, len(asked)) == ("measured", 2, 1)


def test_other_designs_and_else_other_settings_of_the_folder_tell_the_pace(planned: Any) -> None:
    other = planned(TWO, "design.kind=full")
    finish(other, other.runs[-1], s_per_kimg=5.0)
    shorter = planned(TWO, "train.kimg=1")
    finish(shorter, shorter.runs[0], s_per_kimg=50.0)
    pace = forecast(planned(TWO), Given()).pace
    assert pace is not None and (pace.s_per_kimg, pace.source) == (5.0, "measured")
    pace = forecast(planned(TWO, "loss.tau=0.7"), Given()).pace
    assert pace is not None and (pace.s_per_kimg, pace.source) == (50.0, "other settings"), "whose steps are as these"
    pace = forecast(planned(TWO, "train.batch=8"), Given()).pace
    assert pace is not None and (pace.s_per_kimg, pace.source) == (27.5, "other settings")


def test_wall_time_is_that_of_the_slot_that_ends_last() -> None:
    assert wall_time([3, 1, 1, 1, 4], 2) == 7
    assert wall_time([3, 1, 1, 1, 4], 1) == 10
    assert wall_time([], 3) == 0


def test_what_can_be_detected_is_measured_on_the_metrics_own_scale(planned: Any) -> None:
    plan = planned(TWO)
    logs = {("origin", 0): 3.0, ("origin", 1): 3.2, ("mix_logits", 0): 2.9, ("mix_logits", 1): 3.3}
    for run in plan.runs:
        if (run.cell, run.seed) in logs:
            finish(plan, run, fd=math.exp(logs[run.cell, run.seed]))
    distance, score = forecast(plan, Given()).detects
    # The interaction of the 2 x 2 table is (3.3 - 2.9) - (3.2 - 3.0) = 0.2, its square / 4 the residual's on 1 df.
    assert distance.spread.metric.name == "fd_emoji" and distance.spread.sd == pytest.approx(0.1)
    assert (distance.spread.df, distance.spread.runs) == (1, 4)
    assert score.spread.metric.name == "clip_score" and score.spread.sd != pytest.approx(0.1)
    assert score.effect == distance.effect is not None, "in sds they are alike"
    (given,) = forecast(plan, Given(sd=0.05)).detects
    assert (given.spread.sd, given.spread.source) == (0.05, "given")
    size = math.expm1(0.05 * (given.effect or 0))
    assert given.shown(given.effect or 0) == f"{100 * size:.2g} %"


@pytest.mark.parametrize("kind", ["a cell that trained as the baseline", "a cell that makes no use of its seed"])
def test_runs_that_are_one_run_make_no_spread_smaller(planned: Any, kind: str) -> None:
    plan = planned(TWO)
    logs = {("origin", 0): 3.0, ("origin", 1): 3.2, ("mix_logits", 0): 2.9, ("mix_logits", 1): 3.3}
    as_in = {seed: ("origin", seed) if "baseline" in kind else ("mix_logits", 0) for seed in (0, 1)}
    for run in plan.runs:
        key = as_in[run.seed] if run.cell == "transform_w" else (run.cell, run.seed)
        if key in logs:
            finish(plan, run, fd=math.exp(logs[key]), weights=f"those of {key}")
    spread = forecast(plan, Given()).detects[0].spread
    assert (spread.sd, spread.df) == (pytest.approx(0.1), 1), "as without that cell"


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_value_without_a_logarithm_takes_no_part_in_the_spread(planned: Any, value: float) -> None:
    plan = planned(TWO)
    for run in plan.runs:
        odd = run.cell == "transform_w"
        finish(plan, run, fd=value if odd else math.exp(3 + (run.cell == "mix_logits") * 0.2 * run.seed))
    spread = forecast(plan, Given()).detects[0].spread
    assert (spread.metric.name, spread.sd, spread.df, spread.runs) == ("fd_emoji", pytest.approx(0.1), 1, 4)


def test_runs_without_a_number_tell_no_spread(planned: Any) -> None:
    plan = planned(TWO)
    for run in plan.runs:
        folder(plan, run, state="done", step=625, total_steps=625).finish(Result({"fd": 3.0}, {}, {}))
    assert forecast(plan, Given()).detects == ()


def test_a_kernel_distance_that_leads_decides_too(planned: Any) -> None:
    """Of 50 images by 64 features: the covariance has no full rank, so that reports put the kernel distance first."""
    plan = planned(TWO.replace("seeds: 2", "seeds: auto") + "margins: {fd: 5}\n")
    cards = CARDS | {"fd_emoji": {"role": "headline", "n": 50, "n_real": 50, "d": 64}}
    for place, run in enumerate(plan.runs[:6]):
        distance = 20.0 + place**2 % 7
        folder(plan, run, state="done", step=625, total_steps=625).finish(
            Result({"fd_emoji": distance, "clip_score": distance, "kid_emoji": distance / 100}, cards, {})
        )
    found = forecast(plan, Given())
    names = ("kid_emoji", "fd_emoji", "clip_score")
    assert tuple(each.spread.metric.name for each in found.detects) == names
    assert found.added and found.added.metrics == names
    assert found.added.without_margin == ("kid_emoji", "clip_score")
    assert found.added.none and found.added.none.undecided == 1, "what has no margin is never decided without an effect"


def test_one_seed_detects_nothing(planned: Any) -> None:
    (found,) = forecast(planned(TWO, "design.seeds=1"), Given(sd=0.05)).detects
    assert found.effect is None and found.interaction is None


def test_runs_that_are_equal_to_the_digit_tell_no_spread(planned: Any) -> None:
    plan = planned(TWO)
    for run in plan.runs:
        finish(plan, run)
    assert forecast(plan, Given()).detects == ()


def test_the_json_has_the_reasons_the_cost_and_what_can_be_detected(planned: Any) -> None:
    plan = planned(TWO)
    finish(plan, plan.runs[0])
    told = json.loads(json.dumps(forecast(plan, Given(seconds_per_kimg=2, sd=0.1)).as_dict()))
    assert told["runs"][0] | {"id": "", "toggles": 0} == {
        "id": "", "cell": "origin", "seed": 0, "toggles": 0, "state": "done", "why": "done", "detail": "",
    }  # fmt: skip
    assert told["cost"] == {
        "source": "given", "s_per_kimg": 2, "s_per_kimg_of": {}, "runs": 0, "slots": 2, "seconds_total": 120,
        "seconds_left": 100, "seconds_before": 0, "wall_seconds_left": 60, "remarks": [],
    }  # fmt: skip
    (detects,) = told["detects"]
    assert detects.pop("effect") > 10 * 0.1 and detects == {
        "metric": "fd_resnet101_a1_in1k", "scale": "log", "sd": 0.1, "df": 0, "runs": 0, "source": "given",
        "interaction": None,
    }  # fmt: skip
