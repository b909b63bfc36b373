"""Encoders by name: what a name means, whether it can be loaded, what identifies its weights.

    embedded:clip-guide                 one of the four that ship with the package
    open_clip:ARCH/TAG                  open_clip:hf-hub:ORG/NAME
    timm:MODEL                          timm:hf-hub:ORG/NAME
    torchvision:MODEL
    torch_fidelity:inception-v3-compat  measures only

With `@FILE` at the end the weights come from a local file; `hf-hub:ORG/NAME@FOLDER` reads a local copy of the
repository. In `open_clip:ARCH/TAG@FILE` the tag only says how images are prepared; `open_clip:ARCH@FILE` does without
where all published weights of ARCH agree. Wrong names raise ValueError, missing files FileNotFoundError; both say what
to do.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["clip", "resnet"]
EMBEDDED: dict[str, Kind] = {
    "clip-guide": "clip",
    "clip-measure": "clip",
    "resnet-guide": "resnet",
    "resnet-measure": "resnet",
}
FOLDER = Path(__file__).parent.parent / "weights"
"""The files of embedded weights, encoders' and others; `README.md` in it says what they are and how good."""
INCEPTION = "inception-v3-compat"
INCEPTION_HASH = "6726825d"
"""The published Inception's sha256 begins so: torch-fidelity puts it into the file's name."""
HUB = "hf-hub:"


class Family(NamedTuple):
    """Encoders that one library loads."""

    package: str
    """What it is installed as; its version identifies weights that are downloaded."""
    kind: Kind | None
    """None where each model has its own."""
    forms: str
    """How its names are written."""
    hub_config: str = ""
    """What describes a model in a repository of the Hugging Face hub; empty where the library reads none."""


FAMILIES: dict[str, Family] = {
    "embedded": Family("", None, " or ".join(f"embedded:{name}" for name in EMBEDDED)),
    "open_clip": Family(
        "open_clip_torch",
        "clip",
        "open_clip:ARCH/TAG, open_clip:ARCH/TAG@FILE or open_clip:hf-hub:ORG/NAME",
        "open_clip_config.json",
    ),
    "timm": Family("timm", "resnet", "timm:MODEL, timm:MODEL@FILE or timm:hf-hub:ORG/NAME", "config.json"),
    "torchvision": Family("torchvision", "resnet", "torchvision:MODEL or torchvision:MODEL@FILE"),
    "torch_fidelity": Family(
        "torch-fidelity", "resnet", f"torch_fidelity:{INCEPTION} or torch_fidelity:{INCEPTION}@FILE"
    ),
}
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
"""How files of weights end, the preferred form first."""
_DESCRIBING = (".json", ".txt", ".model", ".bpe", ".vocab", ".jinja")
"""How the files of a repository end that decide what a model does with its weights: settings, words of a tokenizer."""


@dataclass(frozen=True)
class Encoder:
    """A name taken apart."""

    family: str
    model: str
    tag: str = ""
    """The pretrained tag of open_clip; empty for the other families."""
    file: Path | None = None
    """Local weights, or None for the family's own; of a model on the hub the folder with a copy of its repository."""

    @property
    def repository(self) -> str:
        """ORG/NAME of a model that is read from the Hugging Face hub by that name; else empty."""
        hub = FAMILIES[self.family].hub_config and self.model.startswith(HUB)
        return self.model.removeprefix(HUB) if hub else ""

    @property
    def weights(self) -> Path | None:
        """The local file of weights; None for what a library downloads and for a folder without one."""
        if not self.file or not self.file.is_dir():
            return self.file
        candidates = sorted(path for path in self.file.iterdir() if path.suffix in _WEIGHTS)
        return min(candidates, key=lambda path: _WEIGHTS.index(path.suffix), default=None)

    @property
    def files(self) -> list[Path]:
        """What its features are read from on this machine; empty for what a library downloads."""
        if self.family == "embedded":
            return [FOLDER / f"{self.model}.json", FOLDER / f"{self.model}.safetensors"]
        if self.repository and self.file:
            return sorted(path for path in self.file.iterdir() if path.suffix in (*_DESCRIBING, *_WEIGHTS))
        return [self.file] if self.file else []


def parse(name: str) -> Encoder:
    """Takes a name apart. Raises ValueError."""
    family, colon, rest = name.partition(":")
    if not colon or family not in FAMILIES:
        allowed = ", ".join(f"{each}:" for each in FAMILIES)
        raise ValueError(f"encoder {name!r}: it must begin with one of {allowed}{near(family, FAMILIES)}")
    model, at, path = rest.partition("@")
    tag, forms = "", FAMILIES[family].forms
    if family == "open_clip" and not model.startswith(HUB):
        model, _, tag = model.partition("/")
    if not model or (at and not path):
        raise ValueError(f"encoder {name!r}: nothing follows {':' if not model else '@'}; write {forms}")
    if at and family == "embedded":
        raise ValueError(f"encoder {name!r}: embedded weights come with the package; leave out @{path}")
    encoder = Encoder(family, model, tag, Path(os.path.expanduser(path)) if at else None)
    if model.startswith(HUB) and not re.fullmatch(r"[\w.-]+/[\w.-]+", encoder.repository):
        raise ValueError(f"encoder {name!r} names no repository of the hub; write {forms}")
    if family == "open_clip" and not tag and not at and not encoder.repository:
        raise ValueError(f"encoder {name!r} names no weights; write {forms}, such as open_clip:{model}/openai")
    return encoder


def with_path_in(name: str, folder: Path) -> str:
    """The name with the path after its @, if there is one, as one that begins at `folder`."""
    model, at, path = name.partition("@")
    return f"{model}@{folder / os.path.expanduser(path)}" if at and path else name


def kind_of(name: str) -> Kind:
    """Whether that is a CLIP or a network of images alone. Raises ValueError for what is neither."""
    encoder = parse(name)
    if kind := FAMILIES[encoder.family].kind:
        return kind
    if encoder.model not in EMBEDDED:
        hint = near(encoder.model, EMBEDDED)
        raise ValueError(f"encoder {name!r} is not embedded: allowed is {', '.join(EMBEDDED)}{hint}")
    return EMBEDDED[encoder.model]


def check(name: str, kind: Kind | None = None) -> None:
    """Raises ValueError or FileNotFoundError where loading would: malformed or unknown name, wrong kind, no such file.

    `kind` is the use: "clip" for image and text features, "resnet" for image features, None for those of any network.
    Weights that a library would download are not looked for.
    """
    encoder, own = parse(name), kind_of(name)
    if encoder.family == "torch_fidelity" and encoder.model != INCEPTION:
        raise ValueError(f"encoder {name!r}: torch_fidelity has no such network here; allowed is {INCEPTION}")
    if kind and kind != own:
        raise ValueError(f"encoder {name!r} is a {own}; a {kind} is needed here, such as embedded:{kind}-guide")
    if encoder.repository and encoder.file:
        config = FAMILIES[encoder.family].hub_config
        if not (encoder.file / config).is_file() or not encoder.weights:
            fix = f"copy the repository there: hf download {encoder.repository} --local-dir {encoder.file}"
            what = f"{encoder.file} is no folder with {config} and a weights file"
            raise FileNotFoundError(f"encoder {name!r}: {what}; {fix}")
    for path in encoder.files:
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
    if is_published_inception(name):  # one network, whether downloaded or read from a file of any name
        digest.update(INCEPTION_HASH.encode())
        return digest.hexdigest()[:16]
    for path in encoder.files:
        digest.update(bytes.fromhex(sha256(path)))
    if not encoder.files:
        digest.update(metadata.version(FAMILIES[encoder.family].package).encode())
    return digest.hexdigest()[:16]


def is_published_inception(name: str) -> bool:
    """Whether features are those of the Inception that the Frechet Inception distance is defined by.

    True for the download, and for a local file whose sha256 begins with the published hash, whatever it is called;
    False for every other encoder and for a file that is not there. Raises ValueError for a name that means nothing.
    """
    encoder = parse(name)
    if (encoder.family, encoder.model) != ("torch_fidelity", INCEPTION):
        return False
    return encoder.file is None or (encoder.file.is_file() and sha256(encoder.file).startswith(INCEPTION_HASH))


@functools.cache
def side_of(name: str) -> int:
    """Side in pixels of the images that it gets, as far as a file here says it; 0 where only its library knows.

    Raises ValueError for a name that means nothing.
    """
    encoder = parse(name)
    if encoder.family == "embedded":
        return int(json.loads((FOLDER / f"{encoder.model}.json").read_text(encoding="utf-8"))["size"])
    if encoder.family == "open_clip" and (library := importlib.util.find_spec("open_clip")) and library.origin:
        config = Path(library.origin).with_name("model_configs") / f"{encoder.model}.json"  # nothing is imported
        if config.is_file():
            return int(json.loads(config.read_text(encoding="utf-8"))["vision_cfg"]["image_size"])
    return 0


def near(value: str, allowed: Iterable[str]) -> str:
    """A hint for an error message, empty where nothing resembles the value."""
    nearest = difflib.get_close_matches(value, list(allowed), n=1, cutoff=0.4)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def sha256(path: Path) -> str:
    """The digest of a file's content in hex; read once as long as the file stays as it is."""
    state = path.stat()
    # The time of change of the inode (ctime) is the one that nobody can set as they like.
    return _sha256(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, stamp: tuple[int, ...]) -> str:
    """`stamp` makes the cache forget a file that was replaced."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
