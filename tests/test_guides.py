"""The frozen guides at both precisions, and what a study is told about encoders that it cannot have."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

from harness.cli import doctor
from harness.data.features import load_clip, load_resnet
from harness.errors import SpecError
from harness.models.objective import Kind
from harness.settings import EncoderConfig
from harness.study.load import load_study
from runs import settings, trainer

INCEPTION = "torch_fidelity:inception-v3-compat"


@pytest.mark.parametrize("kind", ["f_c", "f_res"])
def test_bf16_guides_give_single_precision_features_near_those_of_fp32(kind: Kind) -> None:
    torch.set_num_threads(1)
    encoder = load_clip("embedded:clip-guide", "cpu") if kind == "f_c" else load_resnet("embedded:resnet-guide", "cpu")
    pictures = F.interpolate(torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1, size=48)
    seen: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        images = pictures.clone().requires_grad_()
        config = EncoderConfig(crop=0.1, precision=precision)  # type: ignore[arg-type]
        subject = trainer(replace(settings("resnet_guided"), encoders=config))
        subject.guides = {kind: encoder}
        (features,) = subject.guide({"x": images}, 0).values()
        F.normalize(features, dim=1)[:, :8].sum().backward()
        seen[precision] = (features.detach(), images.grad)
        assert features.dtype == torch.float32
        if kind == "f_c":
            assert torch.allclose(features.norm(dim=1), torch.ones(4), atol=1e-5)
    (exact, slope), (rounded, rounded_slope) = seen["fp32"], seen["bf16"]
    assert not torch.equal(exact, rounded), "nothing was computed in bf16"
    assert F.cosine_similarity(exact, rounded).min() > 0.99
    assert F.cosine_similarity(slope.flatten(), rounded_slope.flatten(), dim=0) > 0.9


def test_a_network_without_gradient_cannot_guide(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"study: tiny\ntoggles: [resnet_guided]\nencoders: {{resnet: '{INCEPTION}'}}\n")
    with pytest.raises(SpecError, match=r"encoders\.resnet: .*gives no gradient, so it can only measure: name another"):
        load_study(path)
    path.write_text(f"study: tiny\ntoggles: [resnet_guided]\nmetrics: {{resnet: '{INCEPTION}'}}\n")
    assert load_study(path).settings.metrics.resnet == INCEPTION


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of both hubs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        (INCEPTION, r"weights-inception-2015-12-05-6726825d\.pth \(91 MiB\) is fetched to .*@FILE"),
        ("torchvision:resnet50", r"resnet50-11ad3fa6\.pth \(98 MiB\) is fetched to .*torchvision:resnet50@FILE"),
        ("torchvision:resnet51", r"no model 'resnet51'; did you mean 'resnet50'"),
        ("timm:resnet50.a1_in1k", r"timm/resnet50\.a1_in1k \(about 97 MiB\) is fetched into .*a1_in1k@FILE"),
        ("timm:hf-hub:org/name", r"org/name is fetched into .*copy of the repository: timm:hf-hub:org/name@FOLDER"),
        ("timm:hf-hub:org/name@gone", r"gone is no folder with config\.json .*hf download org/name --local-dir gone"),
        (f"{INCEPTION}@gone.pth", r"no file gone\.pth; correct the path"),
    ],
)
def test_the_doctor_says_what_is_missing_and_where_it_goes(caches: Path, name: str, fix: str) -> None:
    found = doctor._encoder("metrics.resnet", name)
    assert re.search(fix, found.fix), found


def test_the_doctor_finds_what_is_there(caches: Path) -> None:
    (caches / "checkpoints" / "resnet50-11ad3fa6.pth").write_bytes(b"half")
    assert "its name promises 11ad3fa6); delete it" in doctor._encoder("metrics.resnet", "torchvision:resnet50").fix
    folder = caches / "copy"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"weight": np.zeros(3 * 2**18, np.float32)}, folder / "model.safetensors")
    found = doctor._encoder("metrics.resnet", f"timm:hf-hub:org/name@{folder}")
    assert not found.fix and found.detail.endswith(", 3 MiB")
