"""What `harness plan` prints: widths, long plans, alias groups, cost, detectable effects, budgets."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.planning.measured import CannotTime, Pace
from harness.runs.folders import RunFolder
from harness.runs.record import Result
from harness.scheduler.slots import Slot
from harness.study.load import load_study
from harness.study.plan import make_plan

STUDY = "study: tiny\ntrain: {kimg: 10}\ndesign: {kind: fractional, seeds: 3}\n"
CARDS = {"fd_emoji": {"role": "headline"}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_PROFILE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda config, cache: "data")
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: name)
    monkeypatch.setattr("harness.models.encoders.check", lambda name, kind=None: None)
    monkeypatch.setattr("harness.planning.forecast.find_slots", lambda *_: (Slot(0, "cpu", 1),) * 2)
    (tmp_path / "ablations.yaml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `harness plan ...` in this process: (exit code, standard output in one line, standard error)."""

    def harness(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", "plan", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return harness


def flat(text: str) -> str:
    return " ".join(text.split())


def finish(folder: Path, count: int) -> None:
    study = load_study(folder / "ablations.yaml")
    for place, run in enumerate(make_plan(study).runs[:count]):
        made = RunFolder(study.root / run.id)
        made.create(run)
        made.update(state="done")
        metrics = {"fd_emoji": 20.0 + place % 5}
        made.finish(Result(metrics, CARDS, {"s_per_kimg": 6.0, "seconds": 60.0}))


def test_alias_groups_are_printed_and_stored(harness: Any) -> None:
    code, out, _ = harness()
    assert code == 0
    assert "fractional, resolution IV: E=ABC, F=BCD; A img_img_loss, B separate_features," in flat(out)
    groups = re.findall(r"^    (\S+ × \S+ or \S+.*)$", out, re.MULTILINE)
    assert "interactions in 7 named groups:" in out and len(groups) == 7
    assert groups[0] == "img_img_loss × separate_features or transform_w × mix_logits"
    told = json.loads(harness("--json")[1])
    assert next(" or ".join(group["aliases"]) for group in told["can"]["interactions"]) == groups[0].replace(" × ", ":")
    mixed = flat(harness("--set", "design.resolution=III")[1])
    assert "img_img_loss cannot be told from − separate_features × paired_contrast " in mixed


@pytest.mark.parametrize("kind", ["one-at-a-time", "both", "full"])
def test_what_other_designs_say_of_interactions(harness: Any, kind: str) -> None:
    said = {
        "one-at-a-time": "one-at-a-time: no interactions",
        "both": "interactions: those of img_img_loss, separate_features, transform_w, paired_contrast, mix_logits, "
        "resnet_guided, each with all others in sum",
        "full": "15 interactions of two toggles, each by itself",
    }
    assert said[kind] in flat(harness("--set", f"design.kind={kind}")[1])
    pair = flat(harness("--set", f"design.kind={kind}", "--set", "toggles=[mix_logits, transform_w]")[1])
    assert ("1 interaction of two toggles, by itself" in pair) == (kind != "one-at-a-time")


def test_cost_and_what_can_be_detected(harness: Any, folder: Path) -> None:
    out = flat(harness()[1])
    assert "cost: unknown, as no run has finished; --seconds-per-kimg X gives it" in out
    assert "detects: unknown, as too few runs have finished" in out and "--sd 0.05 assumes it" in out
    out = flat(harness("--seconds-per-kimg", "6", "--sd", "0.05")[1])
    assert "cost: 48 min for 48 runs on one slot (6 s/kimg, as given) left: 24 min on 2 slots" in out
    assert re.search(r"detects with 3 seeds, 4 times in 5: a change of [\d.]+ % in fd_resnet101_a1_in1k by one", out)
    finish(folder, 12)
    out = flat(harness()[1])
    assert "(6 s/kimg, of 12 finished runs) left: 18 min on 2 slots" in out
    assert re.search(r"a change of [\d.]+ % in fd_emoji by one toggle, [\d.]+ % by an interaction \(spread", out)
    assert "tiny: 16 cells, 48 runs of 10 kimg at 256 px: 12 done, 36 new" in out
    assert "detects: nothing, as one seed gives no interval" in harness("--set", "design.seeds=1")[1]


def test_numbers_that_cannot_be_are_refused(harness: Any) -> None:
    for words in (
        ["--sd", "0"],
        ["--sd=-1"],
        ["--seconds-per-kimg", "0"],
        ["--seconds-per-kimg", "nan"],
        ["--sd", "inf"],
    ):
        code, _, err = harness(*words)
        assert code == 2 and "must be greater than 0" in err
    code, _, err = harness("--budget", "soon")
    assert code == 2 and "--budget soon: must be a time such as 12h" in flat(err)
    code, _, err = harness("--budget", "2h")
    assert code == 2 and "say it with --seconds-per-kimg X" in flat(err)


def test_a_budget_is_answered_by_steps_on_trial(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def timed(plan: Any, slots: Any, preload: Any) -> Pace:
        asked.append(preload)
        return Pace(5.0, {}, 10.0, 0, "timed", 30.0, ("5 steps of origin and full",))

    monkeypatch.setattr("harness.planning.timing.timed_pace", timed)
    with monkeypatch.context() as patch:
        patch.setattr("harness.api.first_weights", lambda plan: pytest.fail("a table of budgets does not show them"))
        code, out, _ = harness("--budget", "1h", "--timing")
    assert code == 0 and "time: every run anew, 5 s/kimg, timed here 5 steps of origin and full" in flat(out)
    assert "in sds between seeds; --sd 0.05 assumes one" in flat(out), "no spread is known on a new machine"
    code, out, _ = harness("--timing")
    # 48 runs of 10 kimg; two at a time take half of it, and half a minute comes before them.
    assert "cost: about 48 min for 48 runs on one slot (5 s/kimg, timed here) left: about 24 min on 2 s" in flat(out)
    assert json.loads(harness("--timing", "--json")[1])["cost"]["wall_seconds_left"] == 24 * 60 + 30
    assert len(asked) == 3 and "harness.training.session" in asked[0]
    code, _, err = harness("--budget", "1h", "--no-timing")
    assert (code, len(asked)) == (2, 3) and "no finished run tells how long one takes; say it" in flat(err)


def test_a_trial_that_is_not_possible_is_told(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(plan: Any, slots: Any, preload: Any) -> Pace:
        raise CannotTime("a process ended early")

    monkeypatch.setattr("harness.planning.timing.timed_pace", refuse)
    code, out, _ = harness("--timing")
    assert code == 0 and "no run has finished and steps cannot be timed: a process ended early; --sec" in flat(out)
    code, _, err = harness("--budget", "1h", "--timing")
    assert code == 2 and "and steps cannot be timed: a process ended early; say it with" in flat(err)


def test_the_budget_says_which_designs_are_left_out_and_why(harness: Any) -> None:
    toggles = "toggles=[{cold: {loss.tau: 0.3}}, {warm: {loss.tau: 0.7}}, mix_logits]"
    words = ("--set", "design.kind=one-at-a-time", "--set", toggles, "--seconds-per-kimg", "6")
    code, out, _ = harness("--budget", "1h", *words)
    names = "leave-one-out + origin, both and fractional, resolution III"
    assert code == 0 and f"left out: {names}: toggles[1]: cold and warm both set loss.tau; add" in flat(out)


def test_the_budget_proposes_a_line_for_the_study_file(harness: Any, folder: Path) -> None:
    words = ["--budget", "1h", "--seconds-per-kimg", "6", "--sd", "0.05", "--set", "design.kind=one-at-a-time"]
    code, out, _ = harness(*words, "--set", "design.control=2")
    assert code == 0 and "one-at-a-time (this study)" in flat(out) and "> fractional," in out
    line = re.search(r"^  design: (\{.*\})$", out, re.MULTILINE)
    assert line and line[1] == "{kind: fractional, resolution: VI, control: 2, seeds: 3}"
    told = json.loads(harness(*words, "--json")[1])
    assert told["budget"]["options"][told["budget"]["proposed"]]["name"] == "fractional, resolution VI"
    (folder / "ablations.yaml").write_text(f"study: tiny\ndesign: {line[1]}\n")
    assert len(make_plan(load_study(folder / "ablations.yaml")).runs) == 98


@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_the_terminal(harness: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    finish(folder, 10)
    for words in ([], ["--budget", "2h"], ["--set", "train.kimg=3"], ["--set", "design.kind=full"]):
        code, out, _ = harness(*words)
        assert code == 0 and max(map(len, out.splitlines())) <= columns and "…" not in out


def test_long_plans_are_told_by_cell_and_very_long_ones_by_reason(harness: Any, folder: Path) -> None:
    finish(folder, 6)
    words = ["--set", "design.kind=full", "--set", "design.seeds=4"]
    _, out, _ = harness(*words)
    assert len(out.splitlines()) < 100
    assert re.search(r"^ origin +4 +3 done, 1 new", out, re.MULTILINE)
    own = "{a: {loss.tau: 0.7}}, {b: {train.lr: 0.1}}"
    toggles = (
        f"toggles=[img_img_loss, separate_features, transform_w, paired_contrast, mix_logits, resnet_guided, {own}]"
    )
    _, out, _ = harness(*words, "--set", toggles, "--set", "train.kimg=5")
    assert len(out.splitlines()) < 40
    assert re.search(r"^ changed +6 +train\.kimg 10 -> 5", out, re.MULTILINE)
    assert re.search(r"^ new +1018", out, re.MULTILINE)
    assert len(json.loads(harness(*words, "--set", toggles, "--json")[1])["runs"]) == 1024


def test_control_seeds_and_errors_are_shown(harness: Any, folder: Path) -> None:
    study = load_study(folder / "ablations.yaml")
    run = make_plan(study).runs[1]
    made = RunFolder(study.root / run.id)
    made.create(run)
    made.update(state="failed", error="first\n[red]out[/red] of \x1b[31mmemory")
    out = harness("--set", "design.control=1")[1]
    assert re.search(r"^ origin +3 +\w{12} +new, control", out, re.MULTILINE)
    assert "failed: [red]out[/red] of \\x1b[31mmemory" in out, "text of others is neither markup nor control codes"
