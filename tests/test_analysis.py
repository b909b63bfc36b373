"""Comparisons with the baseline by hand, and that nothing is dropped, mixed or claimed from too little."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.export import as_json
from harness.analysis.from_records import analyse_records
from harness.analysis.statistics import holm
from harness.errors import HarnessError
from harness.runs.record import Result
from synthetic import CARD, grid, record

SEEDS = {0: 10.0, 1: 12.0, 2: 8.0, 3: 11.0}


def analysed(records, margins=None):
    toggles = dict.fromkeys(toggle for record in records for toggle in record.run.toggles)
    return analyse_records(records, "origin", tuple(toggles), margins)


def variants(records, metric="fd_emoji", margins=None):
    """cell -> its difference from the origin."""
    return {cell.cell: cell.estimate for cell in analysed(records, margins).of(metric).cells if cell.estimate}


def only(records, metric="fd_emoji", margins=None):
    (estimate,) = variants(records, metric, margins).values()
    return estimate


class TestOneEffect:
    def test_paired_t_by_hand(self):
        ours = {0: 61.0, 1: 64.5, 2: 59.0}
        theirs = {0: 60.0, 1: 62.0, 2: 58.5}
        effect = only(grid({"origin": theirs, "variant": ours}, "clip_score"), "clip_score")
        # Differences 1, 2.5, 0.5: mean 4/3, sd sqrt(13/12); t(0.975, 2) = 4.302653.
        mean, error = 4 / 3, math.sqrt(13 / 12 / 3)
        assert effect.by_seed == pytest.approx((1.0, 2.5, 0.5))
        assert effect.value == pytest.approx(mean)
        assert effect.low == pytest.approx(mean - 4.302653 * error, rel=1e-6)
        assert effect.high == pytest.approx(mean + 4.302653 * error, rel=1e-6)
        t = mean / error
        assert effect.p == pytest.approx(1 - t / math.sqrt(t**2 + 2))  # Student's t with 2 degrees of freedom
        assert (effect.n, effect.improved) == (3, 3)
        assert effect.verdict == "inconclusive"

    def test_distances_are_compared_by_ratio(self):
        halves = {seed: value / 2 * (1 + 0.001 * seed) for seed, value in SEEDS.items()}
        effect = only(grid({"origin": SEEDS, "variant": halves}))
        ratios = [0.5 * (1 + 0.001 * seed) for seed in SEEDS]
        assert effect.by_seed == pytest.approx([100 * (ratio - 1) for ratio in ratios])
        assert effect.value == pytest.approx(100 * (np.prod(ratios) ** (1 / 4) - 1))
        assert effect.low < effect.value < effect.high < 0
        assert effect.verdict == "better"
        (_, cell) = analysed(grid({"origin": SEEDS, "variant": halves})).of("fd_emoji").cells
        assert cell.correlation == pytest.approx(1.0, abs=1e-3)

    def test_pairs_are_made_by_seed_whatever_the_order(self):
        records = grid({"origin": SEEDS, "variant": {0: 9.0, 1: 11.5, 2: 7.0, 3: 10.8}})
        assert only(records[::-1]) == only(records)

    def test_only_shared_seeds_make_pairs(self):
        effect = only(grid({"origin": {0: 10.0, 1: 12.0, 5: 9.0}, "variant": {1: 6.0, 5: 4.4, 7: 1.0}}))
        assert effect.seeds == (1, 5)
        assert effect.n == 2

    def test_one_seed_gives_no_interval_and_no_verdict(self):
        effect = only(grid({"origin": {0: 10.0}, "variant": {0: 1.0}}))
        assert effect.value == pytest.approx(-90.0)
        assert (effect.low, effect.high, effect.p, effect.p_holm) == (None, None, None, None)
        assert effect.verdict == "insufficient seeds"

    def test_two_seeds_have_an_interval_with_one_degree_of_freedom(self):
        effect = only(grid({"origin": {0: 50.0, 1: 50.0}, "variant": {0: 51.0, 1: 53.0}}, "clip_score"), "clip_score")
        assert (effect.low, effect.high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)

    @pytest.mark.parametrize("shift", [1e-12, 0.1])
    def test_differences_without_spread_prove_nothing(self, shift):
        ours = {0: 0.3 + shift, 1: 0.1 + shift, 2: 0.7 + shift}
        records = grid({"origin": {0: 0.3, 1: 0.1, 2: 0.7}, "variant": ours}, "recall")
        effect = only(records, "recall")
        assert effect.value == pytest.approx(shift)
        assert (effect.low, effect.p) == (None, None)
        assert effect.verdict == "inconclusive"

    @pytest.mark.parametrize(
        ("metric", "factor", "verdict"), [("fd_emoji", 2.0, "worse"), ("clip_score", 2.0, "better")]
    )
    def test_direction_belongs_to_the_metric(self, metric, factor, verdict):
        ours = {seed: value * factor + 0.01 * seed for seed, value in SEEDS.items()}
        effect = only(grid({"origin": SEEDS, "variant": ours}, metric), metric)
        assert effect.verdict == verdict
        assert effect.improved == (4 if verdict == "better" else 0)


class TestFamily:
    def test_holm_by_hand(self):
        assert holm([0.01, 0.04, 0.03, 0.2], 4) == pytest.approx([0.04, 0.09, 0.09, 0.2])
        assert holm([0.5, 0.9], 2) == [1.0, 1.0]
        assert holm([None, 0.02], 2) == [None, 0.04]
        assert holm([None, 0.02], 1) == [None, 0.02]
        assert holm([], 0) == []

    def test_every_variant_of_a_metric_is_in_the_family(self):
        rng = np.random.default_rng(0)
        cells = {"origin": SEEDS}
        for name in "abcdefg":
            cells[name] = {seed: value * math.exp(rng.normal(-0.02, 0.05)) for seed, value in SEEDS.items()}
        effects = variants(grid(cells)).values()
        assert [effect.p_holm for effect in effects] == holm([effect.p for effect in effects], 7)
        assert min(effect.p_holm for effect in effects) >= min(1.0, 7 * min(effect.p for effect in effects)) - 1e-12

    def test_a_verdict_needs_the_corrected_p(self):
        noisy = {
            seed: value * factor for (seed, value), factor in zip(SEEDS.items(), (0.9, 0.93, 0.88, 0.95), strict=True)
        }
        alone = grid({"origin": SEEDS, "variant": noisy})
        assert only(alone).verdict == "better"
        rng = np.random.default_rng(0)
        others = {f"other{i}": {s: v * math.exp(rng.normal(0, 0.09)) for s, v in SEEDS.items()} for i in range(9)}
        crowd = variants(grid({"origin": SEEDS, "variant": noisy, **others}))["variant"]
        assert crowd.p < 0.05 < crowd.p_holm
        assert crowd.verdict == "inconclusive"


class TestStates:
    def test_every_run_is_counted(self):
        records = grid({"origin": {0: 10.0, 1: 12.0, 2: 9.0}, "variant": {0: 5.0}})
        records += [record("variant", 1, None, "diverged"), record("variant", 2, None, "failed")]
        records += [record("late", seed, None) for seed in range(3)]
        comparison = analysed(records)
        states = {cell.cell: cell.states for cell in comparison.cells}
        assert states == {
            "origin": {"done": 3},
            "variant": {"done": 1, "diverged": 1, "failed": 1},
            "late": {"pending": 3},
        }
        verdicts = {cell: estimate.verdict for cell, estimate in variants(records).items()}
        assert verdicts == {"variant": "diverged", "late": "insufficient seeds"}
        assert comparison.seeds == (0, 1, 2)

    def test_divergence_outranks_the_seeds_that_survived(self):
        ours = {seed: value * 0.5 + 0.001 * seed for seed, value in SEEDS.items()}
        records = [*grid({"origin": {**SEEDS, 4: 9.0}, "variant": ours}), record("variant", 4, None, "diverged")]
        effect = only(records)
        assert effect.p_holm < 0.05
        assert effect.verdict == "diverged"

    def test_a_diverged_baseline_costs_a_pair_and_blames_no_variant(self):
        records = [*grid({"origin": {0: 10.0}, "variant": {0: 9.0, 1: 9.5}}), record("origin", 1, None, "diverged")]
        assert only(records).verdict == "insufficient seeds"

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_number_that_is_not_finite_is_divergence(self, value):
        records = grid({"origin": {0: 10.0, 1: 11.0}, "variant": {0: 9.0, 1: value}})
        comparison = analysed(records)
        assert comparison.cells[1].states == {"done": 1, "diverged": 1}
        assert variants(records, comparison.metrics[0].metric.name)["variant"].verdict == "diverged"

    def test_numbers_of_an_unfinished_run_do_not_count(self):
        records = grid({"origin": {0: 10.0, 1: 11.0}, "variant": {0: 9.0}})
        records.append(record("variant", 1, {"fd_emoji": 1.0}, "running"))
        assert only(records).n == 1

    def test_nothing_finished_is_no_error(self):
        comparison = analysed([record("origin", 0, None), record("variant", 0, None)])
        assert comparison.metrics == ()
        assert [cell.states for cell in comparison.cells] == [{"pending": 1}] * 2

    def test_a_missing_baseline_is_named(self):
        with pytest.raises(HarnessError, match=r"baseline 'origin'.*variant"):
            analysed(grid({"variant": {0: 1.0}}))


class TestCards:
    @pytest.mark.parametrize("key", ["manifest", "n", "extractor_fingerprint"])
    def test_numbers_measured_differently_are_refused_with_the_runs(self, key):
        records = grid({"origin": {0: 10.0}, "variant": {0: 9.0}})
        result = records[1].result
        records[1] = replace(records[1], result=replace(result, cards={"fd_emoji": {**CARD, key: "other"}}))
        with pytest.raises(
            HarnessError, match=f"measured differently.*{records[0].run.id}.*{records[1].run.id}"
        ) as raised:
            analysed(records)
        assert f"{key} 'other'" in str(raised.value)

    def test_a_diagnostic_by_different_guides_refuses_nothing(self):
        records = grid({"origin": {0: 60.0, 1: 61.0}, "variant": {0: 62.0, 1: 64.0}}, "clip_score_seen")
        result = records[3].result
        records[3] = replace(records[3], result=replace(result, cards={"clip_score_seen": {**CARD, "extractor": "x"}}))
        comparison = analysed(records)
        assert variants(records, comparison.metrics[0].metric.name)["variant"].verdict == "diagnostic"
        assert comparison.of("clip_score_seen").card == {}

    def test_cells_of_another_card_show_no_change_in_a_diagnostic(self):
        seeds = {"origin": {0: 60.0, 1: 61.0}, "alike": {0: 62.0, 1: 64.0}, "other": {0: 90.0, 1: 95.0}}
        records = grid(seeds, "clip_score_seen")
        for place in (4, 5):
            cards = {"clip_score_seen": {**CARD, "extractor": "x"}}
            records[place] = replace(records[place], result=replace(records[place].result, cards=cards))
        alike, other = variants(records, "clip_score_seen").values()
        assert alike.value == pytest.approx(2.5)
        assert (other.n, other.value, other.verdict) == (0, None, "diagnostic")

    def test_a_network_that_trains_some_cells_judges_only_the_others(self):
        records = grid({"origin": SEEDS, "plain": {seed: value / 2 + 0.01 * seed for seed, value in SEEDS.items()}})
        guided = grid({"guided": {seed: value / 4 + 0.01 * seed for seed, value in SEEDS.items()}}, "fd_emoji_seen")
        for place, record_ in enumerate(guided):
            cards = {"fd_emoji_seen": {**CARD, "role": "diagnostic"}}
            guided[place] = replace(record_, result=replace(record_.result, cards=cards))
        together = [*records, *guided]
        found = [result.metric for result in analysed(together).metrics]
        assert [(metric.name, metric.role) for metric in found] == [
            ("fd_emoji", "headline"),
            ("fd_emoji_seen", "diagnostic"),
        ]
        assert {cell: estimate.verdict for cell, estimate in variants(together).items()} == {
            "plain": "better",
            "guided": "diagnostic",
        }
        diagnostics = variants(together, "fd_emoji_seen")
        assert diagnostics["guided"].n == 4 and diagnostics["guided"].value == pytest.approx(-75, abs=1)
        assert {effect.verdict for effect in diagnostics.values()} == {"diagnostic"}

    def test_a_baseline_that_the_judge_trained_is_no_measure_for_others(self):
        records = grid({"origin": SEEDS}, "fd_emoji_seen") + grid({"variant": {0: 9.0, 1: 11.5}})
        effect = only(records)
        assert (effect.n, effect.verdict) == (0, "diagnostic")

    def test_the_card_tells_which_distance_is_the_headline(self):
        values = {"fd_emoji": 4.0, "fd_dinov2": 40.0, "kid_dinov2": 0.1, "kid_emoji": 0.2}
        cards = {name: {**CARD, "role": "headline" if name == "fd_emoji" else "further"} for name in values}
        one = record("origin", 0, values)
        comparison = analysed([replace(one, result=replace(one.result, cards=cards))])
        assert [result.metric.name for result in comparison.metrics] == [
            "fd_emoji",
            "fd_dinov2",
            "kid_dinov2",
            "kid_emoji",
        ]
        assert [result.metric.name for result in comparison.headlines] == ["fd_emoji"]

    def test_a_distance_of_deficient_rank_is_led_by_its_kernel_distance(self):
        values = {"fd_emoji": 4.0, "kid_emoji": 0.2, "clip_score": 60.0}
        one = record("origin", 0, values)
        cards = {name: {**CARD, "d": 2048} for name in values}
        comparison = analysed([replace(one, result=replace(one.result, cards=cards))])
        assert [result.metric.name for result in comparison.headlines] == ["kid_emoji", "fd_emoji", "clip_score"]
        assert [result.metric.name for result in analysed([one]).headlines] == ["fd_emoji", "clip_score"]

    def test_a_pleased_guide_and_an_unmoved_judge_are_suspicious(self):
        def measured(cell, seed, score, seen):
            values = {"clip_score": score, "clip_score_seen": seen}
            cards = {name: dict(CARD) for name in values}
            return replace(record(cell, seed, values), result=Result(values, cards, {}))

        records = [measured("origin", seed, 60 + seed, 65 + seed) for seed in range(3)]
        records += [measured("gamed", seed, 58 + seed, 80 + seed) for seed in range(3)]
        records += [measured("honest", seed, 62 + seed, 70 + seed) for seed in range(3)]
        assert analysed(records).suspicions == ("gamed",)


class TestComparison:
    def test_can_be_written_as_json(self):
        records = grid({"origin": SEEDS, "variant": {0: 9.0, 1: 11.5, 7: 9.5}, "late": {}})
        again = json.loads(json.dumps(as_json(analysed([*records, record("late", 0, None)])), allow_nan=False))
        found = again["metrics"]["fd_emoji"]
        assert [effect["toggle"] for effect in found["effects"]] == ["variant", "late"]
        assert [cell["cell"] for cell in found["cells"]] == ["origin", "variant", "late"]
        assert found["cells"][0]["verdict"] == "baseline" and found["cells"][2]["states"] == {"pending": 1}
        assert found["cells"][1]["difference"] == found["effects"][0]["effect"]
        assert (found["cells"][1]["n"], [*found["cells"][1]["by_seed"]]) == (3, ["0", "1"]) and found["effects"][0][
            "n"
        ] == 2

    def test_metrics_come_in_the_table_s_order(self):
        values = {"recall": 0.4, "clip_score": 60.0, "fd_emoji": 4.0, "kid_emoji": 0.1, "unheard_of": 1.0}
        comparison = analysed([record("origin", 0, values), record("variant", 0, values)])
        assert [result.metric.name for result in comparison.metrics] == [
            "fd_emoji",
            "clip_score",
            "kid_emoji",
            "recall",
        ]

    def test_no_torch(self):
        modules = "harness.analysis.from_records, harness.analysis.from_csv, harness.analysis.costs"
        code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
