"""What a search came to, in sentences: each case has its own, and none claims what is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.report.search import answer
from harness.tuning.findings import Findings
from search_findings import better, compared, findings_of, four, metric, search_of, trial

LEVEL = [5.0, 5.5, 4.8, 5.2, 5.1]
UNKNOWN = "so it is unknown whether tuning gained anything"


def fresh(found: Findings) -> str:
    return " ".join(told for _, told in answer.on_fresh_seeds(found))


class TestState:
    def test_counts_and_aim(self, tmp_path):
        assert answer.progress(four(tmp_path)) == (
            "The search varies 5 loss settings of full for a lower Fréchet distance (emoji): 4 of 4 trials have an "
            "outcome (2 done, 1 pruned, 1 diverged)."
        )

    def test_not_over(self, tmp_path):
        search = search_of(tmp_path, trials=9, parameters=("loss.tau",))
        rows = [trial(search, 0, {"fd_emoji": 5.0}), *(trial(search, n, {}, outcome="running") for n in (1, 2))]
        told = answer.progress(findings_of(search, [*rows, trial(search, 3, {}, outcome="unfinished")], 0))
        assert told.startswith("The search is not finished. It varies 1 loss setting of full")
        assert "1 of 9 trials have an outcome (1 done, 2 running, 1 unfinished)." in told

    def test_fewer_asked_for_than_there_are(self, tmp_path):
        search = search_of(tmp_path, trials=1)
        rows = [trial(search, n, {"fd_emoji": 5.0}) for n in range(2)]
        assert ": 2 trials with an outcome, of 1 asked for (2 done)." in answer.progress(findings_of(search, rows, 0))

    def test_nothing_begun(self, tmp_path):
        assert "0 of 4 trials have an outcome (none has started)." in answer.progress(
            findings_of(search_of(tmp_path), [])
        )

    @pytest.mark.parametrize(
        ("constraints", "told"),
        [
            ({"clip_score": 1.0}, "CLIP score at most 1 point worse"),
            ({"clip_score": 0.5}, "CLIP score at most 0.5 points worse"),
            ({"recall": 0.02}, "Recall at most 0.02 worse"),
        ],
    )
    def test_constraints(self, tmp_path, constraints, told):
        assert f"with {told} than with the weights as written" in answer.aim(four(tmp_path, constraints=constraints))

    def test_several_objectives(self, tmp_path):
        found = findings_of(search_of(tmp_path, objective=("fd", "clip_score")), [])
        assert answer.aim(found) == "lower Fréchet distance (emoji) and higher CLIP score at once"


class TestOnTuningSeeds:
    def test_best_against_first_and_that_it_is_optimistic(self, tmp_path):
        assert answer.on_tuning_seeds(four(tmp_path)) == (
            "The best on the tuning seeds and captions is trial 1: Fréchet distance (emoji) 4.00, as written (trial 0) "
            "5.00, −20.0 %. It was chosen from 2 trials after seeing these results, so they are optimistic."
        )

    def test_nothing_done(self, tmp_path):
        search = search_of(tmp_path)
        told = answer.on_tuning_seeds(findings_of(search, [trial(search, 0, {}, outcome="unfinished")]))
        assert told == "No trial is done, so there is no result yet."
        over = [trial(search, number, {}, outcome="diverged") for number in range(4)]
        assert answer.on_tuning_seeds(findings_of(search, over)) == "No trial has a result."

    def test_best_is_the_first(self, tmp_path):
        found = four(tmp_path)
        told = answer.on_tuning_seeds(replace(found, best=found.trials[0]))
        assert told.startswith("Tuning found nothing better: trial 0") and "the best of 2 trials" in told

    def test_best_is_the_first_of_a_front(self, tmp_path):
        search = search_of(tmp_path, objective=("fd", "clip_score"))
        rows = [
            trial(search, n, {"fd_emoji": d, "clip_score": c}) for n, (d, c) in enumerate([(5, 50), (3, 40), (6, 55)])
        ]
        told = answer.on_tuning_seeds(findings_of(search, rows, best=0, front=tuple(rows)))
        assert "trial 0, which has the weights as written" in told and "nothing better" not in told
        assert told.endswith("2 other trials of the front: better on one objective and worse on another.")

    def test_first_has_no_value(self, tmp_path):
        search = search_of(tmp_path)
        rows = [trial(search, 0, {}, outcome="diverged"), trial(search, 1, {"fd_emoji": 4.0})]
        told = answer.on_tuning_seeds(findings_of(search, rows, best=1))
        assert "Trial 0, which has the weights as written, has measured nothing" in told and "trial 1" in told
        assert "%" not in told

    def test_none_keeps_the_constraints(self, tmp_path):
        search = search_of(tmp_path, constraints={"clip_score": 1.0})
        rows = [trial(search, 1, {"fd_emoji": 4.0, "clip_score": 1.0}, excess={"clip_score": 5.0})]
        assert "No trial that is done meets the constraints" in answer.on_tuning_seeds(findings_of(search, rows))

    def test_picked_from_those_that_keep_the_constraints(self, tmp_path):
        search = search_of(tmp_path, constraints={"clip_score": 1.0})
        kept, broken = {"clip_score": -1.0}, {"clip_score": 2.0}
        rows = [
            trial(search, n, {"fd_emoji": 5.0 - n, "clip_score": 60.0}, excess=broken if n == 3 else kept)
            for n in range(4)
        ]
        assert "chosen from 3 trials that meet the constraints" in answer.on_tuning_seeds(findings_of(search, rows, 2))

    def test_of_a_front(self, tmp_path):
        search = search_of(tmp_path, objective=("fd", "clip_score"))
        rows = [trial(search, n, {"fd_emoji": 5.0 - n, "clip_score": 60.0 - n}) for n in range(3)]
        told = answer.on_tuning_seeds(findings_of(search, rows, best=1, front=tuple(reversed(rows))))
        assert told.startswith("Of the 3 trials of the Pareto front the one nearest to the best of every objective")
        assert "4.00, as written (trial 0) 5.00, −20.0 %; CLIP score 59.0, as written (trial 0) 60.0, −1.00." in told


class TestOnFreshSeeds:
    def test_the_gain_holds(self, tmp_path):
        ((verdict, told),) = answer.on_fresh_seeds(replace(four(tmp_path), comparison=better()))
        assert verdict == "better" and told.endswith("The gain holds.")
        assert "−19.9 % (95 % interval −20.8 to −19.0 %), better in 5 of 5 seeds" in told

    def test_a_gain_below_the_margin(self, tmp_path):
        factors = {"fd_emoji": [0.94, 0.97, 0.95, 0.93, 0.98]}
        told = fresh(replace(four(tmp_path), comparison=compared({"fd_emoji": LEVEL}, factors, {"fd_emoji": 5.0})))
        assert told.endswith("The gain holds, though by less than the margin of 5 %.")

    def test_a_sure_difference_within_the_margin_is_no_gain(self, tmp_path):
        told = fresh(replace(four(tmp_path), comparison=better(margins={"fd_emoji": 30.0})))
        assert told.endswith("within the margin of 30 %: tuning gained nothing that matters.")

    @pytest.mark.parametrize(
        ("factors", "margins", "verdict", "said"),
        [
            ([1.2, 1.21, 1.19, 1.2, 1.205], {}, "worse", "Tuning made it worse: keep the weights as written."),
            ([0.9, 1.12, 1.0, 0.95, 1.02], {}, "inconclusive", "5 seeds cannot tell whether tuning gained anything."),
            (
                [1.002, 0.998, 1.0, 1.001, 0.999],
                {"fd_emoji": 5.0},
                "equivalent",
                ": tuning gained nothing that matters.",
            ),
        ],
    )
    def test_no_gain(self, tmp_path, factors, margins, verdict, said):
        comparison = compared({"fd_emoji": LEVEL}, {"fd_emoji": factors}, margins)
        ((found, told),) = answer.on_fresh_seeds(replace(four(tmp_path), comparison=comparison))
        assert found == verdict and told.endswith(said) and "gain holds" not in told

    def test_one_seed(self, tmp_path):
        told = fresh(replace(four(tmp_path), comparison=compared({"fd_emoji": [5.0]}, {"fd_emoji": [0.8]})))
        assert "−20.0 %, without a verdict: one seed has no spread to judge by." in told
        assert "1 of the 5 pairs of runs that were asked for are done." in told

    def test_runs_that_diverge(self, tmp_path):
        factors = [0.8, 0.81, float("nan"), 0.8, 0.8]
        told = fresh(replace(four(tmp_path), comparison=compared({"fd_emoji": LEVEL}, {"fd_emoji": factors})))
        assert (
            "4 of the 5 pairs" in told
            and "1 of 5 runs with the weights found diverged, 0 of 5 with those as written: keep the weights" in told
        )

    def test_best_is_the_first(self, tmp_path):
        found = four(tmp_path)
        assert "nothing to compare" in fresh(replace(found, best=found.trials[0]))

    def test_none_asked_for(self, tmp_path):
        assert fresh(four(tmp_path, confirm=0)).endswith(f"(tune.confirm is 0), {UNKNOWN}.")

    def test_none_made(self, tmp_path):
        assert fresh(four(tmp_path)) == f"The comparison under fresh seeds is not made yet, {UNKNOWN}."

    def test_no_best(self, tmp_path):
        assert not list(answer.on_fresh_seeds(findings_of(search_of(tmp_path), [])))

    def test_a_search_that_is_not_over(self, tmp_path):
        told = fresh(replace(four(tmp_path, trials=9), comparison=better()))
        assert told.endswith("This compares the best trial so far; the search may still find a better one.")

    def test_objective_that_was_not_measured(self, tmp_path):
        told = fresh(replace(four(tmp_path, objective="kid"), comparison=better()))
        assert f"Kernel distance (emoji): not measured alike under fresh seeds, {UNKNOWN}." in told


@pytest.mark.parametrize(
    ("name", "low", "high", "said"),
    [
        ("clip_score", -0.9, 0.2, "the constraint is met."),
        ("clip_score", -1.2, 0.2, "it is unknown whether the constraint is met."),
        ("clip_score", -3.0, -1.5, "the constraint is violated."),
        ("fd_emoji", -5.0, 0.9, "the constraint is met."),
        ("fd_emoji", 0.5, 1.1, "it is unknown whether the constraint is met."),
        ("fd_emoji", 1.1, 4.0, "the constraint is violated."),
    ],
)
def test_constraints_under_fresh_seeds(name, low, high, said):
    """With a margin of 1, on the side that is worse for this metric."""
    comparison = better().of("fd_emoji").cell("tuned").estimate
    assert comparison is not None
    verdict, told = answer.constraint(
        metric(name), 1.0, replace(comparison, value=(low + high) / 2, low=low, high=high)
    )
    assert told.endswith(said) and verdict == ("worse" if "violated" in said else None)
