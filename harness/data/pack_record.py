"""What a packed study tells of its data and networks, which are not in the pack: `runs/LABEL/pack.json`.

Where that file is, whatever only looks at a study takes fingerprints and counts from it, in place of the data, of files
of weights and of what a machine has prepared. What trains reads the data and the weights themselves.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.data.caption_counts import Counts
from harness.data.dataset import without_split
from harness.data.packed import Index
from harness.files import read
from harness.models.encoders import with_path_in
from harness.settings import DataConfig, InitConfig
from harness.text import with_folder_as
from harness.trees import leaves

NAME = "pack.json"
_T = TypeVar("_T")
Layers = dict[str, dict[str, dict[str, Any]]]
"""Run id -> network -> what becomes of its layers where `init` names weights."""


@dataclass(frozen=True)
class PackRecord:
    """The content of pack.json. A key that stands for settings is one of their `spellings`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "extra": "forbid"}

    study: str = ""
    """Name of the study file."""
    data: dict[str, str] = field(default_factory=dict)
    """Settings of `data` -> fingerprint."""
    encoders: dict[str, str] = field(default_factory=dict)
    """Name of a network -> fingerprint of its weights."""
    captions: dict[str, str] = field(default_factory=dict)
    """File of `metrics.captions` -> fingerprint."""
    init: dict[str, dict[str, str]] = field(default_factory=dict)
    """Settings of `init` -> dotted setting -> fingerprint of what it names."""
    indexes: dict[str, Index] = field(default_factory=dict)
    """Fingerprint of data -> its counts; the list of bad images is left out."""
    counts: dict[str, Counts] = field(default_factory=dict)
    """Fingerprints of captions and of a CLIP, with a space between -> how that CLIP reads them."""
    layers: Layers = field(default_factory=dict)
    """What `harness plan` tells of runs that start from other weights."""
    features: dict[str, dict[str, str]] = field(default_factory=dict)
    """Fingerprint of a CLIP -> caption of the sample sheet -> its text feature: float32, little-endian, in base64."""
    generators: bool = True
    """Whether the generators of the runs are in the pack."""


@dataclass(frozen=True)
class Pack:
    """A record of a study whose file is in `folder`."""

    record: PackRecord
    folder: Path

    def data(self, config: DataConfig) -> str | None:
        """The fingerprint of the data of these settings; None where the record does not tell."""
        return _first(self.record.data, spellings(changed(config), self.folder))

    def encoder(self, name: str) -> str | None:
        """The fingerprint of the weights of a network; None where the record does not tell."""
        return _first(self.record.encoders, spellings(name, self.folder))

    def network(self, fingerprint: str) -> str | None:
        """The name of the network whose weights have that fingerprint, with its place on this machine, which may be
        empty; None where the record does not tell."""
        names = (json.loads(key) for key, known in self.record.encoders.items() if known == fingerprint)
        return next((with_path_in(name, self.folder) for name in names), None)

    def captions(self, path: str) -> str | None:
        """The fingerprint of a file of captions; None where the record does not tell."""
        return _first(self.record.captions, spellings(path, self.folder))

    def init(self, config: InitConfig) -> dict[str, str] | None:
        """Dotted setting -> fingerprint of what a run starts from; None where the record does not tell."""
        return _first(self.record.init, spellings(changed(config), self.folder))

    def index(self, data: str) -> Index | None:
        """Counts of the data with that fingerprint; None where the record does not tell."""
        return self.record.indexes.get(without_split(data))

    def counts(self, captions: str, clip: str) -> Counts | None:
        """How the CLIP of that name reads captions, by the fingerprint of their data or file."""
        return self.record.counts.get(counts_key(captions, self.encoder(clip) or ""))


def read_pack(root: Path, folder: Path) -> Pack | None:
    """The pack that the runs in `root` came from, of a study whose file is in `folder`; None if they came from none.

    Raises RecordError.
    """
    if not root.is_dir():  # a file there has a message of its own
        return None
    record = read(root / NAME, PackRecord, "unpack the study again, or delete the file where the data is here")
    return None if record is None else Pack(record, folder)


def spellings(value: Any, folder: Path) -> tuple[str, ...]:
    """A text or plain settings as JSON, in the ways in which another machine may have the same.

    Paths in `folder` begin there; a path in the user's home stands once as it is and once with `~`.
    """
    inside = with_folder_as(value, folder, "")
    forms = (inside, with_folder_as(inside, Path.home(), "~"))
    return tuple(dict.fromkeys(json.dumps(form, sort_keys=True, ensure_ascii=False) for form in forms))


def changed(config: DataConfig | InitConfig) -> dict[str, Any]:
    """Dotted setting -> value, without defaults: a version with one more setting has the same."""
    default = dict(leaves(asdict(type(config)())))
    return {path: value for path, value in leaves(asdict(config)) if value != default[path]}


def _first(known: Mapping[str, _T], keys: Sequence[str]) -> _T | None:
    return next((known[key] for key in keys if key in known), None)


def counts_key(captions: str, clip: str) -> str:
    """Under which `PackRecord.counts` has what a CLIP, by its fingerprint, reads of captions, by theirs."""
    return f"{without_split(captions)} {clip}"


def as_text(feature: NDArray[np.float32]) -> str:
    """A feature [F] as `PackRecord.features` has it."""
    return base64.b64encode(np.asarray(feature, "<f4").tobytes()).decode()


def as_feature(text: str) -> NDArray[np.float32]:
    """The feature [F] that `as_text` made a text of. Raises ValueError."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
