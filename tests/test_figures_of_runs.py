"""What the figures of runs show: curves, costs, contrasts and samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from figured import (
    FD,
    SCORE,
    of_records,
    plain,
    result,
    texts,
    watched,
)
from harness.analysis.results import Lenth
from harness.report import wording
from harness.report.figures import curves, half_normal, labels, sheet, style, tradeoff
from harness.runs.record import Point, Status
from synthetic import draw_samples, record, study_like


@pytest.fixture
def plain_study():
    return plain()


@pytest.fixture(scope="module")
def records():
    made = study_like({"origin": 1.0, "a": 0.5, "b": 1.2, "full": 0.6})
    return [replace(made[4], status=Status(state="diverged"), result=None), *made[:4], *made[5:]]


class TestCurves:
    def test_mean_and_spread_are_those_of_logs(self):
        lines = [(np.array([0.0, 1.0]), np.array([8.0, 2.0])), (np.array([0.0, 1.0, 2.0]), np.array([2.0, 8.0, 1.0]))]
        kimg, mean, spread = curves.band(FD, lines)
        assert kimg.tolist() == [0, 1] and np.exp(mean) == pytest.approx([4, 4])
        assert spread == pytest.approx([math.log(4) / math.sqrt(2)] * 2)

    def test_numbers_that_cannot_be_drawn_are_left_out(self):
        points = [Point(i, float(i), 0.0, {"metrics/fd_emoji": v}) for i, v in enumerate([5.0, math.nan, -1.0, 3.0])]
        kimg, values = curves.curve(record("a", 0, None, points=(*points, Point(9, 9.0, 0.0, {"loss": 1.0}))), FD)
        assert kimg.tolist() == [0, 3] and values.tolist() == [5, 3]

    def test_panels_lines_and_the_diverged_run(self, records, tmp_path, monkeypatch):
        found = of_records(records, ("a", "b"))
        with watched(monkeypatch) as figures:
            assert curves.draw(found, records, found.metrics[0], tmp_path / "c")
        titles = [axis.get_title(loc="left").split("\n") for axis in figures[0].axes]
        assert titles[0] == ["a", f"{wording.signed(FD, found.metrics[0].cell('a').estimate.value)} diverged"]
        assert [title[0] for title in titles] == ["a", "b", "full"] and titles[2][1].endswith("% better")
        crosses = [[line for line in axis.lines if line.get_marker() == "x"] for axis in figures[0].axes]
        assert [len(each) for each in crosses] == [1, 0, 0]
        thin = [[line for line in axis.lines if line.get_linewidth() == 0.6] for axis in figures[0].axes]
        assert [len(each) for each in thin] == [6, 6, 6], "three seeds of the cell, and of the baseline"
        assert figures[0].axes[0].get_yscale() == "log"
        ours = [r for r in records if r.run.cell == "a" and r.result]
        ends = [r.result.metrics["fd_emoji"] for r in ours]
        assert figures[0].axes[0].lines[-1].get_ydata()[-1] == pytest.approx(float(np.exp(np.mean(np.log(ends)))))

    def test_long_names_stand_whole_in_two_lines_within_their_panel(self, tmp_path, monkeypatch):
        toggles = ("img_img_loss_with_features", "paired_contrast_of_captions")
        made = study_like({"origin": 1.0, toggles[0]: 0.5, toggles[1]: 1.2, f"full-minus-{toggles[1]}": 0.6})
        found = of_records(made, toggles)
        with watched(monkeypatch) as figures:
            assert curves.draw(found, made, found.metrics[0], tmp_path / "c")
        titles = [axis.title if axis.title.get_text() else axis._left_title for axis in figures[0].axes]
        names = ["".join(title.get_text().split("\n")[:-1]) for title in titles]
        assert names == [toggles[0], toggles[1], f"full-minus-{toggles[1]}"]
        inches = [style.width_of(line) for title in titles for line in title.get_text().split("\n")]
        assert max(inches) <= (style.WIDTH - 0.46) / 3
        over = (1 - figures[0].axes[0].get_position().y1) * figures[0].get_size_inches()[1]
        assert over >= 0.2 + 3 * style.LINE, "there is room for three lines below the heading"

    @pytest.mark.parametrize("name", ["a", "x" * 90, "one_two", "some_words_" * 9, "a-b+c d" * 6])
    def test_names_in_two_lines_keep_their_ends(self, name):
        lines = style.in_lines(name, 0.8, 2).split("\n")
        assert len(lines) <= 2 and max(map(style.width_of, lines)) <= 0.8
        assert lines[0][0] == name[0] and lines[-1][-1] == name[-1]

    def test_of_many_cells_the_diverged_and_the_largest(self, tmp_path):
        factors = {"origin": 1.0} | {f"t{i:02}": 1.0 + 0.01 * i for i in range(30)}
        made = study_like(factors, seeds=2, spread=1e-6)
        made = [replace(r, status=Status(state="diverged"), result=None) if r.run.cell == "t00" else r for r in made]
        found = of_records(made, sorted(set(factors) - {"origin"}))
        cells = curves.shown(found, found.metrics[0], curves.curves(made, FD))
        assert [cell.cell for cell in cells] == ["t00", *(f"t{i:02}" for i in range(7, 30))]
        curves.draw(found, made, found.metrics[0], tmp_path / "c")
        assert "24 of 30 cells" in " ".join(texts(tmp_path / "c.svg"))

    def test_the_baseline_alone_has_its_panel_and_no_points_no_figure(self, tmp_path):
        made = study_like({"origin": 1.0})
        found = of_records(made, ())
        assert curves.draw(found, made, found.metrics[0], tmp_path / "c")
        bare = [replace(r, points=()) for r in made]
        assert not curves.draw(found, bare, found.metrics[0], tmp_path / "d")
        assert not list(tmp_path.glob("d*"))


class TestTradeoff:
    def test_marks_stand_at_the_means_and_areas_follow_costs(self, plain_study, tmp_path, monkeypatch):
        costs = {"a": 10.0, "b": 5.0}
        with watched(monkeypatch) as figures:
            assert tradeoff.draw(plain_study, costs, tmp_path / "t")
        marks = {mark.cell: mark for mark in tradeoff.cells(*plain_study.metrics, costs)}
        assert len(marks) == 10 and list(marks)[-1] == "origin"
        assert marks["a"].x == pytest.approx(plain_study.metrics[0].cell("a").mean)
        assert marks["a"].y == pytest.approx(plain_study.metrics[1].cell("a").mean)
        assert tradeoff.area(marks["a"], costs) == 2 * tradeoff.area(marks["b"], costs)
        dots = [each.get_offsets()[0].tolist() for each in figures[0].axes[0].collections]
        assert [marks["a"].x, marks["a"].y] in dots and len(dots) == 10
        said = texts(tmp_path / "t.svg")
        assert {"origin", "a", "b", "full", "5", "10", "baseline"} <= set(said)

    def test_what_cells_share_within_a_seed_is_no_spread(self, plain_study):
        assert max(tradeoff.spreads(plain_study.metrics[0]).values()) < 1e-9
        values = {(): {0: 1.0, 1: 1.0}, ("a",): {0: 1.0, 1: 3.0}}
        assert tradeoff.spreads(result(SCORE, ("a",), values))["a"] == pytest.approx(math.sqrt(0.5))

    def test_labels_meet_nothing(self):
        frame, taken = (0.0, 0.0, 100.0, 100.0), [(45.0, 45.0, 55.0, 55.0)]
        for _ in range(6):
            spot = labels.free_spot((50, 50), 8, (30, 9), taken, frame)
            box = (*spot, spot[0] + 30, spot[1] + 9)
            assert not any(labels.meet(box, other) for other in taken)
            assert min(box) >= 0 and max(box) <= 100
            taken.append(box)
        assert labels.free_spot((50, 50), 8, (300, 9), [], frame) is None

    def test_a_line_to_a_name_crosses_no_other_name(self):
        right = (56.0, 40.0, 99.0, 60.0)
        spot = labels.free_spot((50, 50), 2, (20, 9), [right, (30.0, 30.0, 49.0, 70.0)], (0.0, 0.0, 200.0, 100.0))
        assert spot is not None and not labels.meet((*spot, spot[0] + 20, spot[1] + 9), right)
        assert labels._crosses(((0, 0), (10, 10)), (4, 4, 6, 6)) and not labels._crosses(((0, 0), (3, 3)), (4, 4, 6, 6))
        assert labels._crosses(((0, 5), (10, 5)), (4, 4, 6, 6)) and not labels._crosses(((0, 7), (10, 7)), (4, 4, 6, 6))
        blocked = [((50.0, -10.0), (50.0, 110.0))]
        spot = labels.free_spot((45, 50), 2, (30, 9), [], (0.0, 0.0, 100.0, 100.0), blocked)
        assert spot is not None and not labels._crosses(blocked[0], (*spot, spot[0] + 30, spot[1] + 9))

    def test_names_stand_clear_of_bars_and_lines(self, plain_study, tmp_path, monkeypatch, every_format):
        with watched(monkeypatch) as figures:
            tradeoff.draw(plain_study, {}, tmp_path / "t")
        axis = figures[0].axes[0]
        marks = tradeoff.cells(*plain_study.metrics, {})
        scale = 72 / figures[0].dpi
        for text in axis.texts:
            box = tuple(value * scale for value in Text.get_window_extent(text).extents)
            assert not any(labels.meet(box, line) for line in tradeoff._lines(axis, marks)), text.get_text()
        assert len(axis.texts) == 10

    def test_without_score_or_distance_there_is_none(self, plain_study, tmp_path):
        for metric in plain_study.metrics:
            assert not tradeoff.draw(replace(plain_study, metrics=(metric,)), {}, tmp_path / "t")
        assert not list(tmp_path.iterdir())


class TestHalfNormal:
    def test_quantiles_are_those_of_half_a_normal_distribution(self):
        from scipy import stats

        assert half_normal.quantiles(4) == pytest.approx(stats.halfnorm.ppf([0.125, 0.375, 0.625, 0.875]))

    def test_points_lines_and_names(self, plain_study, tmp_path, monkeypatch):
        lenth = Lenth(("a", "b", "a:b or c:d"), (0.1, -0.5, 0.02), pse=0.03, margin=0.09, simultaneous=0.2)
        with watched(monkeypatch) as figures:
            assert half_normal.draw(replace(plain_study.metrics[0], lenth=lenth), tmp_path / "h")
        axis = figures[0].axes[0]
        points = [(line.get_ydata()[0], line.get_marker()) for line in axis.lines if len(line.get_xdata()) == 1]
        assert points == [(0.02, "^"), (0.1, "^"), (0.5, "v")]
        levels = {line.get_ydata()[0] for line in axis.lines if line.get_linestyle() in ("-", "-.")}
        assert {0.09, 0.2} <= levels
        assert [note.get_text() for note in axis.texts] == ["ME", "SME", "b", "a"]

    def test_none_without_the_test(self, plain_study, tmp_path):
        assert not half_normal.draw(plain_study.metrics[0], tmp_path / "h") and not list(tmp_path.iterdir())


class TestSheet:
    def test_pixels_stay_sharp(self, tmp_path):
        folder = draw_samples(tmp_path / "run", ["one", "two"], seed=1, side=4)
        strip = sheet.strip(folder / "samples" / "real.png", 2)
        with Image.open(folder / "samples" / "real.png") as image:
            wanted = image.convert("RGB")
        left = strip.width - strip.height
        for place, tile in enumerate(
            (strip.crop((0, 0, strip.height, strip.height)), strip.crop((left, 0, strip.width, strip.height)))
        ):
            assert (
                tile.convert("RGB").resize((4, 4), Image.Resampling.NEAREST).tobytes()
                == wanted.crop((4 * place, 0, 4 * place + 4, 4)).tobytes()
            )
            assert len(tile.getcolors(tile.width * tile.height)) <= 16
        assert strip.getpixel((strip.height, 0))[3] == 0 and strip.getpixel((0, 0))[3] == 255

    def test_large_images_are_made_smaller(self, tmp_path):
        folder = draw_samples(tmp_path / "run", ["one"], seed=1, side=300)
        assert sheet.strip(folder / "samples" / "real.png", 1).size == (256, 256)

    @pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + b"\xff" * 99, b"\x80\x04.", b"GIF89a"])
    def test_what_is_no_picture_is_a_gap(self, tmp_path, content):
        folder = draw_samples(tmp_path / "run", ["one"], seed=1, step=500)
        (folder / "samples" / "real.png").write_bytes(content)
        (folder / "samples" / "9of10.png").write_bytes(content)
        assert sheet.strip(folder / "samples" / "real.png", 1) is None
        made = replace(record("origin", 0, {"fd_emoji": 1.0}), folder=folder)
        assert sheet.draw([made], tmp_path / "sheet")
        assert sheet.cell_rows([made])[0].grid == folder / "samples" / "000000500.png"

    def test_a_picture_of_gigabytes_is_not_unpacked(self, tmp_path):
        Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
        assert sheet.strip(tmp_path / "bomb.png", 1) is None

    @pytest.mark.parametrize("text", ["", "{", "[1]", '{"caption": "x"}', '[{"caption": 3}]', "[" * 10**4, '"\\ud800"'])
    def test_captions_that_were_edited_are_those_of_another_run(self, tmp_path, text):
        made = []
        for seed in (0, 1):
            folder = draw_samples(tmp_path / f"run{seed}", ["one", "two"], seed=1, step=500)
            made.append(replace(record("origin", seed, {"fd_emoji": 1.0}), folder=folder))
        (made[0].folder / "samples" / "captions.json").write_text(text)
        assert sheet.sample_captions(made) == ("one", "two")
        assert sheet.sample_captions(made[:1]) == () and not sheet.draw(made[:1], tmp_path / "sheet")

    def test_the_newest_samples_of_the_first_seed_and_a_gap_for_none(self, tmp_path):
        made = [record("origin", seed, {"fd_emoji": 1.0}) for seed in (1, 0)] + [record("late", 0, None)]
        folder = draw_samples(tmp_path / "run", ["one", "two"], seed=1, step=500)
        (folder / "samples" / "000001000.png").write_bytes((folder / "samples" / "000000500.png").read_bytes())
        made[1] = replace(made[1], folder=folder)
        origin, late = sheet.cell_rows(made)
        assert (origin.label, origin.note, origin.grid.name) == ("origin", "seed 0", "000001000.png")
        assert (late.label, late.note, late.grid) == ("late", "seed 0, pending", None)
        assert sheet.sample_captions(made) == ("one", "two")
        assert sheet.draw(made, tmp_path / "s")
        said = texts(tmp_path / "s.svg")
        rows = ["real images", "held out", "origin", "seed 0", "late", "seed 0, pending", "no samples"]
        assert [text for text in said if text in rows] == rows
        assert said[-4:] == ["1", "one", "2", "two"]

    def test_rows_beyond_the_cap_are_counted(self, tmp_path):
        folder = draw_samples(tmp_path / "run", ["one"], seed=1)
        made = [record(f"cell{i:02}", 0, {"fd_emoji": 1.0}, folder=folder) for i in range(26)]
        assert sheet.draw(made, tmp_path / "s")
        said = texts(tmp_path / "s.svg")
        assert "cell23" in said and "cell24" not in said and "The first 24 of 26 cells." in said

    def test_without_samples_there_is_no_sheet(self, tmp_path):
        assert not sheet.draw([record("origin", 0, None)], tmp_path / "s") and not list(tmp_path.iterdir())
