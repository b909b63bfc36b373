"""Frozen encoders: names, the contract at the door, and that the embedded ones know what they see."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torchvision import transforms

from harness.data import dataset as data
from harness.models import encoders
from harness.models.encoders import FOLDER, embedded
from harness.models.encoders.frozen import Clip, Preparation, Resnet, resized
from harness.models.encoders.load import load_clip, load_resnet
from harness.settings import DataConfig

CLIPS = ["embedded:clip-guide", "embedded:clip-measure"]
RESNETS = ["embedded:resnet-guide", "embedded:resnet-measure"]


@pytest.fixture(scope="module")
def loaded() -> dict[str, Clip | Resnet]:
    torch.set_num_threads(1)
    clips: dict[str, Clip | Resnet] = {name: load_clip(name) for name in CLIPS}
    return clips | {name: load_resnet(name) for name in RESNETS}


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> data.Dataset:
    return data.load(DataConfig(resolution=32), tmp_path_factory.mktemp("cache"))


def noise(count: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size), dtype=dtype) * 2 - 1


@pytest.mark.parametrize("name", CLIPS + RESNETS)
def test_an_encoder_is_frozen_but_passes_gradients_on(loaded: dict[str, Clip | Resnet], name: str) -> None:
    encoder = loaded[name]
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(value.requires_grad for value in encoder.parameters())
    images = noise(2, 32).requires_grad_()
    alone = encoder.image(images[:1])
    both = encoder.image(images)
    assert torch.allclose(alone, both[:1], atol=1e-5), "an image's feature depends on its neighbours"
    both[0].sum().backward()
    assert images.grad is not None and images.grad[0].abs().sum() > 0 and images.grad[1].abs().sum() == 0


@pytest.mark.parametrize("size", [16, 32, 48])
@pytest.mark.parametrize("name", [CLIPS[0], RESNETS[0]])
def test_the_gradient_is_the_slope(name: str, size: int) -> None:
    load = load_clip if "clip" in name else load_resnet
    encoder = load(name).double()
    images, direction = noise(2, size, torch.float64), noise(2, size + 1, torch.float64)[:, :, :size, :size]
    weight = torch.linspace(-1, 1, encoder.dim, dtype=torch.float64)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad((encoder.image(images) @ weight).sum(), images)
    with torch.no_grad():
        ahead, behind = (encoder.image(images + step * direction) @ weight for step in (1e-6, -1e-6))
    slope = float((ahead - behind).sum() / 2e-6)
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("name", CLIPS)
def test_clip_features_have_unit_norm_and_one_width(loaded: dict[str, Clip | Resnet], name: str) -> None:
    clip = loaded[name]
    assert isinstance(clip, Clip)
    texts = clip.text(["red heart", "", "ein Wort, das sie nie sah: 猫", "long " * 300])
    for features in (clip.image(noise(3, 32)), clip.image(noise(3, 20)), texts):
        assert features.shape[1] == clip.dim == 128
        assert torch.allclose(features.norm(dim=1), torch.ones(len(features)), atol=1e-5)
    assert clip.text([]).shape == (0, 128) and not texts.requires_grad


@pytest.mark.parametrize("name", CLIPS)
def test_a_text_is_read_alone_whatever_stands_beside_it(loaded: dict[str, Clip | Resnet], name: str) -> None:
    clip = loaded[name]
    assert isinstance(clip, Clip)
    texts = ["cat", "woman scientist: dark skin tone", "a very long caption about nothing in particular"]
    together = clip.text(texts)
    assert torch.allclose(together, torch.cat([clip.text([text]) for text in texts]), atol=1e-5)
    assert torch.allclose(clip.text(["CAT"]), together[:1], atol=1e-6)
    assert torch.allclose(clip.text(texts * 200)[-3:], together, atol=1e-5), "more texts than one pass takes"


def test_images_are_standardised_with_the_encoders_own_mean_and_std() -> None:
    class Probe(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    mean, std = (0.1, 0.5, 0.9), (0.2, 0.25, 0.5)
    for size in (8, 32):
        probe = Resnet(Probe(), Preparation(8, mean, std), 3, "")
        for value in (-1.0, 0.0, 1.0):
            seen = probe.image(torch.full((1, 3, size, size), value))[0].tolist()
            assert seen == pytest.approx([((value + 1) / 2 - m) / s for m, s in zip(mean, std, strict=True)], abs=1e-5)


def test_reduction_is_antialiased_and_equal_sizes_are_left_alone() -> None:
    probe = Resnet(torch.nn.Identity(), Preparation(8, (0.5,) * 3, (0.5,) * 3), 3, "")
    same = noise(1, 8)
    assert torch.allclose(probe.image(same), same, atol=1e-6)
    stripes = torch.ones(1, 3, 32, 32)
    stripes[..., ::2] = -1
    assert probe.image(stripes).abs().max() < 0.1


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("target", [(32, 32), (16, 23), (17, 40)])
def test_enlarging_is_torchs(mode: str, target: tuple[int, int]) -> None:
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    ours = resized(images, target, mode)
    theirs = F.interpolate(images, size=target, mode=mode, antialias=True)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((each * weights).sum(), images)[0] for each in (ours, theirs)]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    with torch.autocast("cpu", torch.bfloat16):
        assert resized(images.float(), target, mode).dtype == torch.float32, "pixels are not rounded"


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 8, 8)])
def test_what_is_no_batch_of_images_is_refused(shape: tuple[int, ...]) -> None:
    images = torch.zeros(shape, dtype=torch.uint8 if shape == (1, 3, 8, 8) else torch.float32)
    probe = Resnet(torch.nn.Identity(), Preparation(8, (0.5,) * 3, (0.5,) * 3), 3, "")
    with pytest.raises(ValueError, match=r"\[N,3,H,W\] in \[-1,1\], not torch"):
        probe.image(images)


@pytest.mark.parametrize(("height", "width"), [(16, 25), (25, 16), (8, 11), (31, 8), (24, 24)])
def test_of_an_oblong_image_the_centre_is_seen_as_clip_does(height: int, width: int) -> None:
    images = noise(2, 32)[:, :, :height, :width]
    probe = Resnet(torch.nn.Identity(), Preparation(8, (0.5,) * 3, (0.5,) * 3), 3, "")
    theirs = transforms.Compose([transforms.Resize(8, antialias=True), transforms.CenterCrop(8)])
    assert torch.allclose(probe.image(images), theirs(images), atol=1e-6)


def test_folding_batch_norms_changes_nothing_and_leaves_none() -> None:
    network = embedded.build_tower(embedded.read_config("clip-measure")["tower"], 8)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    network.eval().double()
    images = noise(2, 32, torch.float64)
    before = network(images)
    embedded.fold_batch_norm(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(network(images), before, rtol=1e-9)


def test_guide_and_measure_are_different_networks(loaded: dict[str, Clip | Resnet]) -> None:
    for guide, measure in (CLIPS, RESNETS):
        towers = [embedded.read_config(name.split(":")[1])["tower"] for name in (guide, measure)]
        assert towers[0] != towers[1]
        assert encoders.fingerprint(guide) != encoders.fingerprint(measure)
    prints = {encoders.fingerprint(name) for name in CLIPS + RESNETS}
    assert len(prints) == 4 and loaded[CLIPS[0]].fingerprint == encoders.fingerprint(CLIPS[0])


def test_the_embedded_weights_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 16e6


def similarity(clip: Clip, emoji: data.Dataset, size: int) -> torch.Tensor:
    """[H,H]: held-out captions against held-out pictures at `size` pixels."""
    ids = emoji.held_out
    images = torch.from_numpy(emoji.images[ids]).float() / 127.5 - 1
    seen = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return clip.text([emoji.captions[i][0] for i in ids]) @ clip.image(seen).T


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("size", [16, 32])
def test_held_out_captions_find_their_pictures(
    loaded: dict[str, Clip | Resnet], emoji: data.Dataset, name: str, size: int
) -> None:
    clip = loaded[name]
    assert isinstance(clip, Clip)
    match = similarity(clip, emoji, size)
    own = match.diagonal()
    rank = (match > own[:, None]).sum(1)
    assert (rank == 0).float().mean() > 0.4 and (rank < 10).float().mean() > 0.6, "chance is 0.003 and 0.025"
    assert own.mean() > match.mean() + 0.3


@pytest.mark.parametrize("name", CLIPS)
def test_noise_resembles_no_caption(loaded: dict[str, Clip | Resnet], emoji: data.Dataset, name: str) -> None:
    clip = loaded[name]
    assert isinstance(clip, Clip)
    texts = clip.text([emoji.captions[i][0] for i in emoji.held_out])
    assert (texts @ clip.image(noise(16, 16)).T).mean() < 0.15


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip-guide", r"begin with one of embedded:, open_clip:, timm:"),
        ("openclip:ViT-B-32/openai", r"did you mean 'open_clip'"),
        ("embedded:clip-gide", r"allowed is clip-guide.*did you mean 'clip-guide'"),
        ("open_clip:ViT-B-32", r"names no weights.*open_clip:ARCH/TAG"),
        ("open_clip:", r"nothing follows"),
        ("embedded:resnet-measure@/nope", r"come with the package; leave out @/nope"),
        ("timm:resnet18@", r"nothing follows @"),
        ("timm:resnet18", r"is a resnet; a clip is needed here, such as embedded:clip-guide"),
        ("embedded:resnet-guide", r"is a resnet; a clip is needed"),
        ("open_clip:ViT-B-32/nobody", r"no weights 'nobody'.*openai"),
        ("open_clip:ViT-B-33/openai", r"no architecture 'ViT-B-33'.*did you mean 'ViT-B-32'"),
    ],
)
def test_a_wrong_name_is_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_clip(name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.safetensors; correct the path"):
        encoders.check(f"timm:resnet18@{tmp_path}/gone.safetensors")


def test_the_fingerprint_follows_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    seen = []
    for content in (b"one", b"two!", b"one"):
        path.write_bytes(content)
        seen.append(encoders.fingerprint(f"timm:resnet18@{path}"))
    assert seen[0] == seen[2] != seen[1] and len(seen[0]) == 16
    assert encoders.fingerprint("timm:resnet18") != encoders.fingerprint("timm:resnet50")


def test_a_local_timm_file_is_loaded_without_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False).eval()
    save_file(network.state_dict(), tmp_path / "r.safetensors")
    encoder = load_resnet(f"timm:test_resnet@{tmp_path}/r.safetensors")
    images = noise(2, encoder.size)
    config = timm.data.resolve_data_config(model=network)
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    expected = network.forward_head(network.forward_features(((images + 1) / 2 - mean) / std), pre_logits=True)
    assert encoder.size == config["input_size"][1] and encoder.dim == expected.shape[1]
    assert torch.allclose(encoder.image(images), expected, atol=1e-4)


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "r.safetensors")
    with pytest.raises(ValueError, match="test_resnet"):
        load_resnet(f"timm:test_resnet@{tmp_path}/r.safetensors")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """An open_clip architecture with two sets of published weights that differ in preparation."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    tags = {
        "half": {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "quick_gelu": True},
        "zero": {"mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bicubic"},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    return "tiny"


def test_a_pickle_is_not_unpickled(tmp_path: Path, tiny: str) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "r.pth")
    for load, name in ((load_resnet, "timm:test_resnet"), (load_clip, f"open_clip:{tiny}/half")):
        with pytest.raises(ValueError, match="pickled code, which is never run"):
            load(f"{name}@{tmp_path}/r.pth")
    assert not (tmp_path / "touched").exists()


def test_a_local_open_clip_file_keeps_the_tags_own_preparation(tmp_path: Path, tiny: str) -> None:
    made = open_clip.create_model(tiny, force_quick_gelu=True).eval()
    save_file(made.state_dict(), tmp_path / "c.safetensors")
    images = noise(2, 32)
    clip = load_clip(f"open_clip:{tiny}/half@{tmp_path}/c.safetensors")
    assert torch.allclose(clip.image(images), made.encode_image(images, normalize=True), atol=1e-5)
    words = open_clip.get_tokenizer(tiny)(["red heart"])
    assert torch.allclose(clip.text(["red heart"]), made.encode_text(words, normalize=True), atol=1e-5)
    with pytest.raises(ValueError, match="open_clip:tiny/TAG@FILE with TAG one of half, zero"):
        load_clip(f"open_clip:{tiny}@{tmp_path}/c.safetensors")
