"""What a file that was given as weights really is, by its first bytes and its directory. Nothing of it is run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from harness.models.encoders import INCEPTION, INCEPTION_HASH, Encoder, weights_in

_START = 512
_MOST_HEADER = 2**28
_AGAIN = "download it again, or give a file made for this model"
_UNPACK = "unpack it and give the weights in it"
_STARTS = {
    b"version https://git-lfs": (
        "is a Git LFS pointer, not the file itself",
        "fetch it with `git lfs pull`, or download it",
    ),
    b"\x1f\x8b": ("is a gzip archive", _UNPACK),
    b"BZh": ("is a bzip2 archive", _UNPACK),
    b"\xfd7zXZ\x00": ("is an xz archive", _UNPACK),
    b"7z\xbc\xaf'\x1c": ("is a 7z archive", _UNPACK),
    b"Rar!\x1a\x07": ("is a rar archive", _UNPACK),
    b"\x89HDF": ("is an HDF5 file, as Keras writes", "give PyTorch weights"),
    b"GGUF": ("is a GGUF file", "give PyTorch weights"),
    b"\x93NUMPY": ("is a NumPy array", "give PyTorch weights"),
}
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")
ONNX = ("is an ONNX model, which holds a graph", "give the PyTorch weights that it was exported from")


_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's archives hold beside the weights."""
_CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "own = torch.jit.load({old!r}, map_location='cpu').state_dict(); "
    'save_file({{k: v.clone() for k, v in own.items() if k not in {extras}}}, {new!r})"'
)


def refusal(encoder: Encoder) -> str:
    """Why the local file of this encoder holds no weights that can be read, and what to do; empty where it may.

    Raises OSError.
    """
    file = weights_in(encoder.file) if encoder.file and encoder.file.is_dir() else encoder.file
    if not file:
        return ""
    what, fix = fault(file)
    return f"{file} {what}; {fix or _weights_of(encoder, file)}" if what else ""


def _weights_of(encoder: Encoder, file: Path) -> str:
    """How to have the weights that a TorchScript archive holds in a form that is read."""
    if (encoder.family, encoder.model) == ("torch_fidelity", INCEPTION):
        name = f"weights-inception-2015-12-05-{INCEPTION_HASH}.pth"
        return f"give torch-fidelity's file of the same weights, {name}; `harness doctor` says from where"
    command = _CONVERT.format(old=str(file), extras=_EXTRAS, new=str(file.with_suffix(".safetensors")))
    return f"if you trust it, take the weights out with {command} and give that file"


def fault(path: Path) -> tuple[str, str]:
    """What the file is instead of weights and what to do about it, such as ("is empty", "download it again, ...").

    Two empty texts where it may be weights: then only loading can tell. Raises OSError.
    """
    size = path.stat().st_size
    if not size:
        return "is empty", _AGAIN
    with path.open("rb") as stream:
        start = stream.read(_START)
    for known, told in _STARTS.items():
        if start.startswith(known):
            return told
    if start.lstrip().lower().startswith(_PAGES):
        return "is a web page or a server's message that was saved in place of the weights", _AGAIN
    if start[257:262] == b"ustar":
        return "is a tar archive", _UNPACK
    if start.isascii() and start.decode().replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return f"is a text, {' '.join(start.decode().split())[:60]!r}", _AGAIN
    if path.suffix.lower() == ".onnx" or (start[:1] == b"\x08" and any(w in start[:64] for w in (b"pytorch", b"onnx"))):
        return ONNX
    if start.startswith(b"PK\x03\x04"):
        return _of_zip(path)
    return _of_tensors(path, start, size)


def is_torchscript(path: Path) -> bool:
    """Whether the file is an archive of TorchScript, which holds code beside the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return bool(names & {"constants.pkl", "model.json"}) or any(name.startswith("code/") for name in names)


def _of_zip(path: Path) -> tuple[str, str]:
    """Of a zip, which both checkpoints of torch.save and TorchScript are."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "is cut off: the directory at the end of its archive is missing", _AGAIN
    if is_torchscript(path):
        return "is a TorchScript archive, which holds code beside the weights and is never run", ""
    if path.suffix.lower() == ".safetensors":
        return "is named .safetensors and is a zip archive", "give it the suffix .pth if torch.save wrote it"
    plain = any(name.endswith("data.pkl") for name in names) or path.suffix.lower() == ".npz"
    return ("", "") if plain else ("is a zip archive without PyTorch weights", _UNPACK)


def _of_tensors(path: Path, start: bytes, size: int) -> tuple[str, str]:
    """Of safetensors: 8 bytes that say how long a JSON header is, the header, the tensors."""
    named, length = path.suffix.lower() == ".safetensors", int.from_bytes(start[:8], "little")
    looks = len(start) > 8 and start[8:9] == b"{" and length <= _MOST_HEADER
    if named and not looks:
        kind = "a pickled file" if start[:1] == b"\x80" else "something else"
        return f"is named .safetensors and is {kind}", "give the file that safetensors wrote"
    if not looks:
        return "", ""
    with path.open("rb") as stream:
        header = stream.read(8 + length)[8:]
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        needed = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        if len(header) < length:
            return f"is cut off within its header, at {size:,} bytes", _AGAIN
        return ("holds a damaged header of safetensors", _AGAIN) if named else ("", "")
    if size < needed:
        return f"is cut off: it holds {size:,} of {needed:,} bytes", _AGAIN
    return ("", "") if named else ("holds safetensors", "give it the suffix .safetensors")
