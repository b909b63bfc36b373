"""The parts of a run by a script: its lines of metrics, its images."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace as Namespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.command.images import Images
from harness.command.lines import MOST_NAMES, MOST_POINTS, MOST_TOLD, PREFIX, Line, MetricLines, Thinner
from harness.command.session import ScriptSession
from harness.errors import DataError
from harness.metrics.measure import quantise
from harness.runs.folders import RunFolder
from harness.runs.record import Point, notes_on_scripts
from harness.settings import Settings

# Lines.


def lines_of(path: Path, told: list[str] | None = None) -> MetricLines:
    return MetricLines(path, (told if told is not None else []).append)


def test_a_line_that_comes_in_pieces_is_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    text = "".join(json.dumps({"step": step, "total": 9, "loss": step / 7}) + "\n" for step in range(1, 10)).encode()
    reader, found = lines_of(path), list[Line]()
    assert reader.new() == []
    for at in range(0, len(text), 11):
        with path.open("ab") as file:
            file.write(text[at : at + 11])
        found += reader.new()
    assert [(line.step, line.total, line.values) for line in found] == [(n, 9, {"loss": n / 7}) for n in range(1, 10)]
    assert reader.new() == []


def test_the_last_line_counts_without_its_end_once_the_script_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "a": 1}')
    reader = lines_of(path)
    assert [line.step for line in reader.new()] == [1]
    assert [line.step for line in reader.new(at_end=True)] == [2]
    assert reader.new(at_end=True) == []


BAD = [
    ('{"step": 3, "loss": NaN, "ok": 1}', {"ok": 1.0}, "not finite"),
    ('{"step": 3, "loss": -Infinity}', {}, "not finite"),
    ('{"step": 3, "loss": 1e200}', {}, "not finite"),
    ('{"step": 3, "loss": ' + "9" * 400 + "}", {}, "not finite"),
    ('{"step": 3, "loss": "0.1", "ok": 2}', {"ok": 2.0}, "no number"),
    ('{"step": 3, "loss": true}', {}, "no number"),
    ('{"step": 3, "loss": null}', {}, "no number"),
    ('{"step": 3, "loss": [1]}', {}, "no number"),
    ('{"step": 3, "l\\u00f6ss": 1, "ok": 1}', {"ok": 1.0}, "name"),
    ('{"step": true}', None, "step"),
    ('{"step": -1}', None, "step"),
    ('{"step": 1.5}', None, "step"),
    ('{"loss": 1}', None, "step"),
    ('{"step": 1, "total": 0}', None, "total"),
    ('{"step": 1, "samples": "x"}', None, "samples"),
    ("[1, 2]", None, "object"),
    ("step 3 loss 0.1", None, "JSON"),
    ("[" * 100_000, None, "JSON"),
    ("\xff\x00", None, "JSON"),
]


@pytest.mark.parametrize(("text", "values", "why"), BAD, ids=[text[:24] for text, _, _ in BAD])
def test_what_cannot_be_used_is_left_out_and_told(
    tmp_path: Path, text: str, values: dict[str, float] | None, why: str
) -> None:
    path, told = tmp_path / "m.jsonl", list[str]()
    path.write_bytes(f"{text}\n{text}\n".encode("latin-1") + b'{"step": 4, "loss": 2}\n')
    reader = lines_of(path, told)
    found = reader.new()
    assert [line.values for line in found] == [*([values] * 2 if values is not None else []), {"loss": 2.0}]
    assert len(told) == 1 and why in told[0]
    assert any("2 times" in each for each in reader.told_at_end())


def test_odd_values_of_many_names_are_one_sentence(tmp_path: Path) -> None:
    path, told = tmp_path / "m.jsonl", list[str]()
    names = [f"n{at:02}" for at in range(MOST_TOLD + 15)]
    path.write_text(2 * f"{json.dumps({'step': 1, **dict.fromkeys(names, float('nan')), 'x': 'low'})}\n")
    reader = lines_of(path, told)
    reader.new()
    assert reader.left_out.total() == 2 * len(names) + 2 and len(told) <= MOST_TOLD + 2
    assert list(
        notes_on_scripts([("a", 0, reader.left_out), ("b", 0, {"a value that is not finite; name: n00": 4})])
    ) == [
        f"the script's output, not used as it is: {2 * len(names) + 4} x a value that is not finite: n00, n01, n02, "
        f"n03, n04, n05 and {MOST_TOLD - 6} more (a seed 0 and b seed 0; see log.txt)",
        "the script's output, not used as it is: 2 x a value that is no number (a seed 0; see log.txt)",
    ]


def test_half_a_line_of_a_killed_script_is_cut_off_and_nothing_is_glued_to_it(tmp_path: Path) -> None:
    path, told = tmp_path / "m.jsonl", list[str]()
    path.write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a')
    newest = Point(1, 0.001, 0.0, {PREFIX + "a": 1.0})
    reader = lines_of(path, told)
    assert [line.step for line in reader.catch_up(newest)] == [2], "what was not read before is not lost"
    assert len(told) == 1 and "half a line" in told[0]
    with path.open("a") as file:
        file.write('{"step": 3, "a": 3}\n')
    assert [(line.step, line.values) for line in reader.new()] == [(3, {"a": 3.0})]


def test_a_whole_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}')
    reader = lines_of(path)
    assert [line.step for line in reader.catch_up(None)] == [1, 2]
    with path.open("a") as file:
        file.write('{"step": 3}\n')
    assert [line.step for line in reader.new()] == [3]


def test_reading_goes_on_behind_the_line_that_was_read_last_also_after_a_step_back(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    steps = [1, 2, 3, 2, 3, 4]  # the second attempt went on at step 2
    path.write_text("".join(json.dumps({"step": n, "a": at}) + "\n" for at, n in enumerate(steps)))
    newest = Point(3, 0.003, 0.0, {PREFIX + "a": 4.0})
    assert [line.step for line in lines_of(path).catch_up(newest)] == [4]
    assert lines_of(path).catch_up(Point(4, 0.004, 0.0, {PREFIX + "a": 5.0})) == []
    assert [line.step for line in lines_of(path).catch_up(None)] == steps


def test_a_file_that_is_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    reader = lines_of(path)
    assert len(reader.new()) == 2
    path.write_text('{"step": 7}\n')
    assert [line.step for line in reader.new()] == [7]


@pytest.mark.parametrize("total", [0, 100_000])
def test_a_script_that_reports_every_step_keeps_about_a_thousand_points_of_each_name(total: int) -> None:
    thinner, kept = Thinner(lambda *_: None), list[tuple[int, str]]()
    for step in range(1, 100_001):
        values = {"loss": 1.0} | ({"rare": 1.0} if step % 5000 == 0 else {})
        kept += [(step, name) for name in thinner.kept(Line(step, total, values))]
    losses = [step for step, name in kept if name == "script/loss"]
    assert MOST_POINTS <= len(losses) <= 7 * MOST_POINTS and losses[0] == 1 and len(set(losses)) == len(losses)
    assert sum(name == "script/rare" for _, name in kept) == 20, "a name that comes seldom keeps all"
    if total:
        assert losses[-1] == total


@pytest.mark.parametrize("ahead", [0, 1, 10])
def test_a_total_that_grows_with_the_step_keeps_no_more_than_a_few_thousand(ahead: int) -> None:
    thinner = Thinner(lambda *_: None)
    kept = [step for step in range(1, 100_001) if thinner.kept(Line(step, step + ahead, {"loss": 1.0}))]
    assert MOST_POINTS <= len(kept) <= 4 * MOST_POINTS and kept[:1000] == [*range(1, 1001)]
    again = Thinner(lambda *_: None)
    for step in kept[:2500]:
        again.note(Point(step, 0.0, 0.0, {"script/loss": 1.0}))
    rest = range(kept[2499] + 1, 100_001)
    assert [step for step in rest if again.kept(Line(step, step + ahead, {"loss": 1.0}))] == kept[2500:]


def test_of_many_values_of_one_step_the_first_is_kept_and_the_others_are_counted() -> None:
    lost = Counter[str]()
    thinner = Thinner(lambda what, _: lost.update([what]))
    lines = [Line(epoch, 2, {"loss": float(batch)}) for epoch in (1, 2) for batch in range(50)]
    assert [values for line in lines if (values := thinner.kept(line))] == [{"script/loss": 0.0}] * 2
    assert lost == {"a further value of the same step": 98}
    assert thinner.kept(Line(2, 2, {"other": 3.0})) == {"script/other": 3.0}, "names may come in lines of their own"


def test_of_names_without_end_the_first_are_kept_also_after_a_new_attempt() -> None:
    """A name for each step, as of `f"grad_{step}"`: what is kept does not depend on where an attempt was cut short."""
    last = 2 * MOST_NAMES - 1
    lines = [Line(at, last, {f"grad_{at}": 1.0, "loss": float(at)}) for at in range(1, last + 1)]
    lost = Counter[str]()
    whole = Thinner(lambda what, _: lost.update([what]))
    kept = [whole.kept(line) for line in lines]
    assert len({name for values in kept for name in values}) == MOST_NAMES
    assert all(values.get("script/loss") == at for at, values in enumerate(kept, 1))
    assert lost == {"a value of a name after the first 1,000": len(lines) - (MOST_NAMES - 1)}
    for saved in (MOST_NAMES // 2, MOST_NAMES + 300):
        again = Thinner(lambda *_: None)
        for at, values in enumerate(kept[: saved + 200], 1):
            again.note(Point(at, 0.0, 0.0, values))
        again.forget(saved + 1)
        assert [again.kept(line) for line in lines[saved:]] == kept[saved:]


# Images.


def picture(path: Path, mode: str = "RGB", side: int = 4, value: int = 90) -> None:
    Image.new(mode, (side, side), {"L": value, "RGB": (value, 10, 200), "RGBA": (value, 10, 200, 0)}[mode]).save(path)


def session(folder: Path, told: list[str]) -> Any:
    """Of a script in `folder`, which nothing has started."""
    each: Any = ScriptSession.__new__(ScriptSession)
    each.folder, each.run, each.claim = RunFolder(folder), Namespace(settings=Settings()), Namespace(check=lambda: None)
    each.lines = MetricLines(folder / "metrics", told.append)
    each.thinner = Thinner(each.lines.leave_out)
    each.step, each.measured, each.total, each.asked, each.has_begun = 0, -1, 0, 0, False
    each.job = Namespace(samples=folder / "samples")
    each._tell, each._update = told.append, lambda **_: None
    each._measure = lambda images: told.append(f"measured: {images.folder.name}")
    return each


def test_the_step_before_the_first_update_outlasts_a_stop(tmp_path: Path) -> None:
    told: list[str] = []
    each = session(tmp_path, told)
    for step in range(3):
        each._take(Line(step, 10, {"loss": 1.0 - step / 10}))
    each._go_on_at(1)
    assert [(point.step, point.values) for point in each.folder.points()] == [(0, {"script/loss": 1.0})]
    each._go_on_at(0)
    assert not each.folder.points()


def test_an_untrained_generator_is_measured_when_it_is_announced(tmp_path: Path) -> None:
    told: list[str] = []
    each = session(tmp_path, told)
    each.has_begun = True
    each._take(Line(0, 10, {}, has_samples=True))
    assert told == ["measured: 0"]
    each.measured = 0
    each._take(Line(0, 10, {}, has_samples=True))
    assert told[1:] == ["metrics: a snapshot of a step that was measured before is left out: step 0"]


def test_images_stand_in_the_place_of_a_generator(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    for number, each in enumerate(pixels):
        name = f"{number}.png" if number % 2 else f"{number:06d}.bmp"
        Image.fromarray(each).save(tmp_path / name)
    images = Images(tmp_path, 5, 4)
    made = images(torch.zeros(2, 1), torch.tensor([[3.0], [1.0]]))
    expected = torch.from_numpy(pixels[[3, 1]]).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.equal(made, expected) and torch.equal(quantise(made), expected)
    assert not images.notes


def test_grey_and_transparent_images_are_read_as_a_viewer_shows_them_and_told(tmp_path: Path) -> None:
    picture(tmp_path / "0.png", "L")
    picture(tmp_path / "1.png", "RGBA")
    images = Images(tmp_path, 2, 4)
    made = images(torch.zeros(2, 1), torch.tensor([[0.0], [1.0]]))
    assert torch.equal(made[0], torch.full((3, 4, 4), 90.0) / 127.5 - 1) and torch.equal(made[1], torch.ones(3, 4, 4))
    assert images.notes["images: has transparent pixels, which are shown on white"] == 1


def test_images_that_are_missing_wrong_or_double_are_refused_by_name(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    picture(tmp_path / "2.png", side=6)
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(DataError, match=r"1 of 3 images are missing: 000001\.png.*1 other file there"):
        Images(tmp_path, 3, 4)
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    images = Images(tmp_path, 3, 4)
    z = torch.zeros(1, 1)
    with pytest.raises(DataError, match=r"1\.png: cannot be read"):
        images(z, torch.tensor([[1.0]]))
    with pytest.raises(DataError, match=r"2\.png: 6 x 6 pixels; .* 4 x 4"):
        images(z, torch.tensor([[2.0]]))
    picture(tmp_path / "000000.png")
    with pytest.raises(DataError, match=r"0\.png and 000000\.png are both number 0"):
        Images(tmp_path, 3, 4)
    with pytest.raises(DataError, match="3 of 3 images are missing"):
        Images(tmp_path / "nowhere", 3, 4)


def test_what_is_no_plain_file_is_not_opened_as_a_pipe_has_no_end(tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path / f"{number}.png")
    os.mkfifo(tmp_path / "2.png")
    (tmp_path / "3.png").symlink_to("/nowhere.png")
    (tmp_path / "4.png").mkdir()
    (tmp_path / f"{'9' * 200}.png").touch()
    with pytest.raises(DataError, match=r"3 of 5 images are missing: 000002\.png, 000003\.png and 000004\.png"):
        Images(tmp_path, 5, 4)
    with pytest.raises(DataError, match="must be a plain file"):
        lines_of(tmp_path / "2.png").new()
    for place in ("0.png", "3.png"):
        with pytest.raises(DataError, match=rf"{place}: is no folder; the script must leave it"):
            Images(tmp_path / place, 5, 4)


def test_animations_and_deep_grey_are_read_as_images_of_data_are(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (200, 10)]
    frames[0].save(tmp_path / "0.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((4, 4), 257 * 90, np.uint16)).save(tmp_path / "1.png")
    frames[0].save(tmp_path / "2.png", format="JPEG", quality=100)
    images = Images(tmp_path, 3, 4)
    made = (images(torch.zeros(3, 1), torch.arange(3.0)[:, None]) + 1) * 127.5
    assert torch.allclose(made[:2, :, 0, 0], torch.tensor([[200.0, 0, 0], [90, 90, 90]]), atol=1)
    assert abs(float(made[2, 0, 0, 0]) - 200) < 4
    assert [note for note in images.notes if "animation" in note]


def test_the_digest_of_images_is_of_their_pixels(tmp_path: Path) -> None:
    digests = []
    for name, value, kind in (("a", 90, "png"), ("b", 90, "bmp"), ("c", 91, "png")):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / f"0.{kind}", value=value)
        images = Images(tmp_path / name, 1, 4)
        images(torch.zeros(1, 1), torch.zeros(1, 1))
        digests.append(images.digest)
    assert digests[0] == digests[1] != digests[2]
