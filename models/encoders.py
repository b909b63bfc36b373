"""Frozen encoders by name: what a name means, whether it can be loaded, what identifies its weights. Without torch.

Names: `embedded:clip-guide` and its like; `open_clip:ARCH/TAG`; `timm:MODEL`; and with weights from a local file
`open_clip:ARCH/TAG@FILE` (the tag then only says how images are prepared), `open_clip:ARCH@FILE`, `timm:MODEL@FILE`.
Wrong names raise ValueError, missing files FileNotFoundError, both with a message that says what to do.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.weights import FOLDER

if TYPE_CHECKING:
    from models.frozen import Clip, Resnet

Kind = Literal["clip", "resnet"]
EMBEDDED: dict[str, Kind] = {
    "clip-guide": "clip",
    "clip-measure": "clip",
    "resnet-guide": "resnet",
    "resnet-measure": "resnet",
}
_FAMILIES: dict[str, tuple[str, tuple[Kind, ...]]] = {
    "embedded": ("", ("clip", "resnet")),
    "open_clip": ("open_clip_torch", ("clip",)),
    "timm": ("timm", ("resnet",)),
}


@dataclass(frozen=True)
class Encoder:
    """A name taken apart."""

    family: str
    model: str
    tag: str = ""
    """The pretrained tag of open_clip; empty for the other families."""
    file: Path | None = None
    """Local weights, or None for the family's own."""


def parse(name: str) -> Encoder:
    """Takes a name apart. Raises ValueError."""
    family, colon, rest = name.partition(":")
    if not colon or family not in _FAMILIES:
        allowed = [f"{known}:" for known in _FAMILIES]
        raise ValueError(f"encoder {name!r}: it must begin with one of {', '.join(allowed)}{near(family, _FAMILIES)}")
    model, at, path = rest.partition("@")
    tag = ""
    if family == "open_clip":
        model, _, tag = model.partition("/")
    if not model or (at and not path):
        raise ValueError(f"encoder {name!r}: nothing follows {':' if not model else '@'}; write {_FORMS[family]}")
    if family == "open_clip" and not tag and not at:
        raise ValueError(f"encoder {name!r} names no weights; write {_FORMS[family]}, such as open_clip:{model}/openai")
    return Encoder(family, model, tag, Path(path).expanduser() if at else None)


_FORMS = {
    "embedded": " or ".join(f"embedded:{name}" for name in EMBEDDED),
    "open_clip": "open_clip:ARCH/TAG or open_clip:ARCH/TAG@FILE",
    "timm": "timm:MODEL or timm:MODEL@FILE",
}


def check(name: str, kind: Kind | None = None) -> None:
    """Raises ValueError or FileNotFoundError where loading would: malformed or unknown name, wrong kind, no such file.

    `kind` is the use: "clip" for image and text features, "resnet" for image features. Weights that a library would
    download are not looked for.
    """
    encoder = parse(name)
    kinds = _FAMILIES[encoder.family][1]
    if encoder.family == "embedded":
        if encoder.model not in EMBEDDED:
            hint = near(encoder.model, EMBEDDED)
            raise ValueError(f"encoder {name!r} is not embedded: allowed is {', '.join(EMBEDDED)}{hint}")
        kinds = (EMBEDDED[encoder.model],)
    if kind and kind not in kinds:
        raise ValueError(f"encoder {name!r} is a {kinds[0]}; a {kind} is needed here, such as embedded:{kind}-guide")
    for path in _files(encoder):
        if not path.is_file():
            fix = "reinstall the package or run `make weights`" if encoder.family == "embedded" else "correct the path"
            raise FileNotFoundError(f"encoder {name!r}: no file {path}; {fix}")


def fingerprint(name: str) -> str:
    """16 hex digits that change with the weights: of the files' content, or of name and library version for a download.

    Raises as `check` does.
    """
    check(name)
    encoder = parse(name)
    digest = hashlib.sha256(f"{encoder.family}:{encoder.model}/{encoder.tag}".encode())
    for path in _files(encoder):
        state = path.stat()
        digest.update(_content(path, state.st_size, state.st_mtime_ns))
    if not _files(encoder):
        digest.update(metadata.version(_FAMILIES[encoder.family][0]).encode())
    return digest.hexdigest()[:16]


def is_published_inception(name: str) -> bool:
    """Whether this is the Inception network, with its published weights, that FID and KID are defined by."""
    return name == "torch_fidelity:inception-v3-compat"


def load_clip(name: str, device: str = "cpu") -> Clip:
    """The frozen CLIP of that name. Raises as `check` does, and ValueError for weights that do not fit."""
    check(name, "clip")
    from models import frozen

    return frozen.clip(parse(name), fingerprint(name)).to(device)


def load_resnet(name: str, device: str = "cpu") -> Resnet:
    """The frozen ResNet of that name. Raises as `check` does, and ValueError for weights that do not fit."""
    check(name, "resnet")
    from models import frozen

    return frozen.resnet(parse(name), fingerprint(name)).to(device)


def _files(encoder: Encoder) -> list[Path]:
    if encoder.family == "embedded":
        return [FOLDER / f"{encoder.model}.json", FOLDER / f"{encoder.model}.safetensors"]
    return [encoder.file] if encoder.file else []


def near(value: str, allowed: Iterable[str]) -> str:
    """A hint for an error message, empty where nothing resembles the value."""
    nearest = difflib.get_close_matches(value, list(allowed), n=1, cutoff=0.4)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


@functools.lru_cache(maxsize=32)
def _content(path: Path, size: int, modified: int) -> bytes:
    """The digest of a file; size and time of change make the memory forget a file that was replaced."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
