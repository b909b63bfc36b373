"""What readers meet on pages, in figures and in files: whole numbers, nothing squeezed, nothing misnamed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.analysis.costs import CellCost
from harness.cli import presets
from harness.metrics.definitions import find_metric
from harness.report import verdicts
from harness.report.context import costs_table
from harness.report.document.model import plain, unbroken
from harness.report.figures.curves import columns_for
from harness.report.search.figures import marks
from harness.report.search.figures import weights as weight_figures
from harness.report.verdicts import on_interaction
from harness.study.load import load_study

FD = find_metric("fd_emoji")
assert FD
HARD = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("11.2 %", f"11.2{HARD}%"),
        ("−42.7 to −31.3 %", f"−42.7{HARD}to{HARD}−31.3{HARD}%"),
        ("5.13 ± 0.21", f"5.13{HARD}±{HARD}0.21"),
        ("< 0.001", f"<{HARD}0.001"),
        ("1.90 points [1.43, 2.37]", f"1.90{HARD}points [1.43,{HARD}2.37]"),
        ("[−3.0, +∞] and [a, b], [1, 2, 3]", f"[−3.0,{HARD}+∞] and [a, b], [1, 2, 3]"),
        ("seeds 0 to 5 of 16 px", f"seeds 0{HARD}to{HARD}5 of 16{HARD}px"),
        ("2 of 3 seeds, 1 of a kind", f"2{HARD}of{HARD}3 seeds, 1 of a kind"),
        ("3 seeds", "3 seeds"),
        ("from a to b", "from a to b"),
        ("5 pxels and 3 h-index", "5 pxels and 3 h-index"),
    ],
)
def test_a_number_keeps_its_unit_and_an_interval_its_ends(text: str, wanted: str) -> None:
    assert unbroken(text) == wanted
    assert unbroken(wanted) == wanted and unbroken(text).replace(HARD, " ") == text


def test_all_costs_of_a_column_have_the_same_decimals() -> None:
    costs = [CellCost(f"c{place}", 1, {"seconds": value}, 1.0) for place, value in enumerate((9.5, 97.123, 1234.5678))]
    shown = [plain(row.cells[-1].text) for row in costs_table(costs, ["seconds"]).rows]
    assert shown == ["10", "97", "1235"] or shown == ["9", "97", "1235"]
    small = [CellCost(f"c{place}", 1, {"seconds": value}, 1.0) for place, value in enumerate((0.5, 1.25))]
    assert [plain(row.cells[-1].text) for row in costs_table(small, ["seconds"]).rows] == ["0.500", "1.250"]


def test_verdicts_on_interactions_say_nothing_of_the_ideas() -> None:
    assert [on_interaction(verdict) for verdict in ("better", "worse", "equivalent", "inconclusive")] == [
        "stronger together", "weaker together", "additive", "inconclusive",
    ]  # fmt: skip


def test_badges_stand_on_claims_alone() -> None:
    from dataclasses import replace
    from types import SimpleNamespace

    from harness.report.tables import NO_ESTIMATE

    weak = replace(NO_ESTIMATE, value=-2.0, own_low=-5.0, own_high=1.0, verdict="better")
    result: object = SimpleNamespace(margin=5.0, metric=FD)
    assert verdicts.badges(result, "a", weak, None) == ["below the margin", "uncertain from own seeds"]  # type: ignore[arg-type]
    assert verdicts.badges(result, "a", replace(weak, verdict="inconclusive"), None) == []  # type: ignore[arg-type]
    sure = replace(weak, value=-9.0, own_high=-3.0)
    assert verdicts.badges(result, "a", sure, None) == []  # type: ignore[arg-type]
    effect = SimpleNamespace(toggle="a", estimate=replace(sure, verdict="worse"))
    timed: object = SimpleNamespace(metrics=[SimpleNamespace(metric=FD, effects=[effect])])
    assert verdicts.badges(result, "a", sure, timed) == ["not at equal time"]  # type: ignore[arg-type]
    assert verdicts.badges(result, "b", sure, timed) == []  # type: ignore[arg-type]


def test_one_value_far_off_does_not_squeeze_the_others() -> None:
    values = [17.0, 18.0, 17.5, 18.5, 19.0, 17.8, 259.0]
    assert marks.without_outliers(FD, values) == values[:-1]
    assert marks.without_outliers(FD, values[:-1]) == values[:-1]
    assert marks.without_outliers(FD, [5.0] * 6 + [9.0]) == [5.0] * 6 + [9.0], "without a spread nothing is far"
    spread = np.geomspace(1, 100, 20).tolist()
    assert marks.without_outliers(FD, spread) == spread


def test_weights_stand_by_what_they_matter() -> None:
    from types import SimpleNamespace

    weights = [SimpleNamespace(name=name) for name in "abc"]
    found: object = SimpleNamespace(
        search=SimpleNamespace(parameters=weights),
        importances={"fd_emoji": {"fANOVA": {"a": 0.1, "b": 0.2}, "PED-ANOVA": {"c": 0.9}}},
    )
    assert [each.name for each in weight_figures.ranked(found, FD)] == ["c", "b", "a"]  # type: ignore[arg-type]


@pytest.mark.parametrize("panels", range(1, 25))
def test_no_panel_is_left_alone_in_the_last_row(panels: int) -> None:
    columns = columns_for(panels)
    assert columns <= 4 and (panels <= 3 or panels % columns != 1 or panels % 12 == 1)


@pytest.mark.parametrize("preset", presets.names())
@pytest.mark.parametrize("name", ["coco.yaml", "my study.yaml", "deep/er.yaml"])
def test_a_new_study_names_itself_in_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    presets.write(preset, Path(name))
    text = Path(name).read_text(encoding="utf-8")
    head = [line for line in text.splitlines() if line.startswith("#   harness")]
    assert head and all(line.count(Path(name).name) == line.count("harness ") for line in head)
    assert preset != "quick" or load_study(Path(name)).name


def test_files_and_other_reports_are_links_of_the_page_alone(tmp_path: Path) -> None:
    from harness.report.document.html import html
    from harness.report.document.markdown import markdown
    from harness.report.write import build
    from reported import material_of, records_of, study_of

    study = study_of(tmp_path)
    for name in (f"{study.label}.tune-full", f"{study.label}.odd #1 'x'", "another", f"{study.label}er"):
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / "report.html").touch()
    document = build(material_of(study, records_of(study)))
    page = html(document, tmp_path)
    assert 'href="runs.csv"' in page and f'href="../{study.label}.tune-full/report.html"' in page
    assert "odd%20%231%20%27x%27/report.html" in page
    assert "../another" not in page and f"../{study.label}er" not in page
    assert "](runs.csv)" not in markdown(document) and "runs.csv" in markdown(document)
