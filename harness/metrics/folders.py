"""Two folders of images from anyone: the images of each, their captions, and what the two have in common."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.decode import opaque, planes
from harness.data.image_files import IMAGE_SUFFIXES, is_image
from harness.data.reading import parse_json, read_file, read_text, walk
from harness.data.sources.matching import TEXT, Texts, expected_text
from harness.data.sources.record import LeftOut, text_lines
from harness.errors import DataError
from harness.text import are, quantity, without_halves

Name = Path | str
"""Of an image: its file, or its place among images in memory."""
_AHEAD = 64
"""Images decoded ahead of the networks: enough to keep the threads busy, 200 MB of photographs."""
NARROWEST = 32
"""How many times its shorter side the longer one of an image may be. Networks bring the shorter one to their own size:
what is narrower would take gigabytes by that, of which they see the square in the middle."""
HALVES = "with half a character (a surrogate), read as ?"


@dataclass(frozen=True)
class Picture:
    """A decoded image."""

    pixels: NDArray[np.uint8]
    """[3,H,W] RGB; what was transparent is white."""
    content: bytes
    """SHA-256 of size and pixels: equal for one picture in two files, whatever their formats."""
    notes: tuple[str, ...] = ()
    """What to know of how it was read, see `harness.data.decode`."""


# Images.


def find_images(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """All images in and below the folder, sorted by their path; what else is there is counted in `left_out`.

    Raises DataError for fewer than two.
    """
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {state}; give a folder that holds images")
    left_out = left_out or LeftOut()
    names = sorted(_visible(folder, left_out), key=Path.as_posix)
    images = [folder / name for name in names if is_image(name.name)]
    for name in names:
        if not is_image(name.name) and name.suffix.lower() != TEXT:
            left_out.add_file(name.as_posix())
    if len(images) < 2:
        others = "".join(f"; {line}" for line in left_out.lines()) or f" ({', '.join(IMAGE_SUFFIXES)})"
        raise DataError(
            f"{folder}: holds {quantity(len(images), 'image')}; at least 2 are needed, in it or below it{others}"
        )
    return images


def _visible(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Relative paths of the files that are not hidden; a linked folder is not entered."""
    for parent, folders, files in walk(folder):
        for name in folders:
            path = Path(parent, name).relative_to(folder)
            if name.startswith("."):
                left_out.add("hidden folder", "with all that is in it", path)
            elif (folder / path).is_symlink():
                left_out.add("linked folder", "with all that is in it", path)
        folders[:] = [name for name in folders if not name.startswith(".")]  # walk enters those that are left here
        for name in files:
            path = Path(parent, name).relative_to(folder)
            if not name.startswith("."):
                yield path
            elif is_image(name):
                left_out.add("hidden image", "whose name begins with a dot", path)


def read_images(paths: Sequence[Path]) -> Iterator[Picture]:
    """The images in order, decoded on threads a little ahead. Raises DataError naming the file."""
    ahead = deque[Future[Picture]]()
    with ThreadPoolExecutor() as pool:
        try:
            for path in paths:
                ahead.append(pool.submit(_read_image, path))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read_image(path: Path) -> Picture:
    notes: list[str] = []
    try:
        pixels = planes(opaque(read_file(path), tell=notes.append))
        refuse_narrow(pixels)
    except (OSError, DataError) as error:
        raise DataError(f"{path}: {error}; replace it or take it away") from error
    return picture_of(pixels, notes)


def refuse_narrow(pixels: NDArray[np.uint8]) -> None:
    """Raises DataError for an image [3,H,W] that no network can be shown sensibly."""
    height, width = pixels.shape[1:]
    if max(height, width, 1) > NARROWEST * min(height, width):
        raise DataError(f"{width} x {height} pixels; the longer side may be {NARROWEST} times the shorter one: crop it")


def picture_of(pixels: NDArray[np.uint8], notes: Sequence[str]) -> Picture:
    """Of pixels [3,H,W]."""
    content = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
    return Picture(pixels, content, tuple(notes))


# Captions.


def read_captions(source: Path, folder: Path, images: Sequence[Path], left_out: LeftOut | None = None) -> list[str]:
    """One caption for every image of the folder, in order.

    `source` is a text file of lines `relative/path<TAB>caption`, a JSON file {relative path: caption}, or a folder that
    holds `relative/path.txt` beside or instead of the image. Raises DataError naming what does not fit; texts of such a
    folder that belong to no image are counted in `left_out`.
    """
    keys, left_out = [path.relative_to(folder).as_posix() for path in images], left_out or LeftOut()
    captions = _from_folder(source, keys, left_out) if source.is_dir() else _from_file(source, folder, keys)
    for key in keys:
        if key not in captions:
            raise DataError(f"{source}: no caption for {key!r} of {folder}; every generated image needs one")
        if not captions[key]:
            raise DataError(f"{source}: the caption of {key!r} is empty")
        whole = without_halves(captions[key])
        left_out.note("caption", HALVES, f"{source}: {key}", whole != captions[key])
        captions[key] = whole
        if captions[key][0] == captions[key][-1] == '"':
            left_out.note("caption", "in quotation marks, taken with them", f"{source}: {key}")
        left_out.note_doubtful([captions[key]], f"{source}: {key}")
    return [captions[key] for key in keys]


def _from_folder(source: Path, keys: Sequence[str], left_out: LeftOut) -> dict[str, str]:
    files = (Path(parent, name) for parent, _, names in walk(source) for name in names)
    texts = Texts(keys, (path.relative_to(source).as_posix() for path in files if path.is_file()))
    for name in texts.unused():
        left_out.add("text", f"of {source} without an image of its name", name)
    captions = {}
    for key in keys:
        beside = texts.of(key)
        if beside is None:
            wanted, near = source / expected_text(key), texts.suggestion(key)
            raise DataError(f"{wanted}: {_state(wanted)}; every generated image needs its caption{near}")
        path = source / beside
        lines = [line.strip() for line in text_lines(_text(path)) if line.strip()]
        if len(lines) > 1:
            raise DataError(f"{path}: holds {len(lines)} captions; leave the one that the image was generated from")
        captions[key] = "".join(lines)
    return captions


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: {_state(path)}; every generated image needs its caption")
    return read_text(path).replace("\r\n", "\n").replace("\r", "\n")


def _state(path: Path) -> str:
    """Of what is no file."""
    return "is no regular file" if path.exists() else "no such file"


def _from_file(path: Path, folder: Path, keys: Sequence[str]) -> dict[str, str]:
    """Image's key -> caption. Raises DataError for a caption of no image and for a second one of an image."""
    exact, count = set(keys), Counter(map(_normal, keys))
    alike = {_normal(key): key for key in keys if count[_normal(key)] == 1}
    captions: dict[str, str] = {}
    for place, written, caption in _rows(path):
        key = written if written in exact else alike.get(_normal(written))
        if key is None:
            fix = f"keys are paths below it, such as {keys[0]!r}"
            raise DataError(f"{place}: {written!r} is no image in {folder}; {fix}")
        if key in captions:
            raise DataError(f"{place}: {written!r} has a caption already; give each image one")
        captions[key] = caption.strip()
    return captions


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Where each caption stands, the image's key as written, and the caption."""
    if path.suffix.lower() == ".json":
        captions = parse_json(_text(path), str(path))
        if not isinstance(captions, dict) or not all(isinstance(caption, str) for caption in captions.values()):
            raise DataError(f'{path}: must be an object of texts, {{"relative/path.png": "caption"}}')
        yield from ((str(path), key, caption) for key, caption in captions.items())
        return
    for number, line in enumerate(_text(path).split("\n"), start=1):
        key, tab, caption = line.partition("\t")
        if line.strip() and not tab:
            raise DataError(f"{path}:{number}: must be a relative path, a tab and a caption, not {line[:60]!r}")
        if line.strip():
            yield f"{path}:{number}", key, caption


def _normal(key: str) -> str:
    """Equal for paths that differ only in their separators, how accents are composed or the case of the suffix."""
    root, suffix = posixpath.splitext(posixpath.normpath(key.replace("\\", "/")))
    return unicodedata.normalize("NFC", root) + suffix.lower()


# What both folders hold: such a set is smaller than it looks.


def same_files(real: Sequence[Path], fake: Sequence[Path]) -> bool:
    """Whether both are the very same files, under whatever names. Raises DataError where only some are in both."""
    files, others = set(map(_identity, real)), set(map(_identity, fake))
    if files == others:
        return True
    if both := [path for path in fake if _identity(path) in files]:
        count = (
            f"{len(both):,} of {len(fake):,} generated images {are(len(both))} also among the {len(real):,} real ones"
        )
        raise DataError(f"{count}, such as {both[0]}; keep the folders apart, neither inside the other")
    return False


def _identity(path: Path) -> tuple[int, int] | Path:
    """Equal for one file, whatever links lead to it."""
    with contextlib.suppress(OSError):  # reported when the image is read
        state = path.stat()
        return state.st_dev, state.st_ino
    return path


def copies(real: Mapping[Name, bytes], fake: Mapping[Name, bytes]) -> Iterator[str]:
    """A line for the copies within either set, and for those of one set in the other; image -> its `content`."""
    for what, images in (("real", real), ("generated", fake)):
        first: dict[bytes, Name] = {}
        pairs = [(path, one) for path, content in images.items() if (one := first.setdefault(content, path)) != path]
        if pairs:
            copied = "is a copy of another" if len(pairs) == 1 else "are copies of others"
            yield f"{len(pairs):,} of {len(images):,} {what} images {copied}, such as {pairs[0][0]} and {pairs[0][1]}"
    by_content = {content: path for path, content in real.items()}
    if both := [path for path, content in fake.items() if content in by_content]:
        real_too = "is also a real one" if len(both) == 1 else "are also real ones"
        count = f"{len(both):,} of {len(fake):,} generated images {real_too}, pixel by pixel"
        yield f"{count}, such as {both[0]} and {by_content[fake[both[0]]]}: distances are too small by that"
