"""Published weights: fetched once, held against the hash in their name; and torch-fidelity's Inception."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import models as zoo

from harness.models import encoders
from harness.models.encoders import files, names
from harness.models.encoders.load import load_resnet

INCEPTION = "torch_fidelity:inception-v3-compat"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def noise(count: int, size: int) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1


def test_without_network_the_user_learns_what_to_give(hub: Path) -> None:
    for name in ("torchvision:resnet18", INCEPTION):
        with pytest.raises(ValueError, match=r"HF_HUB_OFFLINE is set .*checkpoints/.* not there; .* file: NAME@FILE"):
            load_resnet(name)


def test_a_damaged_download_is_refused(hub: Path) -> None:
    published = files.published(encoders.parse("torchvision:resnet18"))
    assert files.hash_in_name(published.path) == "f37072fd" and published.path.parent == hub
    published.path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"its name promises f37072fd\); delete it"):
        load_resnet("torchvision:resnet18")


def test_a_download_is_read_where_torch_hub_keeps_it(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.published(encoders.parse("torchvision:squeezenet1_1")).path
    torch.save(zoo.squeezenet1_1().state_dict(), path)
    monkeypatch.setattr(files, "hash_in_name", lambda path: hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    assert load_resnet("torchvision:squeezenet1_1").dim == 512


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
    encoder = load_resnet(f"{INCEPTION}@{path}")
    assert (encoder.size, encoder.dim) == (299, 2048)
    for size in (32, 400):
        images = noise(2, size) * torch.tensor([1.1, 0.1]).view(2, 1, 1, 1)
        pixels = ((images.double() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        expected = network(pixels)[0]
        for given in (images, pixels.float() / 127.5 - 1):
            assert (encoder.image(given) - expected).norm() < 1e-4 * expected.norm()
        assert (expected[0] - expected[1]).norm() > 1e-2 * expected.norm(), "the images cannot be told apart"


def test_inception_measures_and_does_not_guide(inception: tuple[FeatureExtractorInceptionV3, Path]) -> None:
    encoder = load_resnet(f"{INCEPTION}@{inception[1]}")
    with pytest.raises(ValueError, match="gives no gradient: it measures, it cannot guide"):
        encoder.image(noise(1, 16).requires_grad_())


def test_the_published_inception_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "any name.pth"
    path.write_bytes(b"weights")
    name = f"{INCEPTION}@{path}"
    assert encoders.is_published_inception(INCEPTION) and not encoders.is_published_inception(name)
    assert encoders.fingerprint(name) != encoders.fingerprint(INCEPTION)
    monkeypatch.setattr(names, "INCEPTION_HASH", hashlib.sha256(b"weights").hexdigest()[:8])
    assert encoders.is_published_inception(name)
    assert encoders.fingerprint(name) == encoders.fingerprint(INCEPTION), "the same network is the same result"
    assert not encoders.is_published_inception(f"{INCEPTION}@{tmp_path}/gone.pth")
    assert not encoders.is_published_inception("torchvision:inception_v3")


def test_the_published_name_is_a_promise(tmp_path: Path) -> None:
    own = files.published(encoders.parse(INCEPTION)).path.name
    assert files.hash_in_name(Path(own)) == names.INCEPTION_HASH
    torch.save({"something": torch.zeros(2)}, tmp_path / own)
    with pytest.raises(ValueError, match="its name promises 6726825d"):
        load_resnet(f"{INCEPTION}@{tmp_path}/{own}")
