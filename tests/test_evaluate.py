"""`harness evaluate`: two folders of images in, numbers and cards out, and every mistake named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness import Networks
from harness.cli import main
from harness.cli.evaluate import NetworkOptions
from harness.metrics import folders
from harness.metrics.folders import read_captions
from harness.settings import MetricConfig

RESNET = ("--resnet", "embedded:resnet-measure")
SHIPPED = (*RESNET, "--clip", "embedded:clip-measure")
COUNT = 24
CARD = {"n", "n_real", "captions", "extractor", "extractor_fingerprint", "resize", "engine", "manifest"}


def draw(folder: Path, noise: float, side: int = 16) -> Path:
    """Smooth colour fields of several sizes; `noise` moves every pixel by up to that many steps of 255."""
    (folder / "more").mkdir(parents=True)
    for place in range(COUNT):
        rng = np.random.default_rng(place)
        coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        size = (side + 4 * (place % 3), side + 8 * (place % 2))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float64)
        pixels = (pixels + noise * rng.uniform(-1, 1, pixels.shape)).clip(0, 255).astype(np.uint8)
        name = f"more/{place:02d}.png" if place % 5 == 0 else f"{place:02d}.png"
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("evaluate")
    for name, noise in (("real", 0), ("a-little", 12), ("more", 40), ("much", 120)):
        draw(home / name, noise)
    return home


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def harness(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return harness


def keys(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folders.find_images(folder)]


class TestNumbers:
    def test_a_folder_against_itself_and_ever_noisier_copies(self, home: Path, harness: Any) -> None:
        found = []
        for name in ("real", "a-little", "more", "much"):
            code, out, err = harness("--real", home / "real", "--fake", home / name, *RESNET, "--json")
            assert code == 0
            notes = err.replace("measured on the processor\n", "")
            warned = notes.partition("Fréchet distance (emoji): biased upward")[0]
            assert ("the same files" in warned) == (name == "real") and bool(warned) == (name == "real")
            found.append(json.loads(out)["metrics"])
        assert set(found[0]) == {"fd_emoji", "kid_emoji", "precision", "recall"}
        assert found[0]["fd_emoji"] == pytest.approx(0, abs=1e-6)
        assert found[0]["precision"] == found[0]["recall"] == 1.0
        distances = [values["fd_emoji"] for values in found]
        assert distances == sorted(distances) and distances[1] < 0.5 * distances[3]
        kernels = [values["kid_emoji"] for values in found]
        assert kernels == sorted(kernels)
        assert found[3]["precision"] <= found[1]["precision"]

    def test_the_batch_and_the_order_of_sizes_do_not_matter(self, home: Path, harness: Any) -> None:
        words = ("--real", home / "real", "--fake", home / "more", *SHIPPED, "--json")
        values = [json.loads(harness(*words, "--batch", size)[1])["metrics"] for size in ("1", "5", "64")]
        assert values[1] == pytest.approx(values[0], rel=1e-4) and values[2] == pytest.approx(values[0], rel=1e-4)

    def test_json_holds_a_card_for_every_number(self, home: Path, harness: Any) -> None:
        (home / "captions.json").write_text(json.dumps({key: f"thing {key}" for key in keys(home / "more")}))
        words = ("--real", home / "real", "--fake", home / "more", *SHIPPED, "--captions", home / "captions.json")
        document = json.loads(harness(*words, "--json")[1])
        assert set(document) == {"metrics", "cards"}
        assert set(document["metrics"]) == set(document["cards"])
        assert set(document["metrics"]) == {"fd_emoji", "kid_emoji", "precision", "recall", "clip_score", "r_precision"}
        for name, card in document["cards"].items():
            about_captions = name in ("clip_score", "r_precision")
            of_captions = {"asked", "distinct", "context", "cut"} | ({"rivals", "chance", "constant"} & set(card))
            assert set(card) == CARD | (of_captions if about_captions else {"d", "real_distinct"})
            assert ("rivals" in card) == (name == "r_precision")
            assert (card["n"], card["n_real"]) == (COUNT, 0 if about_captions else COUNT)
            assert card["extractor"] == f"embedded:{'clip' if about_captions else 'resnet'}-measure"
            assert "shorter side by bilinear, antialiased, centre square of 32 x 32" in card["resize"]
            assert len(card["manifest"]) == len(card["extractor_fingerprint"]) == 16

    def test_manifests_are_equal_where_numbers_may_be_compared(self, home: Path, harness: Any) -> None:
        def manifest(real: str, fake: str) -> str:
            words = ("--real", home / real, "--fake", home / fake, *SHIPPED, "--json")
            return str(json.loads(harness(*words)[1])["cards"]["fd_emoji"]["manifest"])

        assert manifest("real", "more") == manifest("real", "much") != manifest("more", "much")

    def test_a_further_network_adds_its_rows(self, home: Path, harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from harness.metrics import evaluate
        from harness.models import encoders

        load, mark = evaluate.load_resnet, encoders.fingerprint
        further = "timm:vit_small_patch14_dinov2"
        own = {further: "embedded:resnet-guide"}
        monkeypatch.setattr(evaluate, "load_resnet", lambda name, device: load(own.get(name, name), device))
        monkeypatch.setattr(encoders, "fingerprint", lambda name: mark(own.get(name, name)))
        words = ("--real", home / "real", "--fake", home / "more", *SHIPPED, "--more", further)
        cards = json.loads(harness(*words, "--json")[1])["cards"]
        assert list(cards) == ["fd_emoji", "kid_emoji", "precision", "recall", "fd_dinov2", "kid_dinov2"]
        assert cards["fd_dinov2"]["extractor"] == further

    def test_the_table_shows_values_cards_and_what_to_mind(
        self, home: Path, harness: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        code, out, err = harness("--real", home / "real", "--fake", home / "more", *SHIPPED)
        assert code == 0
        assert out.index("kid_emoji") < out.index("fd_emoji"), "no more images than features: the kernel distance leads"
        assert "embedded:resnet-measure" in out and "antialiased" in out
        told = " ".join(err.split())
        assert (
            "biased upward (N=24, fewer than 5000 images)" in told
            and "rank 23 of" in told
            and "as there are no more images than features" in told
        )
        assert max(map(len, out.splitlines())) <= 100

    def test_below_four_images_there_are_no_neighbours(self, home: Path, harness: Any, tmp_path: Path) -> None:
        for name in ("00.png", "01.png", "02.png"):
            Image.new("RGB", (8, 8), (int(name[1]) * 80, 0, 9)).save(tmp_path / name)
        out = harness("--real", tmp_path, "--fake", tmp_path, *SHIPPED, "--json")[1]
        assert set(json.loads(out)["metrics"]) == {"fd_emoji", "kid_emoji"}

    @pytest.mark.parametrize("sides", [("three", "more"), ("more", "three")])
    def test_where_there_are_no_neighbours_is_told(
        self, home: Path, harness: Any, tmp_path: Path, sides: tuple[str, str]
    ) -> None:
        for place in range(3):
            (tmp_path / "three").mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (place * 80, 0, 9)).save(tmp_path / "three" / f"{place}.png")
        real, fake = (tmp_path / name if name == "three" else home / name for name in sides)
        kind = "real" if sides[0] == "three" else "generated"
        told = f"There are 3 {kind} images; precision and recall are left out, which need 4."
        for words in ((), ("--json",)):
            err = harness("--real", real, "--fake", fake, *RESNET, *words)[2]
            assert told in " ".join(err.split()) and "biased upward" in err

    def test_it_says_where_the_networks_ran_unless_that_was_asked_for(
        self, home: Path, harness: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from harness.metrics import evaluate

        words = ("--real", home / "real", "--fake", home / "more", *SHIPPED)
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert "measured on the processor" in harness(*words)[2]
        assert "measured on" not in harness(*words, "--device", "cpu")[2]
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100")
        with caplog.at_level("INFO", logger="harness"):
            assert evaluate._device("auto") == "cuda" and "measured on the GPU (NVIDIA H100)" in caplog.text
        assert (evaluate._device("cpu"), evaluate._device("cuda")) == ("cpu", "cuda")

    def test_the_defaults_are_those_of_python_and_the_clip_that_of_a_study(self) -> None:
        assert vars(NetworkOptions()) | {"more": ()} == vars(Networks())
        assert NetworkOptions().clip == MetricConfig().clip


class TestAlternatives:
    """Captions of generated images that are few, one, or one as far as CLIP reads them."""

    LONG = "a thing of which a great deal is told before it is said at last, and after all of that, what it is: " * 3

    def of(self, home: Path, harness: Any, captions: list[str]) -> tuple[dict[str, Any], str]:
        given = {key: captions[place % len(captions)] for place, key in enumerate(keys(home / "more"))}
        (home / "given.json").write_text(json.dumps(given))
        words = ("--real", home / "real", "--fake", home / "more", *SHIPPED, "--captions", home / "given.json")
        code, out, err = harness(*words, "--json")
        assert code == 0
        return json.loads(out), " ".join(err.split())

    @pytest.mark.parametrize(
        "captions", [["a photo of a bird"], ["A bird", "a  bird ", "a BIRD"], [LONG + "a bird", LONG + "a cat"]]
    )
    def test_one_caption_leaves_nothing_to_rank(self, home: Path, harness: Any, captions: list[str]) -> None:
        found, told = self.of(home, harness, captions)
        assert "r_precision" not in found["metrics"] and "r_precision" not in found["cards"]
        assert found["cards"]["clip_score"]["distinct"] == 1
        assert "R-precision is left out, as no caption is wrong for an image" in told and "shuffled" not in told
        assert ("are cut off at 48 tokens by embedded:clip-measure" in told) == (captions[0].startswith(self.LONG))

    def test_few_captions_say_what_chance_is(self, home: Path, harness: Any) -> None:
        found, told = self.of(home, harness, ["a bird", "a cat", "a pear", "A pear"])
        card = found["cards"]["r_precision"]
        assert (card["rivals"], card["chance"], card["cut"]) == (2, round(1 / 3, 6), 0)
        assert "ranked among 3, as no more differ, in place of 100; chance is 0.33, and one image for all" in told
        assert 0 <= found["metrics"]["r_precision"] < 1

    def test_equal_real_images_have_no_neighbours(self, home: Path, harness: Any, tmp_path: Path) -> None:
        for place in range(8):
            Image.new("RGB", (8, 8), (200, 30, place // 4)).save(tmp_path / f"{place}.png")
        out, err = harness("--real", tmp_path, "--fake", tmp_path, *SHIPPED, "--json")[1:]
        assert set(json.loads(out)["metrics"]) == {"fd_emoji", "kid_emoji"}
        assert "the 8 real images are 2 different ones; precision and recall are left out" in " ".join(err.split())


class TestCaptions:
    def test_lines_json_and_a_folder_say_the_same(self, home: Path, tmp_path: Path) -> None:
        folder = home / "real"
        images = folders.find_images(folder)
        wanted = {key: f"a picture of {key}" for key in keys(folder)}
        (tmp_path / "c.json").write_text(json.dumps(wanted))
        (tmp_path / "c.tsv").write_text("".join(f"{key}\t{caption}\n" for key, caption in wanted.items()))
        for key, caption in wanted.items():
            path = (tmp_path / "texts" / key).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(caption + "\n")
        for name in ("c.json", "c.tsv", "texts"):
            assert read_captions(tmp_path / name, folder, images) == list(wanted.values())

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("c.tsv", "nowhere.png\ta cat\n", "'nowhere.png' is no image in"),
            ("c.tsv", "01.png a cat\n", "c.tsv:1: must be a relative path, a tab and a caption"),
            ("c.tsv", "01.png\ta\n01.png\tb\n", "c.tsv:2: '01.png' has a caption already"),
            ("c.tsv", "01.png\t\n", "the caption of '01.png' is empty"),
            ("c.tsv", "01.png\ta cat\n", "no caption for '02.png'"),
            ("c.json", "{", "c.json is no valid JSON"),
            ("c.json", '{"01.png": 3}', "c.json: must be an object of texts"),
            ("texts", None, "no such file; every generated image needs its caption"),
            ("missing.tsv", None, "missing.tsv: no such file"),
        ],
    )
    def test_what_does_not_fit_is_named(
        self, home: Path, tmp_path: Path, harness: Any, name: str, text: str | None, said: str
    ) -> None:
        if text is not None:
            (tmp_path / name).write_text(text)
        elif name == "texts":
            (tmp_path / name).mkdir()
        words = ("--real", home / "real", "--fake", home / "real", *SHIPPED, "--captions", tmp_path / name)
        code, out, err = harness(*words)
        assert (code, out) == (2, "")
        assert said in err and name in err


class TestMistakes:
    def test_folders(self, home: Path, harness: Any, tmp_path: Path) -> None:
        for real, said in ((tmp_path / "none", "none: no such folder"), (tmp_path, "holds 0 images; at least 2")):
            code, out, err = harness("--real", real, "--fake", home / "real", *SHIPPED)
            assert (code, out) == (2, "") and said in err and str(real) in err

    def test_an_unreadable_image_is_named(self, home: Path, harness: Any, tmp_path: Path) -> None:
        draw(tmp_path / "fake", 0)
        (tmp_path / "fake" / "07.png").write_bytes((tmp_path / "fake" / "07.png").read_bytes()[:90])
        code, out, err = harness("--real", home / "real", "--fake", tmp_path / "fake", *SHIPPED)
        assert (code, out) == (2, "")
        assert "07.png: cannot be read: Truncated" in err

    def test_missing_weights_say_how_to_give_others(self, home: Path, harness: Any) -> None:
        words = ("--real", home / "real", "--fake", home / "real", "--resnet", "timm:resnet18@/nowhere/w.safetensors")
        code, _, err = harness(*words)
        assert code == 2
        assert "--resnet timm:resnet18@FILE" in err and "--resnet embedded:resnet-measure" in err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--more", "resnet50"), "--more resnet50: encoder 'resnet50': it must begin with one of embedded:, "),
            (("--more", "embedded:nope"), "--more embedded:nope: encoder 'embedded:nope' is not embedded: allowed is"),
            (("--more", "embedded:clip-guide"), "'embedded:clip-guide' is a clip; a resnet is needed here"),
            (("--clip", "nonsense"), "--clip nonsense: encoder 'nonsense': it must begin with one of embedded:, "),
        ],
    )
    def test_a_name_of_no_network(self, home: Path, harness: Any, words: tuple[str, ...], said: str) -> None:
        code, out, err = harness("--real", home / "real", "--fake", home / "more", *RESNET, *words)
        assert (code, out) == (2, "") and said in err and "would be called" not in err

    def test_a_clip_without_captions_is_told(self, home: Path, harness: Any) -> None:
        words = ("--real", home / "real", "--fake", home / "more")
        told = "--clip embedded:clip-measure: measures nothing without captions"
        assert told in harness(*words, *SHIPPED)[2] and "--clip" not in harness(*words, *RESNET)[2]

    @pytest.mark.parametrize("of", ["image", "text"])
    def test_features_that_are_not_finite(
        self, home: Path, harness: Any, monkeypatch: pytest.MonkeyPatch, of: str
    ) -> None:
        from harness.models.encoders import frozen

        network = frozen.Resnet if of == "image" else frozen.Clip
        whole = getattr(network, of)
        monkeypatch.setattr(network, of, lambda self, given: whole(self, given) / 0)
        (home / "named.json").write_text(json.dumps(dict.fromkeys(keys(home / "more"), "a bird")))
        words = ("--real", home / "real", "--fake", home / "more", *SHIPPED, "--captions", home / "named.json")
        code, out, err = harness(*words)
        bad = f"{home / 'real' / '01.png'}" if of == "image" else "the caption 'a bird'"
        option = f"--{'resnet embedded:resnet' if of == 'image' else 'clip embedded:clip'}-measure"
        assert (code, out) == (2, "") and f"{option}: its features of {bad} are not finite" in " ".join(err.split())

    def test_two_networks_of_one_name(self, home: Path, harness: Any) -> None:
        words = ("--real", home / "real", "--fake", home / "real", *SHIPPED, "--more", "embedded:resnet-guide")
        code, _, err = harness(*words)
        assert code == 2 and "--more embedded:resnet-guide: would be called fd_emoji" in err
