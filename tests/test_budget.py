"""Designs side by side at a budget, and the rule by which one is proposed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.design.kinds import DesignConfig
from harness.errors import HarnessError
from harness.planning.budget import Comparison, Option, candidates, compare, parse_time, propose, why
from harness.planning.forecast import Given, forecast
from harness.scheduler.slots import Slot
from harness.study.load import load_study
from harness.study.plan import make_plan

SIX = "study: tiny\ntrain: {kimg: 10}\n"
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda config, cache: "data")
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: name)
    monkeypatch.setattr("harness.models.encoders.check", lambda name, kind=None: None)
    monkeypatch.setattr("harness.planning.forecast.find_slots", lambda *_: (Slot(0, "cpu", 1),) * 2)


@pytest.fixture
def compared(tmp_path: Path) -> Any:
    """Every run takes 360 s: ten an hour on each of two slots."""

    def compared(hours: float, text: str = SIX, *overrides: str) -> Comparison:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        plan = make_plan(load_study(path, None, overrides))
        return compare(forecast(plan, Given(seconds_per_kimg=36, sd=0.05)), hours * HOUR)

    return compared


def row(found: Comparison, name: str) -> Option:
    return next(option for option in found.options if option.name == name)


def test_times_are_read() -> None:
    assert [parse_time("--budget", text) for text in ("12h", "90m", "2d", "45s", "3600", " 1.5 h ")] == [
        12 * HOUR, 5400, 48 * HOUR, 45, 3600, 5400,
    ]  # fmt: skip
    for text in ("", "h", "-1h", "0h", "12x", "1e3", "nan", "1h30m"):
        with pytest.raises(HarnessError, match="must be a time such as 12h"):
            parse_time("--budget", text)


def test_every_kind_and_fraction_is_compared_once(compared: Any) -> None:
    found = compared(10)
    assert [(option.name, option.cells, option.own) for option in found.options] == [
        ("one-at-a-time", 7, True), ("leave-one-out + origin", 8, False), ("both", 14, False),
        ("fractional, resolution III", 8, False), ("fractional, resolution IV", 16, False),
        ("fractional, resolution VI", 32, False), ("full", 64, False),
    ]  # fmt: skip
    own = compared(10, SIX, "design.include=[full]").options
    assert [option.name for option in own[:2]] == ["one-at-a-time + full", "one-at-a-time"]


def test_as_many_seeds_as_fit(compared: Any) -> None:
    """In 10 h two slots make 200 runs."""
    found = compared(10)
    seeds = {option.cells: option.seeds for option in found.options if option.cells != 8}
    assert seeds == {7: 20, 14: 14, 16: 12, 32: 6, 64: 3}
    assert row(found, "full").runs == 192 and row(found, "full").seconds == pytest.approx(9.6 * HOUR)
    controlled = compared(10, SIX, "design.control=9")
    assert row(controlled, "full").seeds == 2 and row(controlled, "full").runs == 64 * 2 + 9


def test_longer_training_of_a_toggle_counts(compared: Any) -> None:
    text = "study: tiny\ntrain: {kimg: 10}\ntoggles: [mix_logits, {long: {train.kimg: 30}}]\n"
    found = compared(15000 / HOUR, text)
    # origin and mix_logits 360 s, long 1080 s: 16 seeds are 28,800 s, half of it a slot, give or take half a run.
    assert row(found, "one-at-a-time").seeds == 16


def test_rules_of_the_study_hold_for_every_kind(compared: Any) -> None:
    found = compared(10, SIX, "design.exclude=[[mix_logits, transform_w]]")
    assert row(found, "full").cells == 48 and row(found, "full").apart == 14


def test_a_cell_more_does_not_clear_a_fraction(compared: Any) -> None:
    found = compared(0.8, SIX, "baseline=mix_logits")
    clear = {option.name: option.clear for option in found.options if "fractional" in option.name}
    assert clear == {"fractional, resolution III + mix_logits": False, "fractional, resolution IV + mix_logits": True,
                     "fractional, resolution VI + mix_logits": True}  # fmt: skip


def option(name: str, effect: float | None, seeds: int, **changes: Any) -> Option:
    plain = Option(name, False, 8, seeds, 8 * seeds, 1.0, effect, None, True, 0, 0, DesignConfig())
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ([option("a", 2.0, 5), option("b", 1.0, 3)], "b"),
        ([option("a", 1.0, 2), option("b", 3.0, 3)], "b"),
        ([option("a", 1.0, 2), option("b", 1.5, 2)], "a"),
        ([option("a", 1.0, 3), option("b", 1.24, 3, groups=1)], "b"),
        ([option("a", 1.0, 3), option("b", 1.26, 3, groups=1)], "a"),
        ([option("a", 1.0, 3, groups=7), option("b", 1.2, 3, apart=15)], "b"),
        ([option("a", 1.0, 4, apart=3), option("b", 1.2, 3, apart=3)], "b"),
        ([option("a", 1.0, 9, clear=False), option("b", 3.0, 2)], "b"),
        ([option("a", 1.0, 9, clear=False), option("b", None, 1)], "a"),
        ([option("a", None, 1), option("b", None, 0)], None),
    ],
)
def test_the_rule(options: list[Option], best: str | None) -> None:
    found = propose(options)
    assert (found.name if found else None) == best
    found = propose(options[::-1])
    assert (found.name if found else None) == best


def test_the_proposal_for_six_toggles_grows_with_the_budget(compared: Any) -> None:
    named = {hours: compared(hours).proposed for hours in (0.2, 1, 3, 5.1, 10)}
    assert {hours: best and (best.name, best.seeds) for hours, best in named.items()} == {
        0.2: None,
        1: ("one-at-a-time", 2),
        3: ("fractional, resolution IV", 3),
        5.1: ("fractional, resolution VI", 3),
        10: ("fractional, resolution VI", 6),
    }


def test_it_says_why(compared: Any) -> None:
    told = why(compared(5.1))
    assert told[0] == "fractional, resolution VI with 3 seeds: 96 runs in 4.8 h"
    assert told[1].startswith("fractional, resolution IV detects effects that are smaller by a factor of 1.")
    assert told[2] == "interactions: 15 one by one"
    few = why(compared(1))
    assert few[1].startswith("of the designs that fit with 2 seeds and clear main effects") and few[-1].startswith(
        "2 seeds settle little"
    )
    # The control's 40 runs are beside the 14 of two seeds, on two slots.
    assert compared(0.2, SIX, "design.control=40").least == ("one-at-a-time", 54, 27 * 360)
    (nothing,) = why(compared(0.2))
    assert nothing == (
        "nothing fits: the cheapest design, one-at-a-time, takes 42 min with two seeds (14 runs), and one seed settles "
        "nothing"
    )


def test_the_json_names_the_proposal(compared: Any) -> None:
    found = compared(5.1)
    told = json.loads(json.dumps(found.as_dict()))
    best = told["options"][told["proposed"]]
    assert (best["name"], best["seeds"], best["settings"]["kind"]) == ("fractional, resolution VI", 3, "fractional")
    assert told["budget_seconds"] == 5.1 * HOUR and told["reasons"] == why(found)
    assert told["least_with_two_seeds"] == {"design": "one-at-a-time", "runs": 14, "seconds": 7 * 360}
    assert compared(0.1).as_dict()["proposed"] is None


def test_without_a_pace_it_says_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "my study.yaml").write_text(f"{SIX}\nprofiles: {{long: {{train: {{kimg: 9}}}}}}\n")
    plan = make_plan(load_study(tmp_path / "my study.yaml", "long", ["train.batch=8"]))
    same = "my study.yaml' --profile long --set train.batch=8"  # another one's run would tell nothing
    with pytest.raises(HarnessError, match=rf"--seconds-per-kimg X, or train one: .*{same} --only origin"):
        compare(forecast(plan, Given()), HOUR)


def test_a_baseline_that_only_the_study_names_is_in_every_candidate(tmp_path: Path) -> None:
    text = "study: tiny\ntoggles: [mix_logits, transform_w, paired_contrast]\nbaseline: mine\n"
    (tmp_path / "study.yaml").write_text(
        text + "design: {kind: list, cells: [[], {mine: [mix_logits, transform_w]}]}\n"
    )
    for design, _ in candidates(load_study(tmp_path / "study.yaml")):
        assert ("mix_logits", "transform_w") in design.cells


@pytest.mark.parametrize(
    ("text", "kept", "why_not"),
    [
        (
            "toggles: [{cold: {loss.tau: 0.3}}, {warm: {loss.tau: 0.7}}, mix_logits]\n", {"one-at-a-time"},
            "toggles[1]: cold and warm both set loss.tau; add [cold, warm] to design.exclude",
        ),
        (
            "toggles: [{small: {train.batch: 8}}, {big: {discriminator.minibatch_std_group: 16}}]\n",
            {"one-at-a-time"}, "train.batch: 8 cannot be split into groups of discriminator.minibatch_std_group = 16",
        ),
        (
            "toggles: [{idle: {loss.mix_lambda: 0.3}}, transform_w]\nbaseline: idle\n"
            "design: {kind: list, cells: [[idle], [transform_w, idle]]}\n", {"list", "leave-one-out"},
            "baseline: 'idle' differs from 'origin' in loss.mix_lambda alone",
        ),
    ],
)  # fmt: skip
def test_designs_that_the_study_cannot_have_are_left_out(
    compared: Any, text: str, kept: set[str], why_not: str
) -> None:
    found = compared(10, f"study: tiny\ntrain: {{kimg: 10}}\n{text}")
    assert {option.name for option in found.options} == kept
    assert found.left_out and all(why_not in each for each in found.left_out.values())
    assert found.as_dict()["left_out"] == found.left_out


def test_no_more_runs_are_proposed_than_a_plan_may_have(compared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.planning.budget.MAX_RUNS", 130)
    found = compared(500, SIX, "design.control=3")
    assert {option.name: option.seeds for option in found.options if option.cells in (7, 16, 64)} == {
        "one-at-a-time": 18, "fractional, resolution IV": 7, "full": 1,
    }  # fmt: skip


IDLE = """study: tiny
toggles: [{idle: {loss.mix_lambda: 0.3}}, transform_w]
train: {kimg: 10}
design: {kind: one-at-a-time, seeds: 3}
"""


def test_cells_that_share_their_runs_are_trained_once(compared: Any) -> None:
    """Without mixed logits mix_lambda is not read: two cells of three are trained, ten runs an hour on each slot."""
    found = compared(0.3, IDLE)
    own = row(found, "one-at-a-time")
    assert (own.cells, own.seeds, own.runs) == (3, 3, 6)
    assert found.least == ("one-at-a-time", 4, 720)
    plain = row(compared(0.3, IDLE.replace("{idle: {loss.mix_lambda: 0.3}}, ", "")), "one-at-a-time")
    assert (plain.cells, plain.seeds, plain.runs) == (2, 3, 6) and plain.effect == own.effect
    (nothing,) = why(compared(0.3, IDLE.replace(", transform_w", "").replace("10}", "5}")))
    assert nothing.startswith("nothing to detect: no toggle changes what is trained")


def test_more_runs_are_said_where_interactions_are_told_alike(compared: Any) -> None:
    told = why(compared(36))
    assert any("full detects effects that are smaller by a factor of" in line and "but takes" in line for line in told)


@pytest.mark.parametrize("seconds", [0.0, -5.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_time_is_refused(compared: Any, seconds: float) -> None:
    with pytest.raises(HarnessError, match="must be a finite time above 0"):
        compared(seconds)
