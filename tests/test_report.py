"""The report as a whole: what it says, that it says it again the same, and that the user's text never acts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

from harness.comparison import sheet, wording
from harness.comparison.analysis import compare
from harness.comparison.markup import code, csv_text, md, table
from harness.comparison.report import print_comparison, write_report
from harness.design.kinds import DesignConfig
from harness.errors import HarnessError
from harness.metrics.definitions import METRICS
from harness.records import RunRecord, write_json
from harness.study.definition import Resources, Study, StudyToggle, Tracking
from harness.study.settings import Settings
from synthetic import draw_samples, grid, record, study_like

HOSTILE = [
    '=HYPERLINK("http://x.example","a")',
    "![x](http://x.example/p.png) [y](javascript:alert(1))",
    "<script>alert(1)</script> & <img src=x>",
    "a | b | c\n| d",
    "# heading\n- item\n1. one",
    "**bold** _em_ `code` ~~gone~~ \\ $x^2$",
    "+1 and @someone -2",
    "snake_case_name",
]


def make_study(folder: Path) -> Study:
    return Study(
        name="emoji-quick",
        path=folder / "ablations.yaml",
        profile="quick",
        settings=Settings(),
        toggles=(StudyToggle("img_img_loss"), StudyToggle("cosine", {"loss.similarity": "cosine"})),
        design=DesignConfig(seeds=(0, 1, 2)),
        baseline="origin",
        resources=Resources(),
        tracking=Tracking(),
    )


def make_records(folder: Path) -> list[RunRecord]:
    """Four cells under three seeds: one run diverged, one failed, one cell was never started."""
    found = study_like({"origin": 1.0, "paired_contrast": 0.5, "mix_logits": 1.5})
    samples = draw_samples(folder / "run", HOSTILE, seed=0)
    for place, changed in ((4, "diverged"), (7, "failed")):
        status = replace(
            found[place].status, state=changed, step=400, error="Traceback\nValueError: |bad| <b>value</b>"
        )
        found[place] = replace(found[place], result=None, status=status, points=found[place].points[:2])
    return [replace(found[0], folder=samples), *found[1:], record("full", 0, None)]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def records(home: Path) -> list[RunRecord]:
    return make_records(home)


@pytest.fixture(scope="module")
def written(home: Path, records: list[RunRecord]) -> Path:
    """The folder of the report of `records`."""
    study = make_study(home)
    write_grid(study)
    return write_report(study, records, study.reports).parent


def write_grid(study: Study) -> None:
    study.root.mkdir(parents=True)
    sanity = {
        "ceiling": {"fd_emoji": 1.25, "clip_score": 88.0, "n": 395.0},
        "floor": {"clip_score": 12.0, "n": 395.0},
        "untrained": {"fd_emoji": 61.5, "clip_score": 9.0},
    }
    provenance = {
        "commit": "abc1234 (dirty)",
        "commands": ["harness run-grid ablations.yaml"],
        "data": "Twemoji, CC-BY",
    }
    write_json(study.root / "grid.json", {"sanity": sanity, "provenance": provenance})


def plain(markdown: str) -> str:
    """The text that a reader sees. Fails on links, images and HTML."""
    seen = []
    for block in MarkdownIt("commonmark").enable("table").parse(markdown):
        assert block.type != "html_block"
        for token in block.children or ():
            assert token.type in ("text", "text_special", "code_inline"), token
            seen.append(token.content)
    return "".join(seen)


class TestReport:
    def test_says_who_won_what_is_missing_and_how_sure_it_is(self, written):
        text = (written / "report.md").read_text(encoding="utf-8")
        first = text.partition("## Comparison")[0]
        assert "4 cells under 3 seeds, 10 runs: 7 done, 1 pending, 1 diverged, 1 failed." in first
        assert "- **Diverged:** paired_contrast −" in first
        assert "mix_logits +" in first
        assert "wide because df = 1" in first
        assert "full (no finished pair of runs)" in first
        assert "paired_contrast, seed 1" in text
        assert "**failed** at step 400 of 1000: ValueError: \\|bad\\| &lt;b&gt;value&lt;/b&gt;" in text
        for shown in ("61.5", "88.0", "untrained generator", "abc1234 (dirty)", "`harness run-grid ablations.yaml`"):
            assert shown in text
        assert "abababababababab" in text
        assert '"similarity": "cosine"' not in text
        assert '"loss.similarity": "cosine"' in text

    def test_same_records_same_bytes(self, home, records, written, tmp_path):
        write_report(make_study(home), records, tmp_path)
        folders = [written, tmp_path]
        names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) for folder in folders]
        assert names[0] == names[1]
        for stem in ("effects", "curves-fd_emoji", "curves-clip_score", "samples"):
            assert {f"figures/{stem}.png", f"figures/{stem}.svg"} <= set(names[0])
        for name in names[0]:
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name

    def test_every_link_of_the_report_leads_somewhere(self, written):
        tokens = [t for block in MarkdownIt().parse((written / "report.md").read_text()) for t in block.children or ()]
        images = [token.attrs["src"] for token in tokens if token.type == "image"]
        assert len(images) == 4
        assert all((written / image).is_file() for image in images)
        assert not [token for token in tokens if token.type in ("link_open", "html_inline")]

    def test_tables_for_machines_hold_every_run_and_cell(self, records, written):
        runs = list(csv.DictReader(io.StringIO((written / "runs.csv").read_text())))
        assert [(row["cell"], row["state"]) for row in runs] == [
            (record.run.cell, record.status.state) for record in records
        ]
        assert float(runs[0]["fd_emoji"]) == records[0].result.metrics["fd_emoji"]
        rows = list(csv.DictReader(io.StringIO((written / "comparison.csv").read_text())))
        assert {row["cell"] for row in rows} == {"origin", "paired_contrast", "mix_logits", "full"}
        effects = json.loads((written / "effects.json").read_text())["comparison"]["effects"]
        by_name = {(effect["metric"], effect["cell"]): effect for effect in effects}
        for row in rows:
            if row["cell"] != "origin" and row["difference"]:
                assert float(row["difference"]) == by_name[row["metric"], row["cell"]]["difference"]
        assert next(row for row in rows if row["cell"] == "full")["states"] == "1 pending"

    def test_before_any_run_is_finished(self, study):
        records = [record("origin", 0, None), record("variant", 0, None)]
        text = write_report(study, records, study.reports).read_text()
        assert "2 pending" in text
        assert "nothing to compare yet" in text

    def test_one_seed_gives_no_verdict(self, study):
        records = grid({"origin": {0: 5.0}, "variant": {0: 2.0}})
        first = write_report(study, records, study.reports).read_text().partition("## Comparison")[0]
        assert "One seed gives no verdict" in first
        assert "**Better" not in first
        assert "- **Insufficient seeds:** variant −60.0 %" in first

    def test_the_baseline_alone_is_a_report_too(self, study):
        assert write_report(study, study_like({"origin": 1.0}), study.reports).exists()

    def test_mixed_measurements_are_refused(self, study):
        records = grid({"origin": {0: 5.0}, "variant": {0: 2.0}})
        other = replace(records[1].result, cards={"fd_emoji": {"manifest": "other"}})
        with pytest.raises(HarnessError, match="measured differently"):
            write_report(study, [records[0], replace(records[1], result=other)], study.reports)


class TestNotes:
    def test_a_biased_distance_is_marked_and_the_kernel_distance_leads_below_full_rank(self, study):
        values = {"origin": {0: 5.0, 1: 6.0}, "variant": {0: 2.0, 1: 3.0}}
        text = write_report(study, grid(values), study.reports).read_text()
        assert "biased upward (N=2048, fewer than 5000 images)" in text and "rank" not in text
        records = [measured(one, n=1000, d=2048) for one in study_like({"origin": 1.0, "variant": 0.5})]
        text = write_report(study, records, study.reports).read_text()
        first = text.partition("## Comparison")[0]
        assert first.index("**Kernel distance (emoji)**") < first.index("**Fréchet distance (emoji)**")
        assert "rank 999 of 2048, as there are fewer images than features: go by the kernel distance" in first
        assert (study.reports / "figures" / "curves-kid_emoji.svg").exists()
        assert text.count("rank 999 of 2048") == 2, "once before the verdicts and once at the table"

    def test_enough_images_need_no_note(self, study):
        records = [measured(one, n=10_000, n_real=10_000, d=2048) for one in study_like({"origin": 1.0})]
        assert "biased upward (" not in write_report(study, records, study.reports).read_text()

    def test_when_training_has_seen_every_judge_the_report_says_so(self, study):
        records = grid({"origin": {0: 5.0}, "variant": {0: 2.0}}, "fd_emoji_seen")
        prints = {"encoders.clip": "a", "metrics.clip": "a", "data": "d"}
        settings = Settings().as_dict()
        records = [replace(r, run=replace(r.run, settings=settings, fingerprints=prints)) for r in records]
        first = write_report(study, records, study.reports).read_text().partition("## Comparison")[0]
        assert "no metric is left for verdicts" in first
        assert "every cell: metrics.clip has the weights of encoders.clip" in first
        assert "no clip_score is left for them" in first

    def test_a_diagnostic_by_different_networks_is_flagged(self, study):
        records = grid({"origin": {0: 60.0, 1: 61.0}, "variant": {0: 62.0, 1: 64.0}}, "clip_score_seen")
        records[2:] = [measured(one, extractor="x") for one in records[2:]]
        text = write_report(study, records, study.reports).read_text()
        assert "Not measured alike in all cells" in text

    def test_every_run_s_row_names_its_manifest(self, written):
        rows = list(csv.DictReader(io.StringIO((written / "runs.csv").read_text())))
        assert {row["manifest"] for row in rows if row["state"] == "done"} == {"ab" * 8}


def measured(one: RunRecord, **card: object) -> RunRecord:
    """The run with these changes of all its cards."""
    assert one.result is not None
    cards = {name: {**old, **card} for name, old in one.result.cards.items()}
    return replace(one, result=replace(one.result, cards=cards))


class TestHostileText:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_markdown_shows_it_and_nothing_acts(self, text):
        shown = " ".join(text.split())
        assert plain(md(text)) == shown
        assert plain(f"before {md(text)} after") == f"before {shown} after"
        assert plain(table(["cell", "n"], [[md(text), "1"]])) == f"celln{shown}1"

    def test_names_stay_readable_in_the_file(self):
        assert md("paired_contrast") == "paired_contrast"
        assert md("https://example.org/a_b") == "https://example.org/a_b"

    @pytest.mark.parametrize("text", ["plain", "with `ticks`", "``two``"])
    def test_code_spans_hold_ticks(self, text):
        assert plain(code(text)) == text

    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
    def test_csv_holds_no_formula(self, text):
        head, row = csv.reader(io.StringIO(csv_text([text], [[text]])))
        assert head == row == ["'" + text.replace("\r", "\n")]

    def test_csv_numbers_stay_numbers(self):
        rows = list(csv.reader(io.StringIO(csv_text(["a", "b", "c"], [[-1.5, None, 'x, "y"']]))))
        assert rows[1] == ["-1.5", "", 'x, "y"']

    def test_hostile_cells_and_captions_through_the_whole_report(self, study, tmp_path):
        records = grid({"origin": {0: 5.0, 1: 6.0}, HOSTILE[2]: {0: 2.0, 1: 3.0}, HOSTILE[0]: {0: 2.0, 1: 3.0}})
        folder = draw_samples(tmp_path / "run", HOSTILE, seed=0)
        path = write_report(study, [replace(records[0], folder=folder), *records[1:]], study.reports)
        tokens = [t for block in MarkdownIt().parse(path.read_text()) for t in block.children or ()]
        assert not [token for token in tokens if token.type in ("link_open", "html_inline")]
        assert all(token.attrs["src"].startswith("figures/") for token in tokens if token.type == "image")
        for name in ("runs.csv", "comparison.csv"):
            cells = [cell for row in csv.reader(io.StringIO((study.reports / name).read_text())) for cell in row]
            assert not [cell for cell in cells if cell[:1] in "=@+" and cell]
        assert "<script>" not in (study.reports / "figures" / "effects.svg").read_text()


class TestSheet:
    def test_rows_are_cells_and_pixels_stay_sharp(self, tmp_path):
        folder = draw_samples(tmp_path / "run", ["one", "two"], seed=1, side=4)
        tile = sheet._tile(folder / "samples" / "real.png", 1)
        with Image.open(folder / "samples" / "real.png") as grid_image:
            wanted = grid_image.convert("RGB").crop((4, 0, 8, 4))
        assert tile.resize((4, 4), Image.Resampling.NEAREST).tobytes() == wanted.tobytes()
        assert len(tile.getcolors(tile.width * tile.height)) <= 16

    def test_the_newest_samples_of_the_first_seed_and_a_gap_for_none(self, tmp_path):
        records = [record("origin", seed, {"fd_emoji": 1.0}) for seed in (1, 0)] + [record("late", 0, None)]
        folder = draw_samples(tmp_path / "run", ["one"], seed=1, step=500)
        (folder / "samples" / "000001000.png").write_bytes((folder / "samples" / "000000500.png").read_bytes())
        records[1] = replace(records[1], folder=folder)
        origin, late = sheet._cell_rows(records)
        assert (origin.label, origin.note, origin.grid.name) == ("origin", "seed 0", "000001000.png")
        assert (late.label, late.note, late.grid) == ("late", "seed 0, pending", None)

    def test_without_samples_there_is_no_sheet(self, tmp_path):
        assert not sheet.sample_sheet([record("origin", 0, None)], tmp_path / "samples")
        assert not list(tmp_path.iterdir())


def printed(records: Sequence[RunRecord], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_comparison(compare(records, "origin"), console)
    return console.file.getvalue().splitlines()


class TestConsole:
    @pytest.mark.parametrize("width", [80, 120])
    def test_fits_and_says_all(self, records, width):
        lines = printed(records, width)
        assert max(map(len, lines)) <= width
        row = next(line for line in lines if "mix_logits" in line)
        assert "+" in row
        assert row.rstrip().endswith(("no evidence either way", "worse"))
        assert ("mean ± sd" in "".join(lines)) == (width == 120)
        assert "full: 1 pending" in lines
        assert "paired_contrast: 2 done, 1 diverged" in lines

    def test_markup_in_names_is_text(self):
        records = grid({"origin": {0: 5.0, 1: 6.0}, "[red]x[/red]": {0: 2.0, 1: 3.0}})
        assert any("[red]x[/red]" in line for line in printed(records, 100))


class TestWording:
    @pytest.mark.parametrize(
        ("metric", "value", "text"),
        [
            ("fd", -18.24, "−18.2 %"),
            ("fd", 12345.6, "+12346 %"),
            ("clip_score", 1.304, "+1.30"),
            ("r_precision", -0.0001, "0.000"),
            ("kid", -0.000271, "−0.000271"),
            ("kid", 0.0, "0.00"),
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
