"""The sentences of the first screen, the numbers in words, and the terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.analysis.from_records import analyse_records
from harness.analysis.results import Analysis, Estimate, InteractionResult
from harness.design.kinds import Subset
from harness.metrics.definitions import METRICS
from harness.report import interactions, wording
from harness.report.answer import answer
from harness.report.caveats import caveats
from harness.report.document.model import Bullets, Section, plain
from harness.report.tables import NO_ESTIMATE
from harness.report.terminal import print_comparison
from harness.report.verdicts import reasons
from harness.study.schema import Tuned
from harness.text import listed
from reported import material_of, records_of, shift, study_of, unfinished


def sentences(folder: Path, moved: Callable[[Subset], float] = shift, **design) -> list[str]:
    """What the answer says of the distance."""
    study = study_of(folder, **design)
    return _said(material_of(study, records_of(study, moved)))


def _said(material) -> list[str]:
    section = next(block for block in answer(material) if isinstance(block, Section))
    lists = [block for block in section.blocks if isinstance(block, Bullets)]
    return [plain(text) for found in lists for _, text in found.items]


def together(by: float) -> Callable[[Subset], float]:
    return lambda cell: by if {"img_img_loss", "paired_contrast"} <= set(cell) else 0.0


class TestAnswer:
    def test_better_and_worse_say_how_much_and_in_how_many_seeds(self, tmp_path):
        found = sentences(tmp_path, lambda cell: 0.2 * ("mix_logits" in cell) - 0.1 * ("transform_w" in cell))
        assert found[0].startswith("Better: transform_w lowers it by ")
        assert found[1].startswith("Worse: mix_logits raises it by 2")
        assert found[0].endswith("3 of 3 seeds.") and found[1].endswith("3 of 3 seeds.")
        assert found[-1] == ("Equivalent: img_img_loss and paired_contrast change it by less than the margin of 5 %.")

    @pytest.mark.parametrize(
        ("failed", "told"),
        [
            (("mix_logits",), "mix_logits has no result: 3 of 3 runs failed"),
            (("mix_logits", "img_img_loss"), "img_img_loss and mix_logits have no result: 3 of 3 runs failed"),
        ],
    )
    def test_cells_without_a_result_are_named_once(self, tmp_path, failed, told):
        study = study_of(tmp_path, kind="one-at-a-time")
        records = [unfinished(it, "failed") if it.run.cell in failed else it for it in records_of(study)]
        material = material_of(study, records)
        assert [text for text in _said(material) if "no result" in text] == [f"Insufficient seeds: {told}."]
        assert told + "." in map(plain, reasons(material.analysis.headlines[0]))

    def test_two_ideas_that_need_each_other(self, tmp_path):
        found = sentences(tmp_path, together(-0.3), kind="full")
        assert any("img_img_loss and paired_contrast only help together" in text for text in found)

    def test_two_ideas_that_harm_each_other(self, tmp_path):
        found = sentences(tmp_path, together(0.3), kind="full")
        assert any(
            "img_img_loss and paired_contrast are weaker together than the sum of each alone" in t for t in found
        )

    def test_two_ideas_that_help_alone_and_more_together(self, tmp_path):
        def moved(cell: Subset) -> float:
            return together(-0.2)(cell) - 0.3 * ("img_img_loss" in cell) - 0.3 * ("paired_contrast" in cell)

        found = sentences(tmp_path, moved, kind="full")
        assert any("are stronger together than the sum of each alone" in text for text in found)
        assert not any("only help together" in text for text in found)

    def test_a_sum_of_interactions_says_alone_and_beside_the_rest(self, tmp_path):
        found = sentences(tmp_path, lambda cell: -0.3 if cell == ("transform_w",) else 0.0)
        assert any(
            text.startswith("Interaction: transform_w gains less with the other ideas on than alone") for text in found
        )

    def test_interactions_that_share_a_name_are_told_as_alternatives(self):
        result = analysis_of({"a": -0.1}).of("fd_emoji")
        found = InteractionResult(("a:b", "-c:d"), "", replace(NO_ESTIMATE, value=-5.0, verdict="better"))
        assert interactions.sentence(result, found) == (
            "a and b are stronger together than the sum of each alone or c and d are weaker together than the sum "
            "of each alone: this design cannot tell which."
        )

    def test_an_effect_that_is_all_beside_the_others_is_one_finding(self, tmp_path):
        found = sentences(tmp_path, lambda cell: -0.3 if "mix_logits" in cell and len(cell) > 1 else 0.0)
        study = study_of(tmp_path)
        records = records_of(study, lambda cell: -0.3 if "mix_logits" in cell and len(cell) > 1 else 0.0)
        of_origin = {r.run.seed: r.result for r in records if r.run.cell == "origin"}
        twins = [replace(r, result=of_origin[r.run.seed]) if r.run.cell == "mix_logits" else r for r in records]
        said = _said(material_of(study, twins))
        assert any("mix_logits lowers" in text and "alone it changes nothing" in text for text in said)
        assert not any(text.startswith("Interaction: mix_logits") for text in said)
        assert any(text.startswith("Interaction: mix_logits") for text in found), "not so if alone it only seems to"
        proven = [
            replace(it, result=replace(it.result, weights=f"{it.run.seed}"))
            if it.run.cell in ("origin", "mix_logits")
            else it
            for it in twins
        ]
        told = [plain(text) for text in reasons(material_of(study, proven).analysis.of("fd_emoji"))]
        assert any("mix_logits alone: trained exactly as origin" in text for text in told), told

    def test_the_best_cells_are_named_with_what_picking_costs(self, tmp_path):
        (best,) = [text for text in sentences(tmp_path) if text.startswith("Best means")]
        study = study_of(tmp_path)
        cells = material_of(study, records_of(study)).analysis.of("fd_emoji").cells
        first, second = sorted(cells, key=lambda cell: cell.mean)[:2]
        assert (
            best.startswith(f"Best means: {first.cell} (") and f"then {second.cell} (" in best and "optimistic" in best
        )

    def test_an_effect_below_the_margin_is_told_as_such(self, tmp_path):
        found = sentences(tmp_path, lambda cell: -0.05 * ("mix_logits" in cell))
        assert any("mix_logits lowers" in text and "below the margin of 5 %" in text for text in found)

    def test_verdicts_that_lean_on_other_cells_are_named(self, tmp_path):
        material = material_of(study_of(tmp_path), records_of(study_of(tmp_path)))
        result = material.analysis.of("fd_emoji")
        leaning = [
            effect.toggle
            for effect in result.effects
            if effect.estimate.verdict in ("better", "worse") and effect.estimate.own_low < 0 < effect.estimate.own_high
        ]
        told = [
            text
            for text in map(plain, caveats(material))
            if "from own seeds alone" in text and text.startswith("Fréchet")
        ]
        assert bool(told) == bool(leaning) and all(name in told[0] for name in leaning)

    def test_weights_of_a_search_are_told_with_what_it_cost(self, tmp_path):
        def told(*cells: str) -> str:
            study = replace(study_of(tmp_path), tuned={cell: Tuned(24, "fd") for cell in cells})
            return "\n".join(map(plain, caveats(material_of(study, records_of(study)))))

        assert "search for" not in told()
        assert (
            "a search for full (24 trials on fd), and are used in every cell. No search was made for origin: a"
            in told("full")
        )
        both = told("full", "origin")
        assert (
            "full (24 trials on fd) and origin (24 trials on fd), and are used" in both
            and "No search was made" not in both
        )

    def test_a_toggle_that_changes_nothing_is_told_as_such(self, tmp_path):
        study = study_of(tmp_path, ("one", "two"), kind="one-at-a-time")
        records = records_of(study, lambda cell: 0.0)
        results = {r.run.seed: replace(r.result, weights=f"{r.run.seed}") for r in records if r.run.cell == "origin"}
        records = [replace(r, result=results[r.run.seed]) if r.run.cell == "origin" else r for r in records]
        same = [replace(r, result=results[r.run.seed]) if r.run.cell == "two" else r for r in records]
        told = _said(material_of(study, same))
        nothing = "two makes no difference at all: the runs are the same, or they ended with the same weights"
        assert any(nothing in text for text in told)


def analysis_of(shifts: dict[str, float]) -> Analysis:
    study = study_of(Path("nowhere"), tuple(shifts), kind="one-at-a-time")
    records = records_of(study, lambda cell: sum(shifts[name] for name in cell))
    return analyse_records(records, "origin", tuple(shifts))


class TestTerminal:
    @pytest.mark.parametrize("width", [80, 120])
    def test_fits_and_says_all(self, tmp_path, width):
        study = study_of(tmp_path)
        records = records_of(study)
        records[4] = unfinished(records[4], "diverged", "Diverged: loss/g")
        lines = printed(material_of(study, records).analysis, width)
        assert max(map(len, lines)) <= width
        names = [line.split()[0] for line in lines if line.strip()]
        assert names.index("transform_w") < names.index("full") < names.index("CLIP"), "effects, then cells, by metric"
        assert ("mean ± sd" in "".join(lines)) == ("p (Holm)" in "".join(lines)) == (width == 120)
        assert "img_img_loss: 2 done, 1 diverged" in lines

    def test_sure_interactions_are_told_in_sentences(self):
        study = study_of(Path("nowhere"), ("one", "two"), kind="full")
        records = records_of(study, lambda cell: -0.4 if len(cell) == 2 else 0.0)
        text = " ".join(" ".join(printed(analyse_records(records, "origin", ("one", "two")), 100)).split())
        assert "one and two" in text and "together" in text

    def test_one_seed_leaves_the_word_to_lenth(self):
        study = study_of(Path("nowhere"), ("one", "two", "three"), kind="full", seeds=1)
        records = records_of(study, lambda cell: -0.4 * ("one" in cell))
        text = " ".join(printed(analyse_records(records, "origin", ("one", "two", "three")), 100))
        assert "by Lenth's test one stands out" in text

    def test_toggles_that_the_cells_say_nothing_of_are_named(self):
        study = study_of(Path("nowhere"), ("one", "two"), kind="one-at-a-time")
        records = [record for record in records_of(study) if record.run.cell != "two"]
        text = " ".join(printed(analyse_records(records, "origin", ("one", "two")), 100))
        assert "These cells say nothing about two." in text

    def test_cells_that_are_single_toggles_are_not_told_twice(self):
        lines = printed(analysis_of({"one": -0.2, "two": 0.0}), 100)
        assert sum(line.startswith(" one ") for line in lines) == 2, "once for each metric"

    def test_markup_in_names_is_text(self):
        assert any("[red]x[/red]" in line for line in printed(analysis_of({"[red]x[/red]": -0.2}), 100))


def printed(analysis: Analysis, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_comparison(analysis, console)
    return console.file.getvalue().splitlines()


class TestWording:
    @pytest.mark.parametrize(
        ("metric", "value", "text"),
        [
            ("fd", -18.24, "−18.2 %"),
            ("fd", 12345.6, "+12346 %"),
            ("clip_score", 1.304, "+1.30"),
            ("r_precision", -0.0001, "−0.0001"),
            ("kid", -0.000271, "−0.000271"),
            ("kid", 0.0, "0.00"),
            ("fd", None, "–"),
        ],
    )
    def test_differences(self, metric, value, text):
        assert wording.signed(METRICS[metric], value) == text

    @pytest.mark.parametrize(
        ("metric", "value", "text"),
        [("fd", 5.1234, "5.12"), ("fd", 123.4, "123"), ("clip_score", 61.27, "61.3"), ("kid", -0.00415, "−0.00415")],
    )
    def test_values(self, metric, value, text):
        assert wording.number(METRICS[metric], value) == text

    @pytest.mark.parametrize(
        ("ends", "text"),
        [
            ((-11.2, -15.04, -7.1), "11.2 % [7.1, 15.0]"),
            ((4.4, 2.3, 6.6), "4.4 % [2.3, 6.6]"),
            ((-1.0, -3.0, 1.0), "1.0 % [−1.0, 3.0]"),
        ],
    )
    def test_amounts_are_seen_from_where_they_point(self, ends, text):
        value, low, high = ends
        estimate: Estimate = replace(NO_ESTIMATE, value=value, low=low, high=high)
        assert wording.amount(METRICS["fd"], estimate) == text

    def test_lists_and_names(self):
        assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
            "", "a", "a and b", "a, b and c",
        ]  # fmt: skip
        assert wording.alias_names(("a:b", "-c:d")) == "a × b − c × d"
        assert wording.rate({"done": 2, "failed": 1}, "failed") == "1 of 3"
