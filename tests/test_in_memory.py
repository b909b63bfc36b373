"""Tables and images that a program holds give the numbers of the same ones in files, and mistakes in them are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

import harness
from harness.analysis.export import as_json
from harness.data.colour import _profile
from harness.data.decode import NO_PROFILE
from harness.metrics import folders
from harness.metrics.in_memory import captions_of, pictures_of
from test_public import RESULTS

SHIPPED = Path(__file__).parent.parent / "reports" / "emoji-both" / "runs.csv"
NETWORKS = harness.Networks(resnet="embedded:resnet-measure", clip="embedded:clip-measure", device="cpu")
CAPTIONS = [f"thing {place}" for place in range(8)]


@pytest.fixture
def results(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "results.csv").write_text(RESULTS)
    return pd.read_csv(tmp_path / "results.csv")


def test_a_table_is_analysed_as_the_file_that_it_was_read_from() -> None:
    margins = {"fd": 5.0, "clip_score": 0.5}
    of_file, of_table = (harness.analyse(each, margins=margins) for each in (SHIPPED, pd.read_csv(SHIPPED)))
    assert as_json(of_table) == as_json(of_file)
    assert of_table.left_out == of_file.left_out


@pytest.mark.parametrize("margins", [{"nonsense": 3.0}, {"fd": 150.0}, {"fd": -5.0}, {"fd": float("nan")}])
def test_margins_of_a_study_are_checked_as_its_file_is(tmp_path: Path, margins: dict[str, float]) -> None:
    (tmp_path / "study.yaml").write_text("study: mine\n")
    with pytest.raises(harness.HarnessError, match=rf"margins: {next(iter(margins))}: "):
        harness.analyse(harness.load(tmp_path / "study.yaml"), margins=margins)


def test_values_of_a_table_mean_what_they_say(results: pd.DataFrame) -> None:
    columns = harness.CsvColumns(higher=("my_score",))
    plain = as_json(harness.analyse(results, columns=columns))
    results["toggle_a"] = results["toggle_a"].astype(bool)
    results["toggle_b"] = results["toggle_b"].map({0: "off", 1: "on"}).astype("category")
    results["seed"] = results["seed"].astype("Int64")
    results["remark"] = "kept for later"
    analysis = harness.analyse(results.set_index("remark", drop=False), columns=columns)
    assert as_json(analysis) == plain and analysis.left_out == {"remark": "it holds words"}
    results["fid"] = results["fid"].astype(object)
    results.loc[0, ["fid", "my_score"]] = [None, float("nan")]
    results.loc[2, "fid"] = float("inf")
    states = {cell.cell: dict(cell.states) for cell in harness.analyse(results, columns=columns).cells}
    assert states["origin"] == {"failed": 1, "done": 1} and states["toggle_a"] == {"diverged": 1, "done": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.assign(fid=["bad", *it.fid[1:]]), "the table: row 0: fid: must be a number such as 1234.5"),
        (
            lambda it: it.drop(columns="seed").rename(columns={"fid": "seed", "my_score": "loss"}),
            "the table: row 3: seed: must be a whole",
        ),
        (lambda it: it.iloc[:0], "the table: has no rows; a header and one row for each run are needed"),
        (lambda it: pd.concat([it, it.fid], axis=1), "the table: several columns are called 'fid'; rename all but one"),
        (lambda it: pd.concat({"x": it}, axis=1), "the table: its columns have 2 levels; give each one name"),
        (
            lambda it: it.to_dict(),
            "analyse: takes a study, the path of a CSV or a DataFrame of pandas, not <class 'dict'>",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(results: pd.DataFrame, change: Any, message: str) -> None:
    with pytest.raises(harness.HarnessError) as told:
        harness.analyse(change(results))
    assert message in str(told.value)


def images(noise: int) -> np.ndarray:
    """[8,16,20,3] smooth fields of colour, and noise."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(40, 200, (8, 4, 4, 3)).repeat(4, 1).repeat(5, 2)
    return (coarse + rng.integers(-noise, noise + 1, coarse.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def in_folders(tmp_path_factory: pytest.TempPathFactory) -> harness.Evaluation:
    folder = tmp_path_factory.mktemp("images")
    for name, noise in (("real", 0), ("fake", 30)):
        (folder / name).mkdir()
        for place, image in enumerate(images(noise)):
            Image.fromarray(image).save(folder / name / f"{place}.png")
    (folder / "captions.json").write_text(json.dumps({f"{place}.png": text for place, text in enumerate(CAPTIONS)}))
    return harness.evaluate(folder / "real", folder / "fake", folder / "captions.json", NETWORKS)


@pytest.mark.parametrize(
    "form",
    [
        lambda array: array,
        lambda array: torch.from_numpy(array).permute(0, 3, 1, 2),
        lambda array: [Image.fromarray(each) for each in array],
        lambda array: [*array[:3], *(each.transpose(2, 0, 1) for each in array[3:])],
    ],
    ids=["array", "tensor", "pillow", "list"],
)
def test_images_in_memory_give_the_numbers_of_their_files(in_folders: harness.Evaluation, form: Any) -> None:
    found = harness.evaluate(form(images(0)), form(images(30)), CAPTIONS, NETWORKS)
    assert found == in_folders and {"fd_emoji", "clip_score"} <= set(found.metrics)


@pytest.mark.parametrize(
    ("real", "captions", "message"),
    [
        (images(0) / 255, None, "real image 0: is an array of float64; give whole numbers from 0 to 255 as uint8"),
        (images(0)[..., 0], None, "real image 0: has the shape 16 x 20, and must have [H,W,3] or [3,H,W]"),
        ([Image.new("RGBA", (8, 8))] * 2, None, "real image 0: is of Pillow's mode RGBA, and must be RGB"),
        (["a.png", "b.png"], None, "real image 0: is no image; give whole numbers"),
        (images(0)[:1], None, "real images: 1 given; at least 2 are needed"),
        (7, None, "real images: must be a folder, an array [N,H,W,3]"),
        (
            {0: images(0)[0], 1: images(0)[1]},
            None,
            "[N,3,H,W] of uint8, or a list of images of Pillow in RGB, not dict",
        ),
        (np.array(3, np.uint8), None, "real images: must be a folder, an array [N,H,W,3]"),
        (torch.tensor(3), None, "images of Pillow in RGB, not a single number"),
        (torch.rand(2, 3, 8, 8).bfloat16(), None, "real image 0: is a tensor of bfloat16; give whole numbers"),
        ([images(0)[0], [[1, 2], [3]]], None, "real image 1: is no image ("),
        (np.zeros((2, 4, 129, 3), np.uint8), None, "real image 0: 129 x 4 pixels; the longer side may be 32 times"),
        ([Image.new("RGB", (0, 0))] * 2, None, "real image 0: 0 x 0 pixels"),
        (images(0), CAPTIONS[1:], "captions: 7 given for 8 generated images; each needs one"),
        (images(0), ["", *CAPTIONS[1:]], "captions: that of generated image 0 must be a text that is not empty"),
        (images(0), "captions.json", "captions: of images in memory must be a list of texts"),
    ],
)
def test_images_that_cannot_be_measured_are_refused(real: Any, captions: Any, message: str) -> None:
    with pytest.raises(harness.HarnessError) as told:
        harness.evaluate(real, images(30), captions, NETWORKS)
    assert message in str(told.value)


def saved(folder: Path, name: str, **options: Any) -> Path:
    """A picture of six plain fields, saved so that its file says more than its pixels do."""
    fields = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    Image.fromarray(fields.repeat(8, 0).repeat(8, 1)).save(folder / name, **options)
    return folder / name


def turned(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return exif


def chunks(gamma: int) -> PngInfo:
    info = PngInfo()
    info.add(b"gAMA", gamma.to_bytes(4, "big"))
    return info


FIRST = tuple(int(value) for value in np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)[0, 0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("turned.png", {"exif": turned(6)}),
        ("turned.jpg", {"exif": turned(8)}),
        ("keyed.png", {"transparency": FIRST}),
        ("linear.png", {"pnginfo": chunks(100_000)}),
        ("wide.png", {"icc_profile": _profile((0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), 2.2)}),
        ("turned-keyed.png", {"transparency": FIRST, "exif": turned(3)}),
    ],
)
def test_an_image_of_pillow_is_read_as_its_file_is(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    file = saved(tmp_path, name, **options)
    with Image.open(file) as opened:
        stored = np.asarray(opened).transpose(2, 0, 1)
    [of_file] = folders.read_images([file])
    assert not np.array_equal(of_file.pixels, stored)
    for image in (Image.open(file), Image.open(file).copy()):
        found = pictures_of("real", [image, image])[1]
        assert (found.content, found.notes) == (of_file.content, ())


def test_what_an_image_of_pillow_says_wrongly_is_noted_or_refused(tmp_path: Path) -> None:
    image = Image.open(saved(tmp_path, "damaged.png", icc_profile=b"damaged"))
    assert pictures_of("real", [image] * 2)[0].notes == (NO_PROFILE,)
    deep = Image.new("RGB", (8, 8))
    deep.info["transparency"] = (65535, 0, 0)
    with pytest.raises(
        harness.HarnessError, match=r"real image 0: has a transparent colour of 16 bits.*give the folder"
    ):
        pictures_of("real", [deep] * 2)
    whole = saved(tmp_path, "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:60])
    with pytest.raises(harness.HarnessError, match="real image 0: cannot be read: "):
        pictures_of("real", [Image.open(tmp_path / "cut.png")] * 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": 0}, "Networks: batch must be a whole number of 1 or more, not 0"),
        ({"batch": 1.5}, "batch must be a whole number of 1 or more, not 1.5"),
        ({"device": "cuda:0"}, "Networks: device must be auto, cpu or cuda, not 'cuda:0'"),
        ({"more": "embedded:resnet-guide"}, "more a tuple of names, not .* and 'embedded:resnet-guide'"),
        ({"resnet": None}, "resnet and clip must be names"),
    ],
)
def test_networks_that_cannot_be_run_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(harness.HarnessError, match=message):
        harness.Networks(**values)


def test_half_a_character_of_a_caption_is_read_as_a_question_mark_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="harness"):
        assert captions_of([" a \ud83d b", "c"], 2) == ["a ? b", "c"]
    assert "1 caption with half a character" in caplog.text and "generated image 0" in caplog.text
