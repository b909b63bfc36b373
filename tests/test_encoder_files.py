"""Encoders from files and libraries: each family reads its own files and runs nothing that a file holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models as zoo

from harness.models import encoders
from harness.models.encoders.load import load_clip, load_resnet

INCEPTION = "torch_fidelity:inception-v3-compat"
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def noise(count: int, size: int) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1


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
        load_resnet("torchvision:resnet81")


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
    load = load_clip if "open_clip" in name else load_resnet
    with pytest.raises(ValueError, match=r"pickled code, which is never run, .*; convert it to safetensors"):
        load(f"{name}@{tmp_path if 'hub' in name else path}")
    assert not (tmp_path / "touched").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "touched").exists(), "the file would have run its code"


@pytest.mark.parametrize("content", [b"", b"no weights at all", [1, 2], {"epoch": 3}])
@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1", INCEPTION])
def test_what_holds_no_weights_is_refused(tmp_path: Path, name: str, content: Any) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(
        ValueError, match=r"cannot load .* from .*model\.pth: .*(give a file made|or no weights at all)"
    ):
        load_resnet(f"{name}@{path}")


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("squeezenet1_1", 512), ("shufflenet_v2_x0_5", 1024)])
def test_torchvision_models_give_what_their_classifier_gets(tmp_path: Path, name: str, width: int) -> None:
    torch.manual_seed(0)
    made = zoo.get_model(name, weights=None).eval()
    torch.save(made.state_dict(), tmp_path / "m.pth")
    encoder = load_resnet(f"torchvision:{name}@{tmp_path}/m.pth")
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
    encoder = load_resnet(f"torchvision:mobilenet_v3_small@{tmp_path}/m.pth")
    black, white = encoder._prepared(torch.full((1, 3, 8, 8), -1.0)), encoder._prepared(torch.ones(1, 3, 8, 8))
    assert black.shape == (1, 3, 224, 224)
    assert black[0, :, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rel=1e-4)
    assert white[0, :, 0, 0].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rel=1e-4)


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
    clip = load_clip(f"open_clip:hf-hub:org/name@{folder}")
    images = noise(2, 32)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]))
    expected = network.encode_image(((images + 1) / 2 - mean) / std, normalize=True)
    assert (clip.size, clip.dim, clip._mode) == (32, 16, "bilinear")
    assert not clip.network.visual.transformer.batch_first, "slow on a processor"
    assert torch.allclose(clip.image(images), expected, atol=1e-5)
    words = network.encode_text(open_clip.tokenize(["red heart"]), normalize=True)
    assert torch.allclose(clip.text(["red heart"]), words, atol=1e-5)


def test_a_repository_without_mean_and_std_is_refused(copy: tuple[Path, Any]) -> None:
    (copy[0] / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY, "preprocess_cfg": {"std": [1, 1, 1]}})
    )
    with pytest.raises(ValueError, match=r"does not say how images are prepared: add mean, as in \"preprocess_cfg\""):
        load_clip(f"open_clip:hf-hub:org/name@{copy[0]}")


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
    encoder = load_resnet(f"timm:hf-hub:org/name@{tmp_path}")
    images = noise(2, 48)
    mean, std = (torch.tensor(own[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    expected = network.forward_head(network.forward_features(((images + 1) / 2 - mean) / std), pre_logits=True)
    assert (encoder.size, encoder._mode) == (48, "bilinear")
    assert torch.allclose(encoder.image(images), expected, atol=1e-4)


def test_names_that_the_models_own_authors_chose_are_converted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = timm.create_model("test_convnext").eval()
    theirs = {"stem.": "downsample_layers.0.", "blocks.": "", "conv_dw": "dwconv", "mlp.fc": "pwconv",
              "head.norm": "norm", "head.fc": "head"}  # fmt: skip
    state = {}
    for key, value in made.state_dict().items():
        for ours, other in theirs.items():
            key = key.replace(ours, other)
        state[re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", key)] = value
    assert len(state.keys() & made.state_dict().keys()) < len(state) / 4
    shuffled = {f"module.{key}": state[key] for key in sorted(state)}  # so that their order cannot tell
    torch.save({"model": shuffled}, tmp_path / "m.pth")
    encoder = load_resnet(f"timm:test_convnext@{tmp_path}/m.pth")
    own = made.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in encoder.network.state_dict().items())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"a.png\tb\n", b"\x80\x02}q\x00.", b"PK\x03\x04rest", bytes(range(256)) * 4, b"e", b"("]
)
def test_whatever_a_file_holds_it_is_refused_as_the_users(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"timm resnet18 from .*weights\.{suffix}"):
        load_resnet(f"timm:resnet18@{path}")
