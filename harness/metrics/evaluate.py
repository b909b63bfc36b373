"""The metrics of two sets of images, real and generated, without a study or a training."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from harness.code.engine import engine
from harness.data.features import batch_of, batches, load_clip, load_resnet, unit_range
from harness.data.sources.record import LeftOut
from harness.errors import DataError, HarnessError, MissingWeights, SpecError
from harness.metrics.cards import about_captions, about_real
from harness.metrics.folders import Name, Picture, copies, find_images, read_captions, read_images, same_files
from harness.metrics.in_memory import Images, captions_of, pictures_of
from harness.metrics.manifest import Extractor, extractor
from harness.metrics.measure import DISTANCES, Encode, against_captions, against_real
from harness.metrics.names import clashes, recorded
from harness.models import encoders
from harness.settings import MetricConfig

_log = logging.getLogger("harness")

Features = NDArray[np.float32]
Watch = Callable[[Iterable[Picture], int, str], Iterable[Picture]]
"""(images, how many, what they are) -> the same images; where progress is shown."""
_Measured = dict[str, tuple[float, dict[str, Any]]]
"""Recorded name -> value and card."""


@dataclass(frozen=True)
class Networks:
    """The networks that measure, and how they are run."""

    resnet: str = "torch_fidelity:inception-v3-compat"
    clip: str = MetricConfig.clip
    more: tuple[str, ...] = ()
    batch: int = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU, if torch finds one, else the processor; which one is told."""

    def __post_init__(self) -> None:
        """Raises SpecError."""
        names, batch = (self.resnet, self.clip, *self.more), self.batch
        if isinstance(self.more, str) or not all(isinstance(name, str) for name in names):
            wanted = "resnet and clip must be names, and more a tuple of names"
            raise SpecError(f"Networks: {wanted}, not {self.resnet!r}, {self.clip!r} and {self.more!r}")
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise SpecError(f"Networks: batch must be a whole number of 1 or more, not {batch!r}")
        if self.device not in ("auto", "cpu", "cuda"):
            fix = "the GPU that cuda means is chosen by CUDA_VISIBLE_DEVICES"
            raise SpecError(f"Networks: device must be auto, cpu or cuda, not {self.device!r}; {fix}")


@dataclass(frozen=True)
class Evaluation:
    """Recorded name -> value, and -> how it was measured."""

    metrics: dict[str, float]
    cards: dict[str, dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """{"metrics": {name: number}, "cards": {name: {"n", "n_real", "captions", "extractor",
        "extractor_fingerprint", "resize", "manifest"}}}, with what `about_real` and `about_captions` add to a card.
        """
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Encoded:
    """A folder as the networks see it."""

    features: tuple[Features, ...]
    """[N,d] by each network."""
    digest: str
    """Of the images' pixels, in order."""
    contents: tuple[bytes, ...]
    """Digest of each image's pixels."""


@dataclass(frozen=True, eq=False)
class _Given:
    """Images to be measured."""

    names: Sequence[Name]
    pictures: Iterable[Picture]
    captions: list[str]
    """One for each image; none where no caption metric is asked for."""


def evaluate(
    real: Path | Images, fake: Path | Images, captions: Path | Sequence[str] | None, networks: Networks, watch: Watch
) -> Evaluation:
    """Frechet and kernel distance by all image networks, precision and recall by the first, caption metrics by CLIP.

    An image is decoded once; every network resizes it from its own size. Precision and recall are left out below four
    images of either set and below four real ones that differ, R-precision where all captions are one, all caption
    metrics without captions. Raises DataError, MissingWeights and SpecError.
    """
    _check_names(networks)
    if captions is None and networks.clip != Networks.clip:
        _log.info(f"--clip {networks.clip}: measures nothing without captions; give captions, or leave it out")
    networks = replace(networks, device=_device(networks.device))
    one, other = _given("real", real, None), _given("generated", fake, captions)
    same = _are_same(one, other)

    names = (networks.resnet, *networks.more)
    options = {name: f"--{'more' if place else 'resnet'} {name}" for place, name in enumerate(names)}
    encode = {option: _load(load_resnet, name, option, networks).image for name, option in options.items()}
    of_clip = f"--clip {networks.clip}"
    clip = _load(load_clip, networks.clip, of_clip, networks) if other.captions else None
    reals = _encoded(one, "real", encode, networks, watch)
    fakes = _encoded(other, "generated", encode | ({of_clip: clip.image} if clip else {}), networks, watch)
    contents = (zip(*each, strict=True) for each in ((one.names, reals.contents), (other.names, fakes.contents)))
    first, second = map(dict, contents)
    for line in copies(first, {} if same else second):
        _log.warning(line)

    measured = _by_images(reals, fakes, [extractor(name) for name in names])
    if clip:
        measured |= _by_captions(fakes.features[-1], clip, other.captions, extractor(networks.clip))
    return Evaluation({name: it[0] for name, it in measured.items()}, {name: it[1] for name, it in measured.items()})


def _check_names(networks: Networks) -> None:
    """Raises SpecError for names of no network, and for two that would be called alike."""
    resnets = ("--resnet", networks.resnet), *(("--more", name) for name in networks.more)
    for option, name in (*resnets, ("--clip", networks.clip)):
        try:
            encoders.check(name, "clip" if option == "--clip" else "resnet")
        except ValueError as error:
            raise SpecError(f"{option} {name}: {error}") from error
        except OSError:
            pass  # a file that is not there: told where the network is loaded, if it is
    names = [name for _, name in resnets]
    for place in clashes(names):
        name = recorded("fd", names[place])
        raise SpecError(f"--more {names[place]}: would be called {name}, as another network is; name one of the two")


def _are_same(real: _Given, fake: _Given) -> bool:
    """Whether both are the very same files, which is told. Raises DataError where only some are in both."""
    files = [[name for name in each.names if isinstance(name, Path)] for each in (real, fake)]
    if not (all(files) and same_files(*files)):
        return False
    distances = "the Fréchet distance is 0 by that, the kernel distance 0 or less, as it is an unbiased estimate"
    _log.warning(f"real and generated images are the same files: {distances}; precision and recall are 1 if measured")
    return True


def _device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Where the networks run, which is told where nobody asked for it. Raises HarnessError."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise HarnessError(f"--device cuda: torch {torch.__version__} finds no GPU here; use --device cpu")
    if asked != "auto":
        return asked
    _log.info("measured on the %s", f"GPU ({torch.cuda.get_device_name()})" if there else "processor")
    return "cuda" if there else "cpu"


def _given(what: str, where: Path | Images, captions: Path | Sequence[str] | None) -> _Given:
    """The images of a folder, or those in memory, and their captions if any; what is passed over is logged."""
    if not isinstance(where, Path):
        pictures = pictures_of(what, where)
        names = [f"{what} image {place}" for place in range(len(pictures))]
        return _Given(names, pictures, [] if captions is None else captions_of(captions, len(names)))
    if captions is not None and not isinstance(captions, Path):
        raise DataError(f"captions: of images in a folder ({where}) must be a file or folder, not {type(captions)}")
    left_out = LeftOut()
    paths = find_images(where, left_out)
    texts = read_captions(captions, where, paths, left_out) if captions else []
    for line in left_out.lines():
        _log.info(f"{what} images in {where}: {line}")
    return _Given(paths, read_images(paths), texts)


def _load(load: Callable[[str, str], Any], name: str, option: str, networks: Networks) -> Any:
    try:
        return load(name, networks.device)
    except MissingWeights as error:
        word = option.partition(" ")[0]
        shipped = "embedded:clip-measure" if word == "--clip" else "embedded:resnet-measure"
        family, _, model = name.partition("@")[0].partition(":")
        given = "" if family == "embedded" else f"; with weights from a file: {word} {family}:{model}@FILE"
        raise MissingWeights(f"{option}: {error}{given}; a network that is shipped: {word} {shipped}") from error


def _encoded(given: _Given, what: str, encode: Mapping[str, Encode], networks: Networks, watch: Watch) -> _Encoded:
    """All images by each network, which an option names, a batch at a time; what is to be known of how they were read
    is logged. Raises DataError for features that are not finite."""
    rows: dict[str, list[Features]] = {option: [] for option in encode}
    contents, notes = list[bytes](), Counter[str]()
    waiting = iter(watch(given.pictures, len(given.names), what))
    while batch := list(islice(waiting, networks.batch)):
        notes.update(note for picture in batch for note in picture.notes)
        for option, features in zip(encode, _encode(batch, [*encode.values()], networks.device), strict=True):
            _check_finite(features, option, given.names[len(contents) :])
            rows[option].append(features)
        contents += [picture.content for picture in batch]
    for note, count in sorted(notes.items()):
        _log.warning(f"{count:,} of {len(contents):,} {what} images: {note}")
    digest = hashlib.sha256(b"".join(contents)).hexdigest()[:16]
    return _Encoded(tuple(np.concatenate(row) for row in rows.values()), digest, tuple(contents))


def _check_finite(features: Features, option: str, names: Sequence[object]) -> None:
    """`names` are of what the rows are of. Raises DataError."""
    if bad := [name for name, row in zip(names, features, strict=False) if not np.isfinite(row).all()]:
        problem = f"its features of {bad[0]} are not finite"
        raise DataError(f"{option}: {problem}: its weights are damaged or overflow; name another network")


def _encode(batch: Sequence[Picture], encoders: Sequence[Encode], device: str) -> Iterator[Features]:
    """[n,d] by each network; images of equal size go through it together, as many as fit into memory."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(batch):
        groups.setdefault(picture.pixels.shape, []).append(place)
    stacks = []
    for places in groups.values():
        for part in batches(len(places), batch_of(batch[places[0]].pixels[0].size)):
            stacks.append(np.stack([batch[place].pixels for place in places[part]]))
    order = np.argsort(np.concatenate(list(groups.values())))  # from groups back to the order of the batch
    with torch.inference_mode():
        for encode in encoders:
            # As floats one after another: photographs take four times their bytes.
            images = (unit_range(torch.from_numpy(stack).to(device)) for stack in stacks)
            yield torch.cat([encode(each).float().cpu() for each in images]).numpy()[order]


def _by_images(real: _Encoded, fake: _Encoded, networks: Sequence[Extractor]) -> _Measured:
    measured: _Measured = {}
    for place, network in enumerate(networks):
        sets = real.features[place], fake.features[place]
        values = against_real(*sets)
        counts = {"n": len(fake.contents), "n_real": len(real.contents), "captions": "none"}
        card = _card(network, counts, real.digest)
        card |= about_real(sets[0])
        for name in DISTANCES if place else values:
            measured[recorded(name, network.name)] = values[name], dict(card)
    return measured


def _by_captions(images: Features, clip: Any, texts: Sequence[str], network: Extractor) -> _Measured:
    # Each text once, so that equal captions have equal features to the last bit.
    places = {text: place for place, text in enumerate(sorted(set(texts)))}
    with torch.inference_mode():
        features = clip.text([*places]).float().cpu().numpy()[[places[text] for text in texts]]
    _check_finite(features, f"--clip {network.name}", [f"the caption {text!r}" for text in texts])
    measured: _Measured = {}
    for name, value in against_captions(images, features, seed=0).items():
        card = _card(network, {"n": len(images), "n_real": 0, "captions": "given"}, "\n".join(texts))
        measured[name] = value, card | about_captions(name, texts, features, network.name)
    return measured


def _card(network: Extractor, counts: dict[str, Any], against: str) -> dict[str, Any]:
    """The card; its manifest is equal for values that may be compared: same network, counts and real side."""
    identity = [network.fingerprint, network.resize, *counts.values(), against]
    return {
        **counts,
        "extractor": network.name,
        "extractor_fingerprint": network.fingerprint,
        "resize": network.resize,
        "engine": engine("measuring"),
        "manifest": hashlib.sha256(repr(identity).encode()).hexdigest()[:16],
    }
