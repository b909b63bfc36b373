"""Files of weights: fetched once where they are published by URL, refused where they hold none, read without running
anything that they hold.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from torch import Tensor

from harness.models.encoders.names import INCEPTION, INCEPTION_HASH, Encoder, near, sha256

FAILURES = (
    AttributeError, EOFError, ImportError, IndexError, KeyError, OSError, RuntimeError, SafetensorError, StopIteration,
    TypeError, UnpicklingError, ValueError,
)  # fmt: skip
"""What the libraries raise for files that are not what they were taken for, and without network."""


def read(path: Path) -> dict[str, Tensor]:
    """The weights in a safetensors file or a PyTorch checkpoint, averaged ones first; no pickled code is ever run.

    Raises one of FAILURES.
    """
    from timm.models import load_state_dict

    state = load_state_dict(str(path), weights_only=True)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("it holds more than weights; save the state dict alone")
    return dict(state)


@contextmanager
def failures_explained(encoder: Encoder) -> Iterator[None]:
    """Turns what the libraries raise inside the block into a ValueError that says what to do."""
    try:
        yield
    except FAILURES as error:
        where = _described(encoder)
        if isinstance(error, UnpicklingError) or "pickle" in str(error):  # timm raises a RuntimeError of its own
            fix = "where you trust the file, load it with its own library and save its state_dict() by"
            what = "it holds pickled code, which is never run, or no weights at all; convert it to safetensors"
            raise ValueError(f"cannot load {where}: {what}: {fix} safetensors.torch.save_file") from error
        local = "copy of the repository: NAME@FOLDER" if encoder.repository else "file: NAME@FILE"
        fix = "give a file made for this model" if encoder.file else f"without network, give a local {local}"
        raise ValueError(f"cannot load {where}: {error or type(error).__name__}; {fix}") from error


def _described(encoder: Encoder) -> str:
    return f"{encoder.family} {encoder.model} from {encoder.file or encoder.tag or 'its published weights'}"


# What is published by URL.


@dataclass(frozen=True)
class Published:
    """A file that its authors publish by URL, with the start of its sha256 in its name."""

    url: str
    mib: float

    @property
    def path(self) -> Path:
        """Where torch hub keeps its local copy."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rpartition("/")[2]


def published(encoder: Encoder) -> Published:
    """The default weights of a torchvision or torch_fidelity model. Raises ValueError for an unknown one."""
    if encoder.family == "torch_fidelity" and encoder.model == INCEPTION:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        return Published(URL_INCEPTION_V3, 91.0)
    from torchvision import models as zoo  # type: ignore[import-untyped]

    models = zoo.list_models(module=zoo)
    if encoder.model not in models:
        text = f"torchvision classifies with no model {encoder.model!r}{near(encoder.model, models)}"
        raise ValueError(f"{text}; `torchvision.models.list_models(module=torchvision.models)` lists them")
    weights = zoo.get_model_weights(encoder.model).DEFAULT
    return Published(weights.url, weights.meta["_file_size"])


def fetched(file: Published) -> Path:
    """The local copy, downloaded if it is not there yet.

    Raises OSError without network or under HF_HUB_OFFLINE, RuntimeError and ValueError for a file that is not the
    published one.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE

    path = file.path
    if not path.is_file():
        if HF_HUB_OFFLINE:
            raise OSError(f"HF_HUB_OFFLINE is set and {path} is not there")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(file.url, str(path), hash_in_name(path), progress=False)
    check_content(path)
    return path


def hash_in_name(path: Path) -> str:
    """How the sha256 of a published file begins according to its name; empty for any other file."""
    match = re.search(r"-([0-9a-f]{8,})\.\w+$", path.name)
    return match[1] if match else ""


def check_content(path: Path) -> None:
    """Raises ValueError for a file whose sha256 does not begin as its published name promises."""
    digest, promised = sha256(path), hash_in_name(path)
    if not digest.startswith(promised):
        both = f"its sha256 begins with {digest[:8]}, its name promises {promised}"
        raise ValueError(f"{path} is damaged or another file ({both}); delete it, or rename it if it is meant")


# What is refused: a file that is seen to hold no weights, by its first bytes and its directory, without being loaded.

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
_MOST_HEADER = 2**28
"""Bytes of the longest header of safetensors that is believed; the format's own limit is 100 MB."""
_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's archives hold beside the weights."""
_CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "own = torch.jit.load({old!r}, map_location='cpu').state_dict(); "
    'save_file({{k: v.clone() for k, v in own.items() if k not in {extras}}}, {new!r})"'
)


def check_kind(encoder: Encoder) -> None:
    """Raises ValueError for a local file that is seen to hold no weights, such as a web page."""
    if reason := refusal(encoder):
        raise ValueError(f"cannot load {_described(encoder)}: {reason}")


def refusal(encoder: Encoder) -> str:
    """Why the local file of this encoder holds no weights that can be read, and what to do; empty where it may.

    Raises OSError.
    """
    file = encoder.weights
    what, fix = fault(file) if file else ("", "")
    if not file or not what:
        return ""
    if not fix and (encoder.family, encoder.model) == ("torch_fidelity", INCEPTION):
        name = f"weights-inception-2015-12-05-{INCEPTION_HASH}.pth"
        fix = f"give torch-fidelity's file of the same weights, {name}; `harness doctor` says from where"
    elif not fix:
        command = _CONVERT.format(old=str(file), extras=_EXTRAS, new=str(file.with_suffix(".safetensors")))
        fix = f"if you trust it, take the weights out with {command} and give that file"
    return f"{file} {what}; {fix}"


def fault(path: Path) -> tuple[str, str]:
    """What the file is instead of weights and what to do about it, such as ("is empty", "download it again, ...").

    Two empty texts where it may be weights: then only loading can tell. For an archive of TorchScript what to do
    depends on the encoder and is left empty. Raises OSError.
    """
    size = path.stat().st_size
    if not size:
        return "is empty", _AGAIN
    with path.open("rb") as stream:
        start = stream.read(512)  # a tar's mark stands at 257
    for mark, answer in _STARTS.items():
        if start.startswith(mark):
            return answer
    if start.lstrip().lower().startswith(_PAGES):
        return "is a web page or a server's message that was saved in place of the weights", _AGAIN
    if start[257:262] == b"ustar":
        return "is a tar archive", _UNPACK
    if start.isascii() and start.decode().replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return f"is a text, {' '.join(start.decode().split())[:60]!r}", _AGAIN
    if path.suffix.lower() == ".onnx" or (start[:1] == b"\x08" and any(w in start[:64] for w in (b"pytorch", b"onnx"))):
        return "is an ONNX model, which holds a graph", "give the PyTorch weights that it was exported from"
    return _fault_of_zip(path) if start.startswith(b"PK\x03\x04") else _fault_of_tensors(path, start, size)


def _fault_of_zip(path: Path) -> tuple[str, str]:
    """Both checkpoints of torch.save and TorchScript are zip archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "is cut off: the directory at the end of its archive is missing", _AGAIN
    inside = {name.partition("/")[2] for name in names}
    if inside & {"constants.pkl", "model.json"} or any(name.startswith("code/") for name in inside):
        return "is a TorchScript archive, which holds code beside the weights and is never run", ""
    if path.suffix.lower() == ".safetensors":
        return "is named .safetensors and is a zip archive", "give it the suffix .pth if torch.save wrote it"
    plain = any(name.endswith("data.pkl") for name in names) or path.suffix.lower() == ".npz"
    return ("", "") if plain else ("is a zip archive without PyTorch weights", _UNPACK)


def _fault_of_tensors(path: Path, start: bytes, size: int) -> tuple[str, str]:
    """A file of safetensors: 8 bytes that say how long a JSON header is, the header, the tensors."""
    named, length = path.suffix.lower() == ".safetensors", int.from_bytes(start[:8], "little")
    looks = len(start) > 8 and start[8:9] == b"{" and length <= _MOST_HEADER
    if not looks:
        kind = "a pickled file" if start[:1] == b"\x80" else "something else"
        return (f"is named .safetensors and is {kind}", "give the file that safetensors wrote") if named else ("", "")
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
