"""What data prepare, plan and doctor say of captions that a CLIP cuts off or takes for one another."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness import cache
from harness.cli.main import app
from harness.data.caption_counts import count_captions, count_in_process
from harness.data.prepare import prepare
from harness.errors import HarnessError
from harness.metrics.captions import remarks
from harness.models.encoders import tokens
from harness.processes import run_in_processes
from harness.settings import DataConfig

SHARED = "a thing of which a great deal is told before it is said at last, and after all of that, what it is: " * 3
GUIDE, MEASURE = "embedded:clip-guide", "embedded:clip-measure"
Make = Callable[[Callable[[int], str]], str]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A prepared folder of 40 images with the captions of a function; its fingerprint."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def made(caption: Callable[[int], str]) -> str:
        folder = tmp_path / "my-images"
        folder.mkdir(exist_ok=True)
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03d}.png")
            (folder / f"{number:03d}.txt").write_text(caption(number))
        return prepare(DataConfig(source="folder", path=str(folder), resolution=32), cache.root())[1].fingerprint

    return made


def held_out() -> int:
    (index,) = cache.root().glob("data/*/index.json")
    return int(json.loads(index.read_text())["held_out"])


def test_short_captions_that_differ_are_no_matter(make: Make) -> None:
    data = make(lambda number: f"thing number {number}")
    assert remarks(data, GUIDE, MEASURE) == ()
    found = count_captions(data, GUIDE)
    assert found and (found.context, found.captions, found.cut, found.equal) == (48, 40, 0, 0)
    assert found.written == found.read == 40
    assert found.distinct == found.held_out == held_out()


def test_what_differs_behind_the_context_is_one(make: Make) -> None:
    data = make(lambda number: f"{SHARED} {number}")
    count = held_out()
    assert remarks(data, GUIDE, MEASURE) == (
        f"40 of 40 captions are cut off at 48 tokens by {GUIDE}, which conditions the generator; "
        f"of 40 different ones 1 is left; {count} of {count} held-out captions then equal another",
        f"40 of 40 captions are cut off at 48 tokens by {MEASURE}, which measures; "
        f"of 40 different ones 1 is left; {count} of {count} held-out captions then equal another",
        f"R-precision is left out: all held-out captions are the same for {MEASURE}, "
        "so no caption is wrong for an image",
    )


def test_what_differs_before_the_context_is_cut_and_no_more(make: Make) -> None:
    data = make(lambda number: f"{number} {SHARED}\n{number}")
    told = f"40 of 80 captions are cut off at 48 tokens by {GUIDE}, which conditions the generator and measures"
    assert remarks(data, GUIDE, GUIDE) == (told,)


@pytest.mark.parametrize(
    "caption", [lambda number: "a photo of a bird", lambda number: ("a bird", "A BIRD", " a  bird")[number % 3]]
)
def test_captions_that_read_alike(make: Make, caption: Callable[[int], str]) -> None:
    data = make(caption)
    count = held_out()
    told = remarks(data, GUIDE, MEASURE)
    equal = f"{count} of {count} held-out captions equal another for"
    assert told[:2] == (f"{equal} {GUIDE}, which conditions the generator", f"{equal} {MEASURE}, which measures")
    assert told[2].startswith("R-precision is left out")


def test_a_few_captions_leave_few_rivals(make: Make) -> None:
    make(lambda number: f"thing number {number}")
    (listed,) = cache.root().glob("data/*/00000.jsonl")
    lines = map(json.loads, listed.read_text().splitlines())
    held = [int(line["captions"][0].split()[-1]) for line in lines if line["held_out"]]
    assert len(held) > 3
    data = make(lambda number: "a bird" if number in held[2:] else "a cat")
    told = remarks(data, GUIDE, MEASURE)
    assert told[-1] == f"R-precision ranks a caption among 2 different ones by {MEASURE}: chance is 0.5"
    few = make(lambda number: f"{number} birds" if number in held[2:] else "a cat")
    assert remarks(few, GUIDE, MEASURE)[0].startswith(f"2 of {len(held)} held-out captions equal another")


def test_captions_that_are_not_all_asked_leave_fewer_rivals(make: Make, tmp_path: Path) -> None:
    data = make(lambda number: f"thing number {number}")
    count = held_out()
    assert remarks(data, GUIDE, MEASURE, samples=count) == ()
    assert remarks(data, GUIDE, MEASURE, samples=2) == (
        f"R-precision ranks a caption among 2 different ones by {MEASURE}, as metrics.samples asks 2 of {count}: "
        "chance is 0.5",
    )
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(f"thing {number}" for number in range(80)))
    assert remarks(data, GUIDE, MEASURE, str(path), samples=50) == (
        f"R-precision ranks a caption among 50 different ones by {MEASURE}, as metrics.samples asks 50 of 80: "
        "chance is 0.02",
    )
    path.write_text("\n".join(f"thing {number}" for number in range(120)) + "\nTHING 0")
    told = remarks(data, GUIDE, MEASURE, str(path), samples=50)
    assert told[-1].startswith(f"R-precision ranks a caption among 50 different ones at most by {MEASURE}")
    assert told[-1].endswith("metrics.samples asks 50 of 121: chance is 0.02 or more")
    assert len(remarks(data, GUIDE, MEASURE, str(path), samples=100)) == 1, "a hundred are what it is meant for"
    path.write_text("thing 0\nTHING 0\nthing 1")
    assert "among 2 different ones at most" in remarks(data, GUIDE, MEASURE, str(path), samples=2)[-1]


def test_counted_once_and_again_when_damaged(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(lambda number: f"{SHARED} {number}")
    first = count_captions(data, GUIDE)
    (path,) = cache.root().glob("features/*/counts.json")
    path.write_text("{")
    assert count_captions(data, GUIDE) == first
    monkeypatch.setattr(tokens, "reader", None)
    assert count_captions(data, GUIDE) == first
    from harness.storage.caches import entries
    from harness.storage.usage import Meter

    mine = next(entry for entry in entries(cache.root(), Meter()) if entry.kind == "features")
    assert data in mine.keys and len(mine.keys) == 2


def test_a_tokenizer_that_needs_torch_is_not_loaded_by_a_plan(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(lambda number: f"{'cat ' * 80} {number}")
    other = "open_clip:ViT-B-32/openai"
    (unknown,) = remarks(data, GUIDE, other)[1:2]
    assert f"how many captions {other} cuts off is not known yet" in unknown
    count_captions(data, other, with_torch=True)
    told = remarks(data, GUIDE, other)
    assert f"40 of 40 captions are cut off at 77 tokens by {other}, which measures" in told[1]
    assert (
        count_captions(data, "open_clip:ViT-B-16-SigLIP/none", with_torch=True) is None or "transformers" in sys.modules
    )


@pytest.mark.parametrize("name", ["open_clip:nothing/none", "embedded:none", "open_clip:ViT-B-32@gone.safetensors"])
def test_a_clip_that_is_not_there_is_told_of_elsewhere(make: Make, name: str) -> None:
    data = make(lambda number: f"{SHARED} {number}")
    count_in_process(data, [name] if "nothing" not in name else [])
    assert remarks(data, GUIDE, name) == () or "not known yet" in remarks(data, GUIDE, name)[1]


def test_a_process_that_is_killed_is_called_by_what_it_does() -> None:
    with pytest.raises(HarnessError, match="a process that counts captions was killed, perhaps for lack of memory"):
        list(run_in_processes(os._exit, [1], 1, "counts captions"))


def test_the_verbs_say_so(make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.cli import doctor

    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(doctor, "_embedded", lambda: iter(()))
    make(lambda number: f"{SHARED} {number}")

    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            app(words)
        assert end.value.code in (0, None)
        streams: Any = capsys.readouterr()
        return str(streams.out + streams.err)

    said("init", "study.yaml", "--preset", "folder")
    for verb in (("data", "prepare"), ("plan",), ("doctor",)):
        told = said(*verb, "study.yaml")
        for name in (GUIDE, MEASURE):
            assert f"40 of 40 captions are cut off at 48 tokens by {name}" in told, verb


def test_captions_of_a_file_are_counted_in_place_of_held_out_ones(make: Make, tmp_path: Path) -> None:
    data = make(lambda number: f"{SHARED} {number}")
    path = tmp_path / "prompts.txt"
    path.write_text(f"a cat\nA CAT\na bird\n{SHARED}\n")
    guide, measure, ranked = remarks(data, GUIDE, MEASURE, str(path))
    assert guide.startswith(f"40 of 40 captions are cut off at 48 tokens by {GUIDE}, which conditions the generator")
    assert measure == (
        f"1 of 4 captions of metrics.captions is cut off at 48 tokens by {MEASURE}, which measures; of 4 different "
        "ones 3 are left; 2 of 4 captions of metrics.captions then equal another"
    )
    assert ranked == f"R-precision ranks a caption among 3 different ones by {MEASURE}: chance is 0.33"
    path.write_text("a cat\nA CAT\n")
    told = remarks(data, GUIDE, MEASURE, str(path))
    assert told[-1].startswith(f"R-precision is left out: all captions of metrics.captions are the same for {MEASURE}")
    path.write_text("a cat\na bird\n")
    assert remarks(data, GUIDE, MEASURE, str(path))[-1].endswith(
        "among 2 different ones by embedded:clip-measure: chance is 0.5"
    )
    path.write_text("a cat\n")
    alone = "R-precision is left out: metrics.captions holds one caption alone, so no caption is wrong for an image"
    assert remarks(data, GUIDE, MEASURE, str(path))[-1] == alone
