"""Weights in files: read without running anything that they hold, and fetched once where they are published by URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from torch import Tensor

from harness.models import file_kinds
from harness.models.encoders import INCEPTION, Encoder, near, sha256

FAILURES = (
    AttributeError, EOFError, ImportError, IndexError, KeyError, OSError, RuntimeError, SafetensorError, StopIteration,
    TypeError, UnpicklingError, ValueError,
)  # fmt: skip
"""What the libraries raise for files that are not what they were taken for, and without network."""

_PICKLED = (
    "where you trust the file, load it with its own library and save its state_dict() by safetensors.torch.save_file"
)
_PUBLISHED = re.compile(r"-([0-9a-f]{8,})\.\w+$")


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

    known = zoo.list_models(module=zoo)
    if encoder.model not in known:
        text = f"torchvision classifies with no model {encoder.model!r}{near(encoder.model, known)}"
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
        torch.hub.download_url_to_file(file.url, str(path), promised(path), progress=False)
    check_content(path)
    return path


def promised(path: Path) -> str:
    """How the sha256 of a published file begins according to its name; empty for any other file."""
    match = _PUBLISHED.search(path.name)
    return match[1] if match else ""


def check_content(path: Path) -> None:
    """Raises ValueError for a file whose sha256 does not begin as its published name promises."""
    found = sha256(path)
    if not found.startswith(promised(path)):
        told = f"its sha256 begins with {found[:8]}, its name promises {promised(path)}"
        raise ValueError(f"{path} is damaged or another file ({told}); delete it, or rename it if it is meant")


def read(path: Path) -> dict[str, Tensor]:
    """The weights in a safetensors file or a PyTorch checkpoint, averaged ones first; no pickled code is ever run.

    Raises one of FAILURES.
    """
    from timm.models import load_state_dict

    state = load_state_dict(str(path), weights_only=True)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("it holds more than weights; save the state dict alone")
    return dict(state)


def check_kind(encoder: Encoder) -> None:
    """Raises ValueError for a local file that is seen to hold no weights without being loaded, such as a web page."""
    if told := file_kinds.refusal(encoder):
        raise ValueError(f"cannot load {_named(encoder)}: {told}")


def unusable(encoder: Encoder, error: Exception) -> ValueError:
    """What to tell the user when loading failed."""
    where = _named(encoder)
    if isinstance(error, UnpicklingError) or "pickle" in str(error):  # timm raises its own RuntimeError
        told = "it holds pickled code, which is never run, or no weights at all"
        return ValueError(f"cannot load {where}: {told}; convert it to safetensors: {_PICKLED}")
    advice = "give a file made for this model" if encoder.file else f"without network, give a local {_local(encoder)}"
    return ValueError(f"cannot load {where}: {error or type(error).__name__}; {advice}")


def _named(encoder: Encoder) -> str:
    return f"{encoder.family} {encoder.model} from {encoder.file or encoder.tag or 'its published weights'}"


def _local(encoder: Encoder) -> str:
    return "copy of the repository: NAME@FOLDER" if encoder.repository else "file: NAME@FILE"
