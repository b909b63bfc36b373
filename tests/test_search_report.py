"""The report of a search: its numbers, what it draws, hostile names, and the same bytes for the same findings."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from conftest import draw_svg_alone
from figured import HOSTILE, texts, watched
from harness.metrics.names import MEASURES
from harness.report.data_files import csv_text
from harness.report.document.model import Table, plain, tables
from harness.report.figures import style
from harness.report.search import sections
from harness.report.search import write as search_write
from harness.report.search.figures import objectives, weights
from harness.report.search.write import build, drawings, print_search, write_search
from harness.report.write import draw
from harness.tuning.findings import Findings
from search_findings import D_ITD, GAMMA, ITC, ITD, TAU, better, findings_of, four, search_of, trial
from test_report_text import Page

SHARES = {ITC: 0.6, ITD: 0.3, TAU: 0.1, D_ITD: 0.0, GAMMA: 0.0}
IMPORTANCES = {"fd_emoji": {"fANOVA": SHARES, "PED-ANOVA": {ITC: 0.5, TAU: 0.5}}}


def several(folder: Path) -> Findings:
    """Two objectives: trials 1 and 2 are the front, 0 and 3 are beaten by them in both."""
    search = search_of(folder, objective=("fd", "clip_score"))
    pairs = [(5.0, 60.0), (4.0, 61.0), (4.5, 64.0), (5.5, 59.0)]
    rows = [
        trial(search, place, {"fd_emoji": fd, "clip_score": score}, 1 + 0.3 * place)
        for place, (fd, score) in enumerate(pairs)
    ]
    return findings_of(search, rows, best=2, front=(rows[1], rows[2]))


def column(table: Table, title: str) -> list[str]:
    place = [each.title for each in table.columns].index(title)
    return [plain(row.cells[place].text) for row in table.rows]


class TestTables:
    def test_weights(self, tmp_path):
        table = sections.weights_table(replace(four(tmp_path), importances=IMPORTANCES))
        assert column(table, "weight") == ["itd", "itc", "D itd", "tau", "r1_gamma"]
        assert column(table, "written") == ["5", "10", "5", "0.5", "10"]
        assert column(table, "best") == ["10", "20", "10", "1", "20"]
        assert column(table, "factor") == ["× 2"] * 5
        assert column(table, "range")[:2] == ["1.25 to 20", "2.5 to 40"]
        assert column(table, "fANOVA") == ["30 %", "60 %", "0 %", "10 %", "0 %"]
        assert column(table, "PED-ANOVA") == ["–", "50 %", "–", "50 %", "–"]

    def test_weights_before_anything_is_done(self, tmp_path):
        table = sections.weights_table(findings_of(search_of(tmp_path), []))
        assert column(table, "best") == column(table, "factor") == ["–"] * 5
        assert not any("ANOVA" in each.title for each in table.columns)

    @pytest.mark.parametrize(("done", "doubted"), [(29, True), (30, False)])
    def test_importances_are_indicative_below_thirty_trials_that_are_done(self, tmp_path, done, doubted):
        search = search_of(tmp_path, trials=40)
        rows = [trial(search, place, {"fd_emoji": 5.0}) for place in range(done)] + [trial(search, 30, {})]
        told = sections.on_importances(findings_of(search, rows, 0, importances=IMPORTANCES))
        assert ("Indicative only" in told) == doubted

    def test_trials(self, tmp_path):
        search = search_of(tmp_path, constraints={"clip_score": 1.0})
        rows = [
            trial(search, 0, {"fd_emoji": 5.0, "clip_score": 60.0}, excess={"clip_score": -1.0}),
            trial(search, 1, {"fd_emoji": 3.0, "clip_score": 50.0}, excess={"clip_score": 9.0}),
            trial(search, 2, {"fd_emoji": 4.0, "clip_score": 60.0}, excess={"clip_score": -1.0}),
            trial(search, 3, {}, outcome="running", seconds=7.4),
        ]
        table = sections.trials_table(findings_of(search, rows, best=2))
        assert column(table, "trial") == ["0", "1", "2", "3"]
        assert column(table, "Fréchet distance (emoji)") == ["5.00", "3.00", "4.00", "–"]
        assert column(table, "constraints") == ["met", "violated", "met", "–"]
        assert column(table, "seconds") == ["60", "60", "60", "7"]
        assert column(table, "note") == ["as written", "", "best", ""]

    def test_comparison_has_every_metric_and_the_objective_stands_out(self, tmp_path):
        (table,) = tables(list(sections.comparison(replace(four(tmp_path), comparison=better()))))
        assert column(table, "metric") == ["Fréchet distance (emoji)"]
        assert column(table, "change") == ["−19.9 %"] and column(table, "verdict") == ["better"]
        assert column(table, "written") == ["5.12 ± 0.26"]

    def test_why_as_written_has_two_numbers_is_told_with_both(self, tmp_path):
        found = four(tmp_path)
        _, note = sections.comparison(replace(found, comparison=better()))
        told = plain(note.text)
        first = f"{found.trials[0].measured['fd_emoji']:.2f}"
        assert told.count("Trials are measured on other images and captions than these") == 1
        assert "and under other seeds, so numbers of the two are not to be compared" in told
        assert told.endswith(f"as written Fréchet distance (emoji) is {first} there and 5.12 here.")
        begun = replace(found, trials=found.trials[1:], comparison=better())
        _, note = sections.comparison(begun)
        assert "other images" not in plain(note.text)

    def test_no_comparison_no_section(self, tmp_path):
        assert "comparison" not in [each.anchor for each in build(four(tmp_path), {}).sections]


class TestFiles:
    def test_csv_has_the_weights_of_every_trial(self, tmp_path):
        rows = list(csv.DictReader(io.StringIO(csv_text(*search_write.trials(four(tmp_path))))))
        assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
        assert [float(row[ITC]) for row in rows] == [10.0, 20.0, 5.0, 30.0]
        assert rows[1]["fd_emoji"] == "4.0" and rows[2]["fd_emoji"] == ""

    def test_json_tells_no_password(self, tmp_path):
        found = four(tmp_path, storage="postgresql://me:secret@host/db")
        told = json.dumps(search_write.search_json(found))
        assert "secret" not in told
        assert "secret" not in write_search(found, tmp_path / "out").read_text(encoding="utf-8")

    def test_json_has_the_comparison(self, tmp_path):
        told = search_write.search_json(replace(four(tmp_path), comparison=better()))
        assert told["best"] == 1 and told["tune"]["pruner"] == "halving"
        assert told["comparison"]["metrics"]["fd_emoji"]["effects"][0]["verdict"] == "better"

    def test_summary(self, tmp_path):
        numbers, frames = search_write.for_tracker(replace(four(tmp_path), comparison=better()))
        assert numbers["first/fd_emoji"] == 5.0 and numbers["best/fd_emoji"] == 4.0 and numbers["best/trial"] == 1.0
        assert numbers["comparison/tuned/fd_emoji/difference"] == pytest.approx(-19.9, abs=0.05)
        table = frames["trials"]
        assert [dict(zip(table["columns"], row, strict=True))[TAU] for row in table["data"]] == [0.5, 1.0, 0.25, 1.5]

    def test_summary_of_nothing(self, tmp_path):
        numbers, frames = search_write.for_tracker(findings_of(search_of(tmp_path), []))
        assert numbers == {"trials": 0.0, "trials_with_outcome": 0.0} and frames["trials"]["data"] == []

    def test_weights_found_are_settings_of_a_study_file(self, tmp_path):
        told = yaml.safe_load(sections.as_yaml(four(tmp_path)))
        assert told["loss"]["weights"] == {"generator": {"itd": 10.0, "itc": 20.0}, "discriminator": {"itd": 10.0}}
        assert told["loss"]["tau"] == 1.0 and told["train"] == {"r1_gamma": 20.0}


class TestFigures:
    def kinds(self, found: Findings, folder: Path) -> dict[str, list[str]]:
        return {kind: [each.stem for each in made] for kind, made in draw(drawings(found), folder).items()}

    def test_of_one_objective(self, tmp_path):
        found = replace(four(tmp_path), importances=IMPORTANCES)
        made = self.kinds(found, tmp_path)
        assert made == {
            "history": ["history"],
            "importances": ["importances"],
            "parallel": ["parallel-fd-emoji"],
            "slices": ["slices-fd-emoji"],
        }
        endings = {path.name for path in tmp_path.iterdir()}
        assert endings == {f"{stems[0]}.{end}" for stems in made.values() for end in ("svg", "pdf", "png")}

    def test_of_several(self, tmp_path):
        made = self.kinds(several(tmp_path), tmp_path)
        assert made["front"] == ["front"] and made["slices"] == ["slices-fd-emoji", "slices-clip-score"]

    def test_nothing_is_drawn_of_one_trial(self, tmp_path):
        search = search_of(tmp_path)
        assert self.kinds(findings_of(search, [trial(search, 0, {"fd_emoji": 5.0})], 0), tmp_path / "none") == {}
        assert list((tmp_path / "none").iterdir()) == []

    def test_best_so_far_leaves_out_what_breaks_a_constraint(self, tmp_path):
        search = search_of(tmp_path)
        metric = search.objectives[0]
        values = [(5.0, 0.0), (3.0, 1.0), (4.0, 0.0), (6.0, 0.0)]
        rows = [trial(search, n, {"fd_emoji": v}, excess={"x": e}) for n, (v, e) in enumerate(values)]
        assert objectives.best_so_far(metric, rows) == ([0, 2, 3], [5.0, 4.0, 4.0])
        assert objectives.best_so_far(replace(metric, better="higher"), rows) == ([0, 2, 3], [5.0, 5.0, 6.0])

    def test_trials_given_up_are_marked_in_the_history(self, tmp_path):
        assert objectives.draw_history(four(tmp_path), tmp_path / "history")
        told = texts(tmp_path / "history.svg")
        assert {"pruned", "diverged", "best so far", "best"} <= set(told) and "violates a constraint" not in told

    def test_rows_of_parallel_coordinates_are_logarithmic(self, tmp_path):
        found = four(tmp_path)
        assert weights.positions(found, found.trials[0]) == pytest.approx([0.5] * 5)
        assert weights.positions(found, found.trials[1]) == pytest.approx([0.75] * 5)

    @pytest.mark.parametrize("far", [{"fd_emoji": 259.0}, {"clip_score": 2.0}, {"fd_emoji": 259.0, "clip_score": 2.0}])
    def test_a_value_far_off_stands_at_the_edge_with_its_number(self, tmp_path, monkeypatch, far):
        search = search_of(tmp_path, objective=("fd", "clip_score"))
        values = [{"fd_emoji": 16 + 0.4 * n, "clip_score": 55 + 0.9 * n} for n in range(9)]
        rows = [trial(search, n, {**v, **(far if n == 4 else {})}, 1 + 0.1 * n) for n, v in enumerate(values)]
        found = findings_of(search, rows, best=0, front=(rows[0], rows[4]))
        with watched(monkeypatch) as figures:
            assert objectives.draw_front(found, tmp_path / "front")
            assert weights.draw_parallel(found, search.objectives[0], tmp_path / "fd")
            assert weights.draw_parallel(found, search.objectives[1], tmp_path / "score")
        axis = figures[0].axes[0]
        assert axis.get_xlim()[1] < 25 and axis.get_ylim()[0] > 50
        told = texts(tmp_path / "front.svg")
        assert ", ".join(f"{value:.3g}" for value in far.values()) in told and "4" in told
        arrows = {line.get_marker() for line in axis.lines} & set("<>^v")
        assert arrows == ({"v"} if "clip_score" in far else {">"})
        ends = [(figures[1], "→ 259", "fd_emoji"), (figures[2], "← 2.0", "clip_score")]
        for drawn, end, name in ends:
            said = [text.get_text() for text in drawn.axes[0].texts]
            assert any(text.endswith(end) for text in said) == (name in far)
            assert any("An arrow" in text.get_text() for text in drawn.texts) == (name in far)

    def test_places_within_a_row_leave_room_for_the_near_ones(self, tmp_path):
        metric = search_of(tmp_path).objectives[0]
        shares = weights.places(metric, [16.0, 17.0, 18.0, 17.5, 16.5, 259.0])
        assert shares[0] == 0 and shares[2] == 1 and 1 < shares[5] < 1.05 and 0.4 < shares[1] < 0.6
        assert weights.places(metric, [5.0, 5.0]).tolist() == [0, 0]

    def test_values_that_no_axis_has_are_left_out(self, tmp_path):
        search = search_of(tmp_path)
        rows = [trial(search, n, {"fd_emoji": v}) for n, v in enumerate([5.0, float("inf"), 0.0, 4.0])]
        assert draw(drawings(findings_of(search, rows, 3)), tmp_path)["history"]

    def test_equal_values_can_be_drawn(self, tmp_path):
        search = search_of(tmp_path, objective=("fd", "kid"))
        rows = [trial(search, n, {"fd_emoji": 5.0, "kid_emoji": 0.0}) for n in range(3)]
        assert len(draw(drawings(findings_of(search, rows, 0, front=tuple(rows))), tmp_path)) == 4

    @pytest.mark.parametrize("many", [False, True])
    def test_every_text_lies_within_the_figure(self, tmp_path, monkeypatch, many):
        found = several(tmp_path) if many else four(tmp_path, constraints={"clip_score": 1.0})
        found = replace(found, importances={name: shares for name, shares in IMPORTANCES.items()})
        with watched(monkeypatch) as figures:
            draw(drawings(found), tmp_path)
        assert len(figures) >= 4
        for figure in figures:
            box = figure.get_tightbbox()
            width, height = figure.get_size_inches()
            assert width == style.WIDTH
            assert box.x0 >= -0.02 and box.y0 >= -0.02 and box.x1 <= width + 0.02 and box.y1 <= height + 0.02


@pytest.fixture(scope="module")
def tags_of_plain_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The tags of the page that the tests of hostile names write again under other names."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        draw_svg_alone(patch)
        written = write_search(replace(several(folder), importances=IMPORTANCES), folder / "report")
    return Page((written.parent / "report.html").read_text(encoding="utf-8")).tags


class TestReport:
    def test_same_findings_same_bytes(self, tmp_path):
        found = replace(four(tmp_path), importances=IMPORTANCES, comparison=better())
        for earlier in ("tables/gains.tex", "figures/front.svg"):
            (tmp_path / "other" / earlier).parent.mkdir(parents=True)
            (tmp_path / "other" / earlier).write_text("of an earlier report")
        (tmp_path / "other" / "report.md").write_text("[gains](tables/gains.tex) ![front](figures/front.png)")
        one, other = (write_search(found, tmp_path / name).parent for name in ("one", "other"))
        names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
        assert {"report.md", "report.html", "trials.csv", "search.json", "tables.tex", "tables/weights.tex"} <= set(
            names
        )
        assert names == sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file())
        assert [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()] == []
        assert (one / "report.md").read_text(encoding="utf-8").count("In this folder") == 1

    def test_order_of_sections(self, tmp_path):
        found = replace(four(tmp_path), comparison=better())
        document = build(found, draw(drawings(found), tmp_path))
        assert [each.anchor for each in document.sections] == [
            "weights", "comparison", "search", "trials", "words", "method", "files",
        ]  # fmt: skip

    def test_nothing_begun(self, tmp_path):
        told = write_search(findings_of(search_of(tmp_path), []), tmp_path / "out").read_text(encoding="utf-8")
        assert "No trial has started." in told and "figures/" not in told

    def test_method(self, tmp_path):
        found = four(tmp_path, sampler="gp", seeds=2, confirm=3)
        told = write_search(found, tmp_path / "out").read_text(encoding="utf-8")
        assert "GP (a Gaussian process)" in told and "successive halving" in told
        assert "seeds of a trial: 10000 and 10001" in told and "20000 to 20002" in told
        assert "`optuna-dashboard runs/emoji-quick.tune-full/optuna.log`" in told
        assert f"`emoji-quick.tune-full-{found.search.identity}`" in told
        assert "```yaml\n" in told

    @pytest.mark.parametrize("text", [*HOSTILE[:-2], "`a`|b", "$(rm -rf x); 'q'"])
    def test_hostile_names(self, tmp_path, text, tags_of_plain_names):
        found = replace(several(tmp_path), importances=IMPORTANCES)
        objective = replace(found.search.objectives[0], title=text)
        cell = replace(found.search.cell, name=text, toggles=(text,))
        search = replace(found.search, cell=cell, objectives=(objective, found.search.objectives[1]))
        folder = write_search(replace(found, search=search), tmp_path / "hostile").parent
        assert Page((folder / "report.html").read_text(encoding="utf-8")).tags == tags_of_plain_names
        assert "<script" not in (folder / "report.md").read_text(encoding="utf-8")
        for path in (folder / "figures").glob("*.svg"):
            assert "<script" not in path.read_text(encoding="utf-8")
        assert yaml.safe_load(sections.as_yaml(replace(found, search=search))) == yaml.safe_load(
            sections.as_yaml(found)
        )


class TestTerminal:
    def printed(self, found: Findings) -> str:
        console = Console(width=80, file=io.StringIO(), force_terminal=False)
        print_search(found, console)
        return console.file.getvalue()  # type: ignore[attr-defined]

    def test_the_answer_and_the_weights_in_80_columns(self, tmp_path):
        told = self.printed(replace(four(tmp_path), importances=IMPORTANCES, comparison=better()))
        assert "The gain holds." in told and "× 2" in told and "fANOVA" in told
        assert max(map(len, told.splitlines())) <= 80 and "…" not in told

    def test_several_objectives(self, tmp_path):
        told = self.printed(replace(several(tmp_path), importances=IMPORTANCES))
        assert "Pareto front" in told and "1.25 to 20" in told and "ANOVA" not in told

    def test_markup_is_no_markup(self, tmp_path):
        found = four(tmp_path)
        cell = replace(found.search.cell, name="[red]x[/red]\x1b[31m")
        assert "[red]x[/red]\ufffd[31m" in self.printed(replace(found, search=replace(found.search, cell=cell)))


def test_every_metric_can_be_an_objective(tmp_path):
    for name in MEASURES:
        assert list(sections.weights(findings_of(search_of(tmp_path, objective=name), [])))
