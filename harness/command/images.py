"""The images that a script has left, in the place of a generator."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from harness.data.decode import opaque, planes
from harness.data.features import unit_range
from harness.data.image_files import is_image
from harness.errors import DataError
from harness.text import quantity, shortened

_WITH_OPACITY = "has transparent pixels, which are shown on white"


class Images:
    """One image for each line of prompts.jsonl, by its number: `17.png` or `000017.png`, or another image format."""

    def __init__(self, folder: Path, count: int, side: int) -> None:
        """Raises DataError where one is missing, there are two of one number, or `folder` is a file."""
        self.folder, self.side = folder, side
        self.notes: Counter[str] = Counter()
        """How images were read that are not plain RGB, and how many."""
        self._paths: dict[int, Path] = {}
        self._content = hashlib.sha256()
        others = 0
        if (folder.is_symlink() or folder.exists()) and not folder.is_dir():
            raise DataError(f"{folder}: is no folder; the script must leave it, and write its images into it")
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            is_number = path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 10
            if not (is_number and int(path.stem) < count and is_image(path.name) and path.is_file()):
                others += not path.is_dir()
            elif (first := self._paths.setdefault(int(path.stem), path)) != path:
                raise DataError(f"{folder}: {first.name} and {path.name} are both number {int(path.stem)}; leave one")
        missing = [f"{number:06d}.png" for number in range(count) if number not in self._paths]
        if missing:
            what = f"{len(missing):,} of {count:,} images are missing: {shortened(missing, 3)}"
            more = f" ({quantity(others, 'other file')} there)" if others else ""
            raise DataError(f"{folder}: {what}{more}; one is needed for each line of prompts.jsonl, named by its index")
        if others:
            self.notes["files that are no image of a line of prompts.jsonl"] = others

    @property
    def digest(self) -> str:
        """SHA-256 over the pixels of all images that were read so far, in their order."""
        return self._content.hexdigest()

    def __call__(self, z: Tensor, h: Tensor) -> Tensor:
        """The images [n,3,R,R] in [-1,1] whose numbers are h [n,1]; z is not read. Raises DataError."""
        rows = [self._read(self._paths[int(number)]) for number in h[:, 0].tolist()]
        return unit_range(torch.stack(rows).to(z.device))

    def _read(self, path: Path) -> Tensor:
        notes: list[str] = []
        try:
            encoded = path.read_bytes()
            picture = opaque(encoded, tell=notes.append)
            with Image.open(io.BytesIO(encoded)) as stored:
                notes += [_WITH_OPACITY] if stored.has_transparency_data else []
        except (OSError, DataError) as error:
            raise DataError(f"{path}: {error}") from error
        if picture.size != (self.side, self.side):
            width, height = picture.size
            fix = f"the script must write images of data.resolution, {self.side} x {self.side}"
            raise DataError(f"{path}: {width} x {height} pixels; {fix}")
        self.notes.update(f"images: {note}" for note in notes)
        pixels = planes(picture)
        self._content.update(pixels.tobytes())
        return torch.from_numpy(pixels)
