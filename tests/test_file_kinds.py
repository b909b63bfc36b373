"""A file that is given as weights and is something else is named as what it is, with what to do, and not loaded."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli.doctor import _encoder
from harness.models.encoders import files
from harness.models.encoders.load import load_clip, load_resnet

INCEPTION = "torch_fidelity:inception-v3-compat"


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x)


def scripted(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Net()).save(str(path))


def content(encoded: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(encoded)


def cut(path: Path) -> None:
    save_file(Net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5])


def cut_zip(path: Path) -> None:
    torch.save(Net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/notes.txt", "x")


CASES: list[tuple[str, Callable[[Path], object], str]] = [
    ("w.pt", scripted, "is a TorchScript archive"),
    ("w.pth", content(b""), "is empty"),
    ("w.safetensors", content(b""), "is empty"),
    (
        "w.pth",
        content(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n"),
        "is a Git LFS pointer",
    ),
    ("w.safetensors", content(b"version https://git-lfs.github.com/spec/v1\n"), r"`git lfs pull`"),
    ("w.pth", content(b"\n <!DOCTYPE html><html>404</html>"), "is a web page"),
    ("w.bin", content(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "a server's message"),
    ("w.pth", content(b"\x1f\x8b\x08\0rest"), "is a gzip archive; unpack it"),
    ("w.pth", content(b'{"message": "Not Found"}\n'), r"is a text, '\{\"message"),
    ("w.pth", content(bytes(257) + b"ustar\0" + bytes(300)), "is a tar archive; unpack it"),
    ("w.onnx", content(b"\x08\x07\x12\x07pytorch"), "is an ONNX model"),
    ("w.pth", content(b"\x08\x07\x12\x07pytorch\x1a"), "is an ONNX model"),
    ("w.pth", content(b"\x89HDF\r\n\x1a\n"), "is an HDF5 file"),
    ("w.pth", zipped, "is a zip archive without PyTorch weights"),
    ("w.pth", cut_zip, "is cut off: the directory"),
    ("w.safetensors", cut, r"is cut off: it holds 1?\d\d of 1?\d\d bytes"),
    ("w.safetensors", lambda path: torch.save(Net().state_dict(), path), "is named .safetensors and is a zip archive"),
    ("w.safetensors", lambda path: path.write_bytes(pickle.dumps({})), "is named .safetensors and is a pickled file"),
    ("w.pth", lambda path: save_file(Net().state_dict(), path), "holds safetensors; give it the suffix"),
]


@pytest.mark.parametrize(
    "family", ["timm:test_resnet", "torchvision:squeezenet1_1", "open_clip:ViT-B-32/openai", INCEPTION]
)
@pytest.mark.parametrize(("name", "write", "told"), CASES, ids=[f"{name} {told[:20]}" for name, _, told in CASES])
def test_it_is_named_and_nothing_else_is_said(
    family: str, name: str, write: Callable[[Path], object], told: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write(tmp_path / name)
    recwarn.clear()
    load = load_clip if "clip" in family else load_resnet
    with pytest.raises(ValueError, match=told) as raised:
        load(f"{family}@{tmp_path / name}")
    assert name in str(raised.value) and "weights_only" not in str(raised.value) and not recwarn.list


@pytest.mark.parametrize("kind", ["state", "wrapped", "module", "tensors"])
def test_what_may_be_weights_is_left_to_the_library(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if kind == "tensors" else "w.pth")
    state = Net().state_dict()
    if kind == "tensors":
        save_file(state, path)
    else:
        torch.save({"state": state, "wrapped": {"state_dict": state, "epoch": 3}, "module": Net()}[kind], path)
    assert files.fault(path) == ("", "")


def test_the_command_that_is_told_takes_the_weights_out(tmp_path: Path) -> None:
    scripted(tmp_path / "w.pt")
    with pytest.raises(ValueError, match="TorchScript") as raised:
        load_clip(f"open_clip:ViT-B-32/openai@{tmp_path / 'w.pt'}")
    [code] = re.findall(r'python -c "(.*)"', str(raised.value))
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    own = torch.jit.load(tmp_path / "w.pt").state_dict()
    assert {name: value.tolist() for name, value in load_file(tmp_path / "w.safetensors").items()} == {
        name: value.tolist() for name, value in own.items()
    }


def test_inception_of_another_kind_is_led_to_the_file_that_is_read(tmp_path: Path) -> None:
    scripted(tmp_path / "inception-2015-12-05.pt")
    with pytest.raises(
        ValueError, match=r"torch-fidelity's file of the same weights, weights-inception-2015-12-05-6726825d\.pth"
    ):
        load_resnet(f"{INCEPTION}@{tmp_path / 'inception-2015-12-05.pt'}")


def test_a_copy_of_a_repository_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "num_classes": 10}))
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"model\.safetensors is a Git LFS pointer"):
        load_resnet(f"timm:hf-hub:org/name@{tmp_path}")


def test_an_empty_state_is_refused_by_open_clip_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 99, "width": 64, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", small)
    torch.save({}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"cannot load open_clip ViT-B-32 from .*w\.pth"):
        load_clip(f"open_clip:ViT-B-32/openai@{tmp_path / 'w.pth'}")


def test_the_doctor_says_it_without_loading(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"<html>")
    finding = _encoder("encoders.resnet", f"timm:test_resnet@{tmp_path / 'w.pth'}")
    assert "is a web page" in finding.fix
    torch.save(Net().state_dict(), tmp_path / "w.pth")
    assert not _encoder("encoders.resnet", f"timm:test_resnet@{tmp_path / 'w.pth'}").fix
