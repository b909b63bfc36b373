"""The report as a whole: what it says, that it says it again the same, and that every number is a value of the runs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from scipy import stats

from harness.analysis.from_records import analyse_records
from harness.files import write_json
from harness.report.document.model import Table, plain, tables
from harness.report.inputs import ReportInputs, collect
from harness.report.write import build, write_report
from harness.runs.record import RunRecord
from reported import material_of, records_of, study_of, unfinished
from synthetic import draw_samples, grid, study_like

TOGGLES = ("img_img_loss", "transform_w", "paired_contrast", "mix_logits")
STEMS = {"effects", "interactions", "curves-fd-emoji", "curves-clip-score", "tradeoff", "samples"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def material(home: Path) -> ReportInputs:
    """Both ends of four toggles under three seeds; one run diverged, one failed, one was never started."""
    study = study_of(home, TOGGLES)
    study.root.mkdir(parents=True)
    sanity = {
        "ceiling": {"fd_emoji": 1.25, "clip_score": 88.0, "n": 395.0},
        "floor": {"clip_score": 12.0, "n": 395.0},
        "untrained": {"fd_emoji": 61.5, "clip_score": 9.0},
    }
    provenance = {"code": {"commit": "abc1234", "dirty": True}, "command": "harness run-grid ablations.yaml"}
    write_json(study.root / "grid.json", {"sanity": sanity, "provenance": provenance})
    records = records_of(study)
    samples = draw_samples(home / "run", ["a red apple", "two pears"], seed=0)
    records[4] = unfinished(records[4], "diverged", "Diverged: loss/g is not finite")
    records[7] = unfinished(records[7], "failed", "Traceback\nValueError: no space left")
    records[29] = unfinished(records[29], "pending")
    return material_of(study, [replace(records[0], folder=samples), *records[1:]])


@pytest.fixture(scope="module")
def written(home: Path, material: ReportInputs) -> Path:
    return write_report(material, home / "report").parent


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table_of(material: ReportInputs, name: str) -> Table:
    return next(table for table in tables(build(material).sections) if table.name == name)


def column(table: Table, title: str) -> list[str]:
    place = [each.title for each in table.columns].index(title)
    return [plain(row.cells[place].text) for row in table.rows]


def test_the_same_records_give_the_same_bytes_whatever_report_was_there(home, material, written, tmp_path):
    for name in ("trends.csv", "tables/states.tex", "figures/half-normal-fd.svg", "figures/mine.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("of an earlier report")
    (tmp_path / "tables.tex").write_text(r"\input{tables/states.tex}")
    (tmp_path / "report.md").write_text("![Half-normal plot](figures/half-normal-fd.png)")
    write_report(material, tmp_path)
    (tmp_path / "figures" / "mine.png").unlink()  # no report named it, so it is the user's
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) for folder in (written, tmp_path)]
    assert names[0] == names[1]
    assert {f"figures/{stem}.{kind}" for stem in STEMS for kind in ("svg", "pdf", "png")} <= set(names[0])
    for name in names[0]:
        assert (written / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_the_size_of_a_point_is_seconds_per_thousand_images(material: ReportInputs, written: Path) -> None:
    svg = (written / "figures" / "tradeoff.svg").read_text(encoding="utf-8")
    dearest = max(cost.means["s_per_kimg"] for cost in material.costs)
    assert f"<!-- {dearest:.3g} -->" in svg


class TestWhatItSays:
    def test_the_answer_comes_first_in_sentences(self, written):
        text = (written / "report.md").read_text()
        first = text.partition("\n## Effects\n")[0]
        assert "10 cells under 3 seeds; 30 runs: 27 done, 1 pending, 1 diverged, 1 failed." in first
        assert "- **Better**: transform_w lowers it by 1" in first
        assert "- **Diverged**: img_img_loss (diverged runs: 1 with it, 0 without)." in first
        assert "paired_contrast gains more with the other ideas on than alone: +" in first
        assert "img_img_loss seed 1 diverged" in first
        assert "biased upward (N=2048, fewer than 5000 images)" in first

    def test_runs_that_gave_no_number_are_named_with_their_reason(self, written):
        told = section((written / "report.md").read_text(), "Runs")
        assert "): **diverged** at step 500 of 1000: Diverged: loss/g is not finite" in told
        assert "): **failed** at step 500 of 1000: ValueError: no space left" in told
        assert "): **pending**" in told
        page = (written / "report.html").read_text()
        assert "ValueError: no space left" in page and "1 of 3" in page

    def test_scale_and_provenance_are_those_of_the_grid(self, written):
        text = (written / "report.md").read_text()
        assert all(shown in section(text, "Scale") for shown in ("61.5", "88.0", "untrained generator"))
        origin = section(text, "Where it came from")
        assert "- code:\n  - commit: `abc1234`\n  - dirty: `True`\n- command: `harness run-grid" in origin
        assert '"loss.tau": 0.25' in origin

    def test_before_any_run_is_finished(self, tmp_path):
        study = study_of(tmp_path, TOGGLES)
        records = [unfinished(record, "pending") for record in records_of(study)]
        text = write_report(material_of(study, records), tmp_path / "report").read_text()
        assert "30 pending" in text and "nothing to compare yet" in text

    def test_one_seed_gives_no_verdict(self, tmp_path):
        study = study_of(tmp_path, TOGGLES, seeds=1)
        text = write_report(material_of(study, records_of(study)), tmp_path / "report").read_text()
        first = text.partition("\n## Effects\n")[0]
        assert "One seed gives no verdict" in first and "**Insufficient seeds**" in first
        assert "**Better" not in first and "**Worse" not in first

    def test_the_baseline_alone_is_a_report_too(self, tmp_path):
        records = study_like({"origin": 1.0})
        material = collect(study_of(tmp_path), records, analyse_records(records, "origin", ()))
        assert write_report(material, tmp_path / "report").exists()

    def test_when_training_has_seen_every_judge_the_report_says_so(self, tmp_path):
        records = grid({"origin": {0: 5.0, 1: 5.5}, "variant": {0: 2.0, 1: 2.1}}, "fd_emoji_seen")
        material = collect(study_of(tmp_path), records, analyse_records(records, "origin", ()))
        assert "no metric is left for verdicts" in write_report(material, tmp_path / "report").read_text()


class TestNumbers:
    """Every number of a table is traced to the values of the runs by another way than the analysis took."""

    def values(self, records: tuple[RunRecord, ...], metric: str) -> dict[str, dict[int, float]]:
        found: dict[str, dict[int, float]] = {record.run.cell: {} for record in records}
        for record in records:
            if record.result:
                found[record.run.cell][record.run.seed] = record.result.metrics[metric]
        return found

    def fitted(self, runs: dict[str, dict[int, float]], scaled: Callable[[float], float]) -> dict[str, float]:
        """Each cell's level by least squares of `value ~ seed + cell`, as runs of some seeds are missing."""
        points = [(seed, cell, scaled(value)) for cell, found in runs.items() for seed, value in found.items()]
        cells, seeds = list(runs), sorted({seed for seed, _, _ in points})
        model = np.array([[seed == s for s in seeds] + [cell == c for c in cells] for seed, cell, _ in points], float)
        solution = np.linalg.lstsq(model, np.array([value for *_, value in points]), rcond=None)[0]
        return dict(zip(cells, solution[len(seeds) :].tolist(), strict=True))

    def test_cells(self, material):
        for metric, logs, suffix, decimals in (("fd_emoji", True, " %", 1), ("clip_score", False, "", 2)):
            runs = self.values(material.records, metric)
            levels = self.fitted(runs, math.log if logs else float)
            table = table_of(material, f"cells-{metric.replace('_', '-')}")
            assert column(table, "cell") == list(runs)
            for place, cell in enumerate(runs):
                values = list(runs[cell].values())
                assert column(table, "mean ± sd")[place] == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
                assert column(table, "n")[place] == str(len(values))
                if cell == "origin":
                    continue
                change = levels[cell] - levels["origin"]
                shown = 100 * math.expm1(change) if logs else change
                assert column(table, "change")[place] == f"{shown:+.{decimals}f}{suffix}".replace("-", "−")
                pairs = [(runs[cell][seed], runs["origin"][seed]) for seed in runs[cell] if seed in runs["origin"]]
                better = sum(a < b if logs else a > b for a, b in pairs)
                assert column(table, "seeds improved")[place] == f"{better} of {len(pairs)}"

    def test_effects_and_what_their_own_seeds_say(self, material):
        runs = self.values(material.records, "clip_score")
        levels = self.fitted(runs, float)
        table = table_of(material, "effects-clip-score")
        for place, toggle in enumerate(TOGGLES):
            edges = [(toggle, "origin"), ("full", f"full-minus-{toggle}")]
            effect = np.mean([levels[on] - levels[off] for on, off in edges])
            assert column(table, "effect")[place] == f"{effect:+.2f}".replace("-", "−")
            seeds = [seed for seed in range(3) if all(seed in runs[cell] for edge in edges for cell in edge)]
            by_seed = [np.mean([runs[on][seed] - runs[off][seed] for on, off in edges]) for seed in seeds]
            ends = stats.ttest_1samp(by_seed, 0).confidence_interval()
            own = column(table, "own interval")[place]
            assert own == f"{ends.low:+.2f} to {ends.high:+.2f}".replace("-", "−")

    def test_every_finished_run_stands_in_the_table_of_runs(self, material):
        table = table_of(material, "runs")
        assert column(table, "run") == [record.run.id for record in material.records]
        for place, record in enumerate(material.records):
            told = column(table, "Fréchet distance (emoji)")[place]
            assert told == (f"{record.result.metrics['fd_emoji']:.1f}" if record.result else "–")

    def test_sort_keys_are_the_unrounded_values(self, material):
        table = table_of(material, "cells-fd-emoji")
        keys = [row.cells[1].key for row in table.rows]
        assert keys == [cell.mean for cell in material.analysis.of("fd_emoji").cells]

    def test_each_cell_leads_to_its_runs(self, written, material):
        class Anchors(HTMLParser):
            def __init__(self) -> None:
                super().__init__()
                self.ids: list[str] = []
                self.links: list[str] = []

            def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
                for name, value in attrs:
                    (self.ids if name == "id" else self.links if name == "href" else []).append(value or "")

        page = Anchors()
        page.feed((written / "report.html").read_text())
        assert len(page.ids) == len(set(page.ids))
        assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
        assert {f"run-{place}" for place in range(1, 31)} <= set(page.ids)
        cells = table_of(material, "cells-fd-emoji")
        link = cells.rows[1].cells[-1].text[3]
        run = material.records[int(link.anchor.removeprefix("run-")) - 1].run
        assert (run.cell, str(run.seed)) == (column(cells, "cell")[1], link.text)


class TestFiles:
    def rows(self, path: Path) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(path.read_text())))

    def test_runs_hold_every_run_with_its_toggles_as_columns(self, written, material):
        rows = self.rows(written / "runs.csv")
        assert [row["run"] for row in rows] == [record.run.id for record in material.records]
        for row, record in zip(rows, material.records, strict=True):
            assert tuple(name for name in TOGGLES if row[name] == "1") == record.run.toggles
            assert float(row["fd_emoji"]) == record.result.metrics["fd_emoji"] if record.result else not row["fd_emoji"]
        assert {row["state"] for row in rows} == {"done", "failed", "diverged", "pending"}
        assert {row["manifest"] for row in rows if row["state"] == "done"} == {"ab" * 8}
        assert float(rows[0]["cost_s_per_kimg"]) == 12.5

    def test_runs_read_back_give_the_same_analysis(self, written, material):
        from harness.analysis.analyse import analyse
        from harness.analysis.csv_columns import CsvColumns
        from harness.analysis.from_csv import read_csv

        table, _ = read_csv(written / "runs.csv", CsvColumns())
        again = analyse(table, "origin", {"fd_emoji": 5.0, "clip_score": 1.0})
        for metric in ("fd_emoji", "clip_score"):
            found, wanted = again.of(metric), material.analysis.of(metric)
            assert [e.estimate for e in found.effects] == [e.estimate for e in wanted.effects]
            assert [c.states for c in found.cells] == [c.states for c in wanted.cells]

    def test_the_other_files_hold_the_analysis_in_full(self, written, material):
        document = json.loads((written / "analysis.json").read_text())
        for result in material.analysis.metrics:
            effects = [row for row in self.rows(written / "effects.csv") if row["metric"] == result.metric.name]
            assert [float(row["value"]) for row in effects] == [e.estimate.value for e in result.effects]
            assert [float(row["p_holm"]) for row in effects] == [e.estimate.p_holm for e in result.effects]
            cells = [row for row in self.rows(written / "cells.csv") if row["metric"] == result.metric.name]
            assert [row["cell"] for row in cells] == [cell.cell for cell in result.cells]
            assert float(cells[0]["mean"]) == result.cells[0].mean and cells[0]["verdict"] == "baseline"
            found = [row for row in self.rows(written / "interactions.csv") if row["metric"] == result.metric.name]
            assert [float(row["value"]) for row in found] == [i.estimate.value for i in result.interactions]
            told = [effect["effect"] for effect in document["metrics"][result.metric.name]["effects"]]
            assert told == [e.estimate.value for e in result.effects]

    def test_every_table_stands_in_latex_with_letters_for_all_signs(self, written, material):
        document = build(material)
        names = [table.name for table in tables((*document.answer, *document.sections))]
        assert len(set(names)) == len(names)
        assert {path.stem for path in (written / "tables").iterdir()} == {*names, "paper"}
        assert not [path for path in (written / "tables").iterdir() if "U+" in path.read_text()]
        assert all(rf"\input{{tables/{name}.tex}}" in (written / "tables.tex").read_text() for name in names)

    def test_every_picture_of_the_markdown_is_there_and_nothing_else_is_linked(self, written):
        tokens = list(inline((written / "report.md").read_text()))
        images = [str(token.attrs["src"]) for token in tokens if token.type == "image"]
        assert {Path(image).stem for image in images} == STEMS
        assert all((written / image).is_file() for image in images)
        assert not [token for token in tokens if token.type in ("link_open", "html_inline")]


def inline(markdown: str) -> Iterator:
    for block in MarkdownIt("commonmark").enable("table").parse(markdown):
        yield from block.children or ()


def test_long_tables_are_folded_and_cut_where_a_page_could_not_hold_them(tmp_path):
    study = study_of(tmp_path, ("one", "two", "three", "four", "five"), kind="full", seeds=8)
    folder = write_report(material_of(study, records_of(study)), tmp_path / "report").parent
    text, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert "And 56 more rows in the CSV files." in text
    assert "<summary>32 cells on Fréchet distance (emoji)</summary>" in page
    assert page.count('id="run-') == 256
    assert r"and 216 more rows in the CSV files" in (folder / "tables" / "runs.tex").read_text()
