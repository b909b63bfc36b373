"""Grids on 200 images of which none or half have a caption, from prepared data to the report, out of three sources."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forked import run_forked
from handmade import png
from harness.runs.folders import RunFolder
from harness.runs.identity import run_id
from harness.settings import Settings
from harness.since import complete
from layouts import tar

STUDY = """
study: bare
data: {{{data}, uncaptioned: keep, resolution: 8}}
generator: {{z_dim: 16, w_dim: 16, mapping_layers: 2, channel_base: 64, channel_max: 8, noise: false}}
discriminator: {{channel_base: 64, channel_max: 8}}
encoders: {{clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}}
train: {{kimg: 0.032, batch: 16, snapshots: 1}}
metrics: {{clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 20}}
toggles: [paired_contrast]
design: {{kind: list, include: [origin, paired_contrast], seeds: 1}}
margins: {{fd: 5, clip_score: 0.5}}
tune: {{cell: origin, constraints: {{clip_score: 0.5}}}}
"""
SOURCES = {
    "folder": "source: folder, path: {there}/folder",
    "table": "source: table, path: {there}/table.csv, images: {there}/folder",
    "tar": "source: webdataset, path: {there}/images.tar",
}


def write_images(folder: Path, every: int) -> None:
    """200 images, of which each `every`-th has a caption; none for 0."""
    members, rows = {}, []
    (folder / "folder").mkdir(parents=True)
    for number in range(200):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        encoded = png(np.asarray(Image.fromarray(coarse).resize((12, 12), Image.Resampling.BICUBIC)))
        name, caption = f"{number:03d}", f"thing {number}" if every and number % every == 0 else ""
        members[f"{name}.png"] = encoded
        (folder / "folder" / f"{name}.png").write_bytes(encoded)
        if caption:
            members[f"{name}.txt"] = caption.encode()
            (folder / "folder" / f"{name}.txt").write_text(caption)
        rows.append(f"{name}.png,{caption}\n")
    tar(folder / "images.tar", members)
    (folder / "table.csv").write_text("image,caption\n" + "".join(rows))


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        for name, every in (("none", 0), ("half", 2)):
            write_images(folder / name, every)
            study(folder / name, "folder")
        (folder / "none" / "prompts.txt").write_text("a cat\na dog\na bird\n")
        yield folder


def harness(folder: Path, *words: str, code: int = 0) -> str:
    """Standard output and error, in one line."""
    done = run_forked(words, folder)
    assert done.returncode == code, done.stderr
    return " ".join(f"{done.stdout} {done.stderr}".split())


def study(folder: Path, source: str) -> None:
    (folder / "study.yaml").write_text(STUDY.format(data=SOURCES[source].format(there=folder)))


def report(folder: Path) -> str:
    return (folder / "reports" / "bare" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("data", "lacking"), [("none", 200), ("half", 100)])
def test_three_sources_are_one_data_set_and_one_grid(there: Path, data: str, lacking: int) -> None:
    folder, prints = there / data, set()
    for source in SOURCES:
        study(folder, source)
        told = harness(folder, "data", "prepare", "study.yaml")
        assert f"200 images, {lacking} of them without a caption, fingerprint" in told
        prints |= set(re.findall("fingerprint ([0-9a-f]{16})", told))
        printed = harness(folder, "run-grid", "study.yaml")
        assert source == "folder" or "nothing to do" in printed, "others find the runs of the first"
    assert len(prints) == 1


def test_without_captions_nothing_of_them_is_measured_and_all_say_so(there: Path) -> None:
    folder = there / "none"
    plan = harness(folder, "plan", "study.yaml")
    no_caption = "every cell: no image to train on has a caption: all 181 are trained on under pseudo text features"
    assert no_caption in plan and "clip_score and r_precision are not measured" in plan
    sentence = "No image has a caption and metrics.captions names no file: images are generated from pseudo text "
    assert sentence in harness(folder, "run-grid", "study.yaml") and sentence in report(folder)
    for run in (folder / "runs" / "bare").glob("*/result.json"):
        assert set(json.loads(run.read_text())["metrics"]) == {"fd_emoji", "kid_emoji", "precision", "recall"}
        samples = json.loads((run.parent / "samples" / "captions.json").read_text())
        assert len(samples) == 16 and {row["caption"] for row in samples} == {None}
    text = report(folder)
    assert "- no caption" in text and "real held-out images (ceiling)" in text and "without_a_caption: `200`" in text
    assert "There is no floor" not in text and "shuffled captions" not in text
    refused = harness(folder, "tune", "study.yaml", code=2)
    assert "clip_score is not measured, as no image has a caption and metrics.captions names no file" in refused
    assert "leave clip_score out of tune" in refused


def test_with_half_the_captions_the_numbers_of_them_are_told(there: Path) -> None:
    folder = there / "half"
    harness(folder, "run-grid", "study.yaml")
    plan = harness(folder, "plan", "study.yaml")
    assert re.search(r"(\d+) of 181 images to train on have no caption: they are always trained on under", plan)
    assert re.search(r"clip_score and r_precision take the captions of \d+ of 19 held-out images", plan)
    text = report(folder)
    for part in ("images to train on; the others have none.", "held-out images; the others have none."):
        assert part in text
    assert "real held-out images, own captions (ceiling)" in text and "CLIP score" in text
    doctor = run_forked(["doctor", "study.yaml"], folder)
    assert "200 images, 100 of them without a caption" in " ".join(doctor.stdout.split())


def test_where_every_caption_fits_every_image_r_precision_is_left_out(there: Path) -> None:
    """Its value is missing, so that a card of it would stand for a result that has lost a number."""
    folder = there / "half"
    study(folder, "folder")
    (folder / "two").mkdir()
    for number in range(2):
        shutil.copy(folder / "folder" / f"{number + 101:03d}.png", folder / "two")
        words = ["a thing", "a bird"][:: 1 - 2 * number]
        (folder / "two" / f"{number + 101:03d}.txt").write_text("\n".join(words))
    two = ["study.yaml", "--set", f"data.held_out.path={folder}/two"]
    harness(folder, "run-grid", *two, "--only", "origin")
    (result,) = (
        RunFolder(path.parent).result()
        for path in (folder / "runs" / "bare").glob("*/result.json")
        if "two" in (path.parent / "run.json").read_text()
    )
    assert result and "clip_score" in result.metrics
    assert "r_precision" not in result.metrics and "r_precision" not in result.cards
    assert "nothing to do" in harness(folder, "run-grid", *two, "--only", "origin")


def test_a_file_of_captions_makes_other_runs_which_are_scored(there: Path) -> None:
    folder = there / "none"
    given = ["study.yaml", "--set", "metrics.captions=prompts.txt", "--only", "origin"]
    harness(folder, "run-grid", "study.yaml")
    assert "not measured" not in harness(folder, "plan", *given[:3])
    harness(folder, "run-grid", *given)
    runs = [RunFolder(path.parent) for path in (folder / "runs" / "bare").glob("*/run.json")]
    own, other = sorted((each.run() for each in runs), key=lambda run: len(run.fingerprints))[::2]
    assert other.settings.metrics.captions == str(folder / "prompts.txt")
    assert set(other.fingerprints) - set(own.fingerprints) == {"metrics.captions"}
    scored = next(each for each in runs if "metrics.captions" in each.run().fingerprints)
    result = scored.result()
    assert result and {"clip_score", "r_precision", "fd_emoji"} <= set(result.metrics)
    assert result.cards["clip_score"]["captions"] == "given" and result.cards["r_precision"]["rivals"] == 2
    samples = json.loads((scored.path / "samples" / "captions.json").read_text())
    assert [row["caption"] for row in samples[:4]] == ["a cat", "a dog", "a bird", None]
    (text,) = (folder / "reports").glob("*captions-prompts*/report.md")
    assert "No real image belongs to a caption of metrics.captions" in text.read_text(encoding="utf-8")
    moved = folder / "elsewhere.txt"
    moved.write_text("a cat\na dog\na bird")
    printed = harness(folder, "run-grid", *given[:2], "metrics.captions=elsewhere.txt", *given[3:])
    assert "nothing to do" in printed, "the same captions in another file are the same run"
    moved.write_text("a cat\na dog\na fish")
    planned = harness(folder, "plan", *given[:2], "metrics.captions=elsewhere.txt")
    assert "2 changed" in planned and "metrics.captions" in planned


def test_a_file_that_is_not_there_is_refused_with_its_place(there: Path) -> None:
    told = harness(there / "none", "plan", "study.yaml", "--set", "metrics.captions=gone.txt", code=2)
    assert "metrics.captions: " in told and "gone.txt is not there; name a text file with a caption a line" in told


def test_ids_of_runs_without_them_stay_and_pseudo_noise_counts_where_images_may_lack_captions() -> None:
    prints = {"data": "d"}
    plain, kept = Settings(), Settings().with_values({"data.uncaptioned": "keep"})
    old = plain.as_dict()
    del old["data"]["uncaptioned"], old["metrics"]["captions"]
    filled = complete(old)
    assert filled["data"]["uncaptioned"] == "bad" and filled["metrics"]["captions"] == ""
    noisy = {"condition.pseudo_noise": 0.5}
    assert run_id(plain, 0, prints) == run_id(plain.with_values(noisy), 0, prints) == "fa2703f92753"
    assert run_id(kept, 0, prints) != run_id(kept.with_values(noisy), 0, prints)
    given = plain.with_values({"metrics.captions": "/somewhere/prompts.txt"})
    assert run_id(given, 0, prints) == run_id(plain, 0, prints) != run_id(given, 0, {**prints, "metrics.captions": "c"})
