"""When `harness tune --apply` writes weights into the study file, and what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SpecError
from harness.grid import search_outcome, tune
from harness.report.search.answer import on_fresh_seeds
from harness.study.load import load_study
from harness.tuning.findings import Findings, fresh_runs, read_findings
from search_findings import better, compared, four
from searched import TWO, Inline, search_in, without_weights

__all__ = ["without_weights"]

WORSE = compared({"fd_emoji": [5.0, 5.5, 4.8, 5.2, 5.1]}, {"fd_emoji": [1.20, 1.21, 1.19, 1.20, 1.205]})
SCORES, GAIN = [60.0, 60.4, 59.8, 60.1, 60.2], [0.80, 0.81, 0.79, 0.80, 0.805]
DEARER = compared(
    {"fd_emoji": [5.0, 5.5, 4.8, 5.2, 5.1], "clip_score": SCORES}, {"fd_emoji": GAIN, "clip_score": [0.9] * 5}
)
"""A gain that is paid for with what a constraint protects."""


@pytest.mark.parametrize(
    ("change", "told", "written"),
    [
        ({"comparison": better()}, "the weights are in the profile new (under fresh seeds: better)", True),
        ({"comparison": None}, "the weights found gave nothing to compare; nothing is written", False),
        ({"confirm": 0}, "(not compared under fresh seeds)", True),
        ({"comparison": WORSE}, "under fresh seeds the weights found are worse than those as written; nothing", False),
        ({"constraints": {"clip_score": 1.0}, "comparison": DEARER}, "the weights found are worse than those", False),
        ({"best": 0}, "no trial was better than the weights as written; nothing is written", False),
        ({"best": None}, "the weights are written when all are", False),
        ({"trials": 3}, "4 trials are done; the weights are written when all are", False),
        ({"asked": 1, "comparison": better()}, "the weights are in the profile new (under fresh seeds: better)", True),
    ],
)
def test_weights_are_written_when_they_are_to_be_had_and_not_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], told: str, written: bool
) -> None:
    tune = {key: change[key] for key in change.keys() & {"confirm", "constraints"}}
    found = _changed(four(tmp_path, trials=4, **tune), {key: change[key] for key in change.keys() - tune})
    calls: list[Any] = []
    monkeypatch.setattr(search_outcome, "write_profile", lambda *given: calls.append(given) or "new")
    assert told in search_outcome.apply_best(found.search.study, found)
    assert bool(calls) == written
    if written:
        study, weights, tuned = calls[0]
        assert study is found.search.study and weights == found.trials[1].values
        assert [(cell, it.trials, it.objective) for cell, it in tuned.items()] == [(found.search.cell.name, 4, "fd")]


NOTHING = "the weights found gave nothing to compare; nothing"


@pytest.mark.parametrize(
    ("tuned", "written", "said", "done"),
    [
        (
            "diverged",
            "done",
            "2 of 2 runs with the weights found diverged, 0 of 2 with those as",
            "have diverged; nothing",
        ),
        ("diverged", "diverged", "(runs with the weights found: 2 diverged; as written: 2", "have diverged; nothing"),
        ("failed", "done", "(runs with the weights found: 2 failed; as written: 2 done)", NOTHING),
        ("done", "diverged", "written has no result: 2 of 2 runs diverged", "new (under fresh seeds: insufficient"),
        ("", "", "is not made yet", NOTHING),
    ],
)
def test_what_becomes_of_the_runs_under_fresh_seeds_is_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuned: str, written: str, said: str, done: str
) -> None:
    monkeypatch.setattr(search_outcome, "write_profile", lambda *given: "new")
    search = search_in(tmp_path, TWO, "tune.trials=9", "tune.confirm=2", "tune.pruner=none")
    work = Inline(search, lambda run: {"tuned": tuned, "written": written}.get(run.cell, "done")).go()
    for run in fresh_runs(read_findings(work.trials)) if tuned else ():
        work.execute(run)
    found = read_findings(work.trials)
    (verdict, told), *_ = on_fresh_seeds(found)
    assert said in told and (verdict == "diverged") == (tuned == "diverged")
    assert done in search_outcome.apply_best(search.study, found)


@pytest.mark.parametrize(("cell", "is_refused"), [("cold", True), ("origin", False)])
def test_a_file_that_cannot_take_the_weights_is_told_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, is_refused: bool
) -> None:
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda source, resolution: "data")
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    begun: list[Any] = []

    def begin(*given: Any) -> tuple[int, None]:
        begun.append(given)
        return 130, None

    monkeypatch.setattr(tune, "_tune", begin)
    networks = "{{clip: 'embedded:clip-{0}', resnet: 'embedded:resnet-{0}'}}".format
    (tmp_path / "study.yaml").write_text(
        "study: s\ndata: {source: twemoji, resolution: 16}\ntoggles: [{cold: {loss.tau: 0.2}}]\n"
        f"encoders: {networks('guide')}\nmetrics: {networks('measure')}\ntune: {{cell: {cell}, trials: 4}}\n"
    )
    study = load_study(tmp_path / "study.yaml")
    if is_refused:
        with pytest.raises(SpecError) as caught:
            tune.tune_cells([study], apply=True)
        assert "in the cell cold loss.tau would be 0.2" in str(caught.value)
        assert str(caught.value).endswith("it belongs into the toggle; change the file, or search without --apply")
        assert not begun and tune.tune_cells([study]).exit_code == 130
    else:
        assert tune.tune_cells([study], apply=True).exit_code == 130
    assert len(begun) == 1


def _changed(found: Findings, change: dict[str, Any]) -> Findings:
    if "trials" in change:
        return replace(found, trials=found.trials[: change["trials"]])
    if "asked" in change:
        study = found.search.study
        study = replace(study, tune=replace(study.tune, trials=change["asked"]))
        return replace(found, search=replace(found.search, study=study), comparison=change["comparison"])
    if "best" in change:
        return replace(found, best=None if change["best"] is None else found.trials[change["best"]])
    return replace(found, **change)
