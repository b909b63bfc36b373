"""What a report and the terminal say of a study whose seeds were added until the results decided."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from designs import cells_of, table_of
from harness.analysis.analyse import analyse
from harness.analysis.from_records import analyse_records
from harness.analysis.looks import Looks
from harness.report.answer import answer
from harness.report.caveats import caveats
from harness.report.data_files import effects_csv
from harness.report.document.model import Bullets, Paragraph, Table, plain
from harness.report.effects import effects
from harness.report.inputs import collect
from harness.report.terminal import print_comparison
from harness.report.wording import decided, looks
from reported import records_of, study_of

RULE = Looks(3, 8)
MARGINS = {"fd_emoji": 5.0, "clip_score": 1.0}


def inputs_of(folder, seeds, rule=RULE):
    study = study_of(folder, kind="one-at-a-time", seeds=seeds)
    records = records_of(study, spread=0.05)
    return collect(study, records, analyse_records(records, "origin", study.toggle_names, MARGINS, (), rule))


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return inputs_of(tmp_path_factory.mktemp("looks"), 4)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    return inputs_of(tmp_path_factory.mktemp("fixed"), 4, None)


def everything(blocks):
    """All text of the blocks, of tables the columns."""
    for block in blocks:
        if isinstance(block, Paragraph):
            yield plain(block.text)
        elif isinstance(block, Bullets):
            yield from (plain(text) for _, text in block.items)
        elif isinstance(block, Table):
            yield " | ".join(column.title for column in block.columns)
        elif hasattr(block, "blocks"):
            yield from everything(block.blocks)


def test_the_answer_says_how_many_seeds_of_how_many_and_which_look_decided(material):
    text = "\n".join(everything(answer(material)))
    assert "Seeds were added one by one until the results decided: 4 of at most 8 seeds" in text
    decided = {effect.toggle: effect.estimate for effect in material.analysis.of("fd_emoji").effects}
    estimate = decided["transform_w"]
    assert estimate.verdict == "better" and estimate.decided_after == 4
    assert "transform_w lowers it by" in text and "4 of 4 seeds, decided after 4" in text


def test_the_tables_of_effects_have_no_sign_flip_p_and_say_what_intervals_are(material, fixed):
    text = "\n".join(everything(effects(material)))
    assert "after 3 to 8 seeds" in text and "sign-flip p |" not in text and "| decided after |" in text
    text = "\n".join(everything(effects(fixed)))
    assert "sign-flip p |" in text and "look" not in text and "decided" not in text


def test_a_caveat_says_that_effects_look_too_large_and_none_speaks_of_a_fixed_number(material, fixed):
    text = " ".join(map(plain, caveats(material)))
    assert "training could end after 3, 4, 5, 6, 7 or 8" in text and "a little smaller than shown" in text
    assert "decided how many" not in " ".join(map(plain, caveats(fixed)))


@pytest.mark.parametrize(
    ("verdict", "after", "low", "said"),
    [
        ("worse", 3, -1.0, "the verdict on img_img_loss was reached at an earlier look, and stands"),
        ("worse", 4, -1.0, "the verdict on img_img_loss rests on p of an earlier look, which Holm's correction lets"),
        ("worse", 4, 0.1, ""),
        ("equivalent", 3, -7.0, "within the margin, of img_img_loss, was reached at an earlier look, and stands"),
        ("equivalent", 3, -1.0, ""),
        ("equivalent", 4, -7.0, ""),
    ],
)
def test_what_the_interval_of_all_seeds_does_not_say(material, verdict, after, low, said):
    results = []
    for result in material.analysis.metrics:
        first = result.effects[0]
        assert first.toggle == "img_img_loss"
        estimate = replace(first.estimate, low=low, high=1.0, verdict=verdict, decided_after=after)
        results.append(replace(result, effects=(replace(first, estimate=estimate),)))
    changed = replace(material, analysis=replace(material.analysis, metrics=tuple(results)))
    text = " ".join(map(plain, caveats(changed)))
    assert said in text and text.count("earlier look") == (2 if said else 0), "of both headline metrics"


@pytest.mark.parametrize("width", [64, 80, 120])
@pytest.mark.parametrize(
    ("seeds", "says"),
    [
        (2, "2 of at most 8 seeds so far. The first look is after 3, and nothing is tested before it."),
        (4, "4 of at most 8 seeds so far. No verdict yet: "),
    ],
)
def test_the_terminal_says_where_the_rule_stands(tmp_path, width, seeds, says):
    analysis = inputs_of(tmp_path, seeds).analysis
    stream = io.StringIO()
    print_comparison(analysis, Console(file=stream, width=width))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert says in text and ("Verdicts after 4 seeds: transform_w" in text) == (seeds == 4)


def test_a_decided_study_says_so():
    cells = cells_of("one-at-a-time")
    values = 60 + np.random.default_rng(0).normal(size=(3, len(cells))) + 30 * np.arange(len(cells))
    analysis = analyse(table_of(cells, values), "origin", None, RULE)
    assert looks(analysis) == "3 of at most 8 seeds: all effects have their verdict."
    assert decided(analysis.of("clip_score")) == "Verdicts after 3 seeds: a, b, c and d."


def test_the_csv_of_effects_has_the_look(material, fixed):
    rows = list(csv.DictReader(io.StringIO(effects_csv(material.analysis))))
    mine = next(row for row in rows if (row["metric"], row["toggle"]) == ("fd_emoji", "transform_w"))
    assert mine["decided_after"] == "4" and mine["sign_flip"] == ""
    assert "decided_after" not in effects_csv(fixed.analysis).splitlines()[0]


def test_equal_time_is_read_by_the_same_looks(material):
    assert material.equal_time is not None and material.equal_time.rule == RULE
