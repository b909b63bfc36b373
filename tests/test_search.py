"""Searches of weights on an objective whose best weights are known."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest

from harness.errors import SpecError
from harness.runs.record import Run
from harness.tuning.findings import fresh_runs, read_findings, with_importances
from harness.tuning.trials import JOURNAL, Trials
from searched import (
    BEST,
    FD,
    GAMMA,
    SCORE,
    STUDY,
    TAU,
    TWO,
    Inline,
    metrics,
    search_in,
    setting,
    without_weights,
)

__all__ = ["without_weights"]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_every_sampler_comes_nearer_than_the_weights_as_written(tmp_path: Path, sampler: str) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=25", f"tune.sampler={sampler}", "tune.pruner=none")
    found = read_findings(Inline(search).go().trials)
    first = found.trials[0]
    assert first.values == search.written == {TAU: 0.5, GAMMA: 10.0}
    assert [row.outcome for row in found.trials] == ["done"] * 25 and found.is_over
    assert first.measured[FD] == pytest.approx(10 * math.exp(gap := 2 * math.log(2) ** 2) * (1 + 0.004 * (1 + gap)))
    assert found.best and found.best.measured[FD] < 0.7 * first.measured[FD]
    assert found.best.measured[FD] == min(row.measured[FD] for row in found.trials)
    assert all(0.125 <= row.values[TAU] <= 2 and 2.5 <= row.values[GAMMA] <= 40 for row in found.trials)


def test_all_active_weights_are_searched_around_what_is_written(tmp_path: Path) -> None:
    origin = search_in(tmp_path, "tune.cell=origin", "tune.span=3")
    assert {each.name: (each.low, each.high) for each in origin.parameters} == {
        "loss.weights.generator.itd": (5 / 3, 15.0),
        "loss.weights.generator.itc": (10 / 3, 30.0),
        "loss.weights.discriminator.itd": (5 / 3, 15.0),
        TAU: (0.5 / 3, 1.5),
        GAMMA: (10 / 3, 30.0),
    }
    full = search_in(tmp_path, f"tune.ranges={{{TAU}: [0.4, 0.6]}}")
    names = [each.name.rpartition(".")[2] for each in full.parameters]
    assert names == ["itd_r", "itd_f", "itc_r", "itc_f", "itd", "tau", "r1_gamma"]
    assert (full.parameters[5].low, full.parameters[5].high) == (0.4, 0.6)


def test_trials_are_apart_from_what_a_report_asks_for(tmp_path: Path) -> None:
    search = search_in(tmp_path, "tune.seeds=2", "tune.confirm=3", "design.seeds=[0, 10001, 20000]")
    runs, fresh = search.runs(search.written, 0), search.fresh_runs(search.written, "written")
    assert [run.seed for run in runs] == [10000, 10002] and [run.seed for run in fresh] == [20001, 20002, 20003]
    own = fresh[0].settings.metrics.seed
    assert {run.settings.metrics.seed for run in runs} == {own + 1}
    assert runs[0].fingerprints["data"] == fresh[0].fingerprints["data"] + "-tuning"
    assert search.study.root == tmp_path / "runs" / "tiny.tune-paired_contrast"


def test_what_is_proposed_is_rounded_and_what_is_written_is_not(tmp_path: Path) -> None:
    search = search_in(tmp_path, "loss.tau=0.123456")
    assert search.exact({TAU: 0.123456, GAMMA: 12.34567}) == {TAU: 0.123456, GAMMA: 12.35}
    ends = "tune.ranges={loss.tau: [0.50001, 0.9], train.r1_gamma: [0.99996, 1.00004]}"
    narrow = search_in(tmp_path, TWO, "loss.tau=0.6", "train.r1_gamma=1", ends)
    assert narrow.exact({TAU: 0.500012, GAMMA: 0.999963456}) == {TAU: 0.5001, GAMMA: 0.9999635}
    assert narrow.exact({TAU: 0.89999, GAMMA: 1.00004}) == {TAU: 0.9, GAMMA: 1.00004}
    assert search_in(tmp_path, TWO, "tune.span=3").exact({GAMMA: 3.33334}) == {GAMMA: 3.334}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_the_sampler_learns_from_what_is_trained(tmp_path: Path, sampler: str) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=13", f"tune.sampler={sampler}", "tune.pruner=none")
    trials = Inline(search).go().trials.all()
    assert all(trial.params == search.exact(trial.params) for trial in trials)


def test_a_constraint_keeps_the_best_from_paying_with_another_metric(tmp_path: Path) -> None:
    free = read_findings(Inline(search_in(tmp_path, TWO, "tune.trials=20", "tune.pruner=none")).go().trials)
    assert free.best and free.best.measured[SCORE] < free.trials[0].measured[SCORE] - 1
    bound = search_in(tmp_path, TWO, "tune.trials=20", "tune.pruner=none", "tune.constraints={clip_score: 0.5}")
    found = read_findings(Inline(bound).go().trials)
    first = found.trials[0].measured[SCORE]
    for row in found.trials:
        assert row.excess[SCORE] == pytest.approx(first - row.measured[SCORE] - 0.5)
        assert row.is_candidate == (row.measured[SCORE] >= first - 0.5)
    assert found.best and found.best.measured[SCORE] >= first - 0.5
    kept = [row.measured[FD] for row in found.trials if row.measured[SCORE] >= first - 0.5]
    assert found.best.measured[FD] == min(kept)
    assert free.search.identity != found.search.identity


def test_a_margin_of_a_distance_is_in_per_cent(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.objective=clip_score", "tune.constraints={fd: 10}")
    assert search.excess({FD: 110.0, SCORE: 1.0}, {FD: 100.0, SCORE: 9.0})[FD] == pytest.approx(0.0)
    assert search.excess({FD: 111.0, SCORE: 1.0}, {FD: 100.0, SCORE: 9.0})[FD] > 0


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_several_objectives_give_a_front(tmp_path: Path, sampler: str) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=24", "tune.objective=[fd, clip_score]", f"tune.sampler={sampler}")
    found = read_findings(Inline(search).go().trials)
    points = {row.number: (row.measured[FD], -row.measured[SCORE]) for row in found.trials}
    beaten = {n for n, p in points.items() if any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points.values())}
    assert {row.number for row in found.front} == points.keys() - beaten and len(found.front) > 1
    assert [row.measured[FD] for row in found.front] == sorted(row.measured[FD] for row in found.front)
    assert found.best in found.front


def test_halving_gives_up_what_is_behind_on_the_way(tmp_path: Path) -> None:
    work = Inline(search_in(tmp_path, TWO, "tune.trials=25")).go()
    found = read_findings(work.trials)
    pruned = [row for row in found.trials if row.outcome == "pruned"]
    assert 5 <= len(pruned) <= 18 and found.is_over
    assert [row.outcome for row in found.trials[:5]] == ["done"] * 5
    assert all(not row.measured and 1 <= max(row.intermediate) < 4 for row in pruned)
    assert found.best and found.best.outcome == "done"
    by_first = sorted(found.trials, key=lambda row: row.intermediate[1])
    late = [row for row in by_first if row.number >= 5]
    assert late[-1].outcome == "pruned" and by_first[0].outcome == "done"


def test_hyperband_gives_up_some_and_never_the_first(tmp_path: Path) -> None:
    found = read_findings(Inline(search_in(tmp_path, TWO, "tune.trials=30", "tune.pruner=hyperband")).go().trials)
    outcomes = [row.outcome for row in found.trials]
    assert outcomes[:5] == ["done"] * 5 and outcomes.count("pruned") >= 3 and outcomes.count("done") >= 5


def test_wilcoxon_saves_seeds(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=12", "tune.seeds=8", "tune.pruner=wilcoxon")
    work = Inline(search).go()
    found = read_findings(work.trials)
    executed = sum(path.exists() for run in work.loop.runs for path in [search.study.root / run.id / "result.json"])
    pruned = [row for row in found.trials if row.outcome == "pruned"]
    assert pruned and executed <= 12 * 8 - 3 * len(pruned)
    assert all(4 <= len(row.intermediate) < 8 for row in pruned)
    assert all(len(row.intermediate) == 7 for row in found.trials if row.outcome == "done")


def test_the_mean_over_seeds_is_that_of_a_comparison(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=1", "tune.seeds=2", "tune.constraints={clip_score: 1}")
    found = read_findings(Inline(search).go().trials)
    each = [metrics(run) for run in search.runs(search.written, 0)]
    assert each[0][FD] != each[1][FD]
    assert found.trials[0].measured[FD] == pytest.approx(math.sqrt(each[0][FD] * each[1][FD]), rel=1e-12)
    assert found.trials[0].measured[SCORE] == pytest.approx((each[0][SCORE] + each[1][SCORE]) / 2)


def test_divergence_counts_and_is_never_the_best(tmp_path: Path) -> None:
    def ending(run: Run) -> str:
        return "diverged" if setting(run, TAU) < 0.4 else "done"

    for objective in ("fd", "[fd, clip_score]"):
        search = search_in(tmp_path, TWO, "tune.trials=16", f"tune.objective={objective}", "tune.pruner=none")
        found = read_findings(Inline(search, ending).go().trials)
        outcomes = {row.number: row.outcome for row in found.trials}
        expected = {row.number: "diverged" if row.values[TAU] < 0.4 else "done" for row in found.trials}
        assert outcomes == expected and set(outcomes.values()) == {"done", "diverged"} and found.is_over
        assert found.best and found.best.values[TAU] >= 0.4


def test_a_failed_trial_waits_for_the_next_call(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=6", "tune.pruner=none")
    broken = Inline(search, lambda run: "failed" if run.cell == "trial-002" else "done").go()
    found = read_findings(broken.trials)
    assert broken.loop.failed == {2} and not broken.loop.open and not found.is_over
    assert [row.outcome for row in found.trials] == ["done", "done", "unfinished", "done", "done", "done"]
    again = Inline(search)
    mended = read_findings(again.go().trials)
    assert [run.cell for run in again.loop.runs] == ["trial-002"] and mended.is_over
    assert mended.trials[2].values == found.trials[2].values and len(mended.trials) == 6


def test_without_the_first_trial_a_constraint_cannot_be_judged(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=4", "tune.constraints={clip_score: 1}", "tune.pruner=none")
    broken = Inline(search, lambda run: "failed" if run.cell == "trial-000" else "done")
    broken.go()
    assert broken.loop.failed == {0} and not broken.loop.open
    broken.loop.drop_all()
    found = read_findings(Inline(search).go().trials)
    assert found.is_over and all(row.outcome == "done" for row in found.trials)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_a_search_that_was_cut_goes_on_as_it_would_have(tmp_path: Path, sampler: str) -> None:
    values = []
    for name, stops in (("whole", (1000,)), ("cut", (3, 1, 9, 1000))):
        folder = tmp_path / name
        folder.mkdir()
        search = search_in(folder, TWO, "tune.trials=18", f"tune.sampler={sampler}", "tune.pruner=none")
        for most in stops:
            work = Inline(search).go(most)
            work.loop.drop_all()
        found = read_findings(work.trials)
        assert found.is_over and len(found.trials) == 18
        values.append([row.values for row in found.trials])
    assert values[0] == values[1]
    assert len({row[TAU] for row in values[0]}) > 9  # a genetic algorithm may ask for the same again


def test_a_larger_total_goes_on_and_a_smaller_one_does_nothing(tmp_path: Path) -> None:
    Inline(search_in(tmp_path, TWO, "tune.trials=4")).go()
    assert not Inline(search_in(tmp_path, TWO, "tune.trials=3")).loop.open
    more = Inline(search_in(tmp_path, TWO, "tune.trials=6")).go()
    assert len(more.trials.all()) == 6 and len(more.loop.runs) == 2


def test_another_question_is_another_search_in_the_same_storage(tmp_path: Path) -> None:
    Inline(search_in(tmp_path, TWO, "tune.trials=2")).go()
    other = Inline(search_in(tmp_path, TWO, "tune.trials=2", "tune.span=2")).go()
    names = [each.study_name for each in optuna.get_all_study_summaries(other.trials.study._storage)]
    assert len(names) == 2 and all(name.startswith("tiny.tune-paired_contrast-") for name in names)
    assert Inline(search_in(tmp_path, TWO, "tune.trials=2", "tune.sampler=gp")).loop.open is False


def test_a_trial_left_without_all_of_its_values_gets_the_rest(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=3")
    Inline(search).go(1)
    trials = Trials(search)
    half = trials.study.ask({TAU: trials.distributions[TAU]})
    found = read_findings(Inline(search).go().trials)
    assert len(found.trials) == 3 and found.is_over
    assert found.trials[half.number].values[TAU] == search.exact({TAU: half.params[TAU]})[TAU]
    assert found.trials[half.number].values.keys() == {TAU, GAMMA}


def test_a_torn_line_at_the_end_of_the_journal_loses_nothing(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=5", "tune.pruner=none")
    Inline(search).go(2).loop.drop_all()
    with (search.study.root / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x')
    found = read_findings(Inline(search).go().trials)
    assert found.is_over and [row.outcome for row in found.trials] == ["done"] * 5


def test_the_best_is_compared_with_what_is_written_under_fresh_seeds(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=15", "tune.confirm=4", "tune.pruner=none")
    work = Inline(search).go()
    found = read_findings(work.trials)
    assert found.comparison is None and found.best
    runs = fresh_runs(found)
    assert [(run.cell, run.seed) for run in runs] == [(c, s) for s in range(20000, 20004) for c in ("written", "tuned")]
    for run in runs:
        work.execute(run)
    compared = read_findings(work.trials).comparison
    assert compared is not None
    effect = next(result for result in compared.metrics if result.metric.name == FD).effects[0]
    each = [math.log(metrics(b)[FD] / metrics(a)[FD]) for a, b in zip(runs[::2], runs[1::2], strict=True)]
    assert effect.estimate.value == pytest.approx(100 * math.expm1(sum(each) / 4)) and effect.estimate.n == 4
    assert effect.estimate.verdict == "better"


def test_nothing_is_compared_when_nothing_was_better(tmp_path: Path) -> None:
    found = read_findings(Inline(search_in(tmp_path, TWO, "tune.trials=1")).go().trials)
    assert found.best and found.best.number == 0 and fresh_runs(found) == []


def test_importances_name_what_matters(tmp_path: Path) -> None:
    names = "[loss.tau, train.r1_gamma, loss.weights.generator.itd_r]"
    search = search_in(tmp_path, f"tune.parameters={names}", "tune.trials=80", "tune.pruner=none", "tune.span=8")
    work = Inline(search).go()
    (shares,) = with_importances(read_findings(work.trials), work.trials).importances.values()
    assert shares.keys() == {"fANOVA", "PED-ANOVA"}
    for each in shares.values():
        assert sum(each.values()) == pytest.approx(1.0) and min(each, key=lambda name: each[name]).endswith("itd_r")
    assert with_importances(read_findings(work.trials), work.trials).importances[FD] == shares


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "tune.parameters=[loss.weights.generator.itd_q]",
            r"tune\.parameters\[0\]: unknown weight .*did you mean",
        ),
        ("tune.parameters=[loss.weights.generator.iic]", r"is not active in 'full' \(it needs img_img_loss: true"),
        ("tune.parameters=[loss.tau, loss.tau]", r"parameters\[1\]: 'loss.tau' is here twice"),
        ("tune.ranges={loss.tau: [2, 0.1]}", r"tune\.ranges\.loss\.tau: must be lowest, then highest, not \[2, 0.1\]"),
        ("tune.ranges={loss.tau: [0, 1]}", r"must begin above 0, as it is searched on a logarithmic scale"),
        ("tune.ranges={loss.tau: [1, 2]}", r"must hold the written value 0\.5, .*; widen it"),
        ("tune.ranges={loss.tau: [1]}", r"tune\.ranges\.loss\.tau.*must be a pair"),
        ("tune.objective=fid", r"tune\.objective: unknown metric 'fid'.*allowed: fd"),
        ("tune.objective=[]", r"tune\.objective: must name a metric"),
        ("tune.constraints={fd: 5}", r"tune\.constraints\.fd: is an objective already"),
        ("tune.constraints={clip_score: -1}", r"must be at least 0 and below 100, not -1"),
        ("tune.pruner=wilcoxon", r"wilcoxon needs tune\.seeds of at least 5, not 1; or choose halving"),
        ("tune.pruner=median", r"tune\.pruner: must be .*'halving'"),
        ("tune.sampler=random", r"tune\.sampler: must be 'tpe', 'gp' or 'nsga2', not 'random'"),
        ("tune.cell=ful", r"tune\.cell: unknown cell 'ful'; did you mean 'full'"),
        ("tune.trials=0", r"tune\.trials: must be at least 1"),
        ("tune.span=1", r"tune\.span: must be greater than 1"),
        ("tune.span=1e308", r"tune\.span: would search \S+ from .* to inf, .*; write a smaller one, such as 4$"),
        ("tune.trails=3", r"tune\.trails: unknown setting; did you mean 'trials'"),
    ],
)
def test_a_wrong_section_is_refused_with_the_fix(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        search_in(tmp_path, override)


def test_pruning_with_several_objectives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"tune\.pruner: halving cannot judge several objectives; leave it out"):
        search_in(tmp_path, "tune.objective=[fd, kid]", "tune.pruner=halving")
    with pytest.raises(SpecError, match=r"halving judges what is measured on the way, but train\.snapshots is 1"):
        search_in(tmp_path, "train.snapshots=1", "tune.pruner=halving")
    assert search_in(tmp_path, "tune.objective=[fd, kid]", "train.snapshots=1").tune.pruner is None


def test_a_range_of_what_is_not_searched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"ranges\.train\.r1_gamma: is not among tune\.parameters"):
        search_in(tmp_path, "tune.parameters=[loss.tau]", "tune.ranges={train.r1_gamma: [1, 20]}")


def test_a_regulariser_that_is_off_is_not_searched(tmp_path: Path) -> None:
    search = search_in(tmp_path, "train.r1_gamma=0")
    assert GAMMA not in search.written
    with pytest.raises(SpecError, match=r"is 0 in 'full', so there is nothing to search around"):
        search_in(tmp_path, "train.r1_gamma=0", f"tune.parameters=[{GAMMA}]")


def test_a_judge_that_guides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"clip_score is measured by metrics\.clip, whose weights encoders\.clip trains"
    ):
        search_in(tmp_path, "tune.objective=clip_score", text=STUDY.replace("open_clip:judge", "open_clip:guide"))


def test_the_optimum_is_where_the_tests_say(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO)
    best, near = (search.runs({**BEST, TAU: tau}, 0)[0] for tau in (BEST[TAU], 0.26))
    assert metrics(best)[FD] < metrics(near)[FD]
