"""Images of a run: the fixed sample grid of every snapshot, and images for any prompt once it is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.data import features, token_features
from harness.data.batches import Corpus, pseudo_text
from harness.data.caption_counts import content
from harness.data.dataset import Dataset
from harness.data.features import load_clip, to_bytes, to_unit_range
from harness.data.pack_record import Pack, as_feature, read_pack
from harness.errors import MissingWeights, RecordError, SpecError
from harness.files import replacing, write_text
from harness.frozen_networks import reads
from harness.ideas.load import load_ideas
from harness.metrics.measure import quantise
from harness.models.generator import Generator
from harness.rng import numpy_generator, torch_generator
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.runs.weights import refuse_of_another
from harness.settings import Settings
from harness.text import is_utf8
from harness.training.checkpoint import Damaged, read_tensors

COUNT = 16
SHOWN_PIXELS = 256
"""An image for a prompt is enlarged to about so many pixels, where nobody says how much."""
Generate = Callable[..., Tensor]
"""(z [n,Z], h [n,F]) -> images [n,3,R,R]; `tokens=` [n,T,F] where ideas read them."""


@dataclass(frozen=True, eq=False)
class GridColumns:
    """What the columns of the sample grid stand for, the same in every run."""

    ids: tuple[int | None, ...]  # COUNT held-out images, None for a caption of no image
    captions: tuple[str | None, ...]  # None for an image that has none
    real: Tensor  # [COUNT,3,R,R] in [-1,1], white for a caption of no image

    def write_real(self, folder: Path) -> None:
        """real.png and captions.json."""
        folder.mkdir(parents=True, exist_ok=True)
        save_row(self.real, folder / "real.png")
        rows = [{"caption": c, "image_id": i} for c, i in zip(self.captions, self.ids, strict=True)]
        write_text(folder / "captions.json", json.dumps(rows, indent=1) + "\n")


@dataclass(frozen=True, eq=False)
class SampleGrid(GridColumns):
    """Captions and latents, the same at every snapshot of every run."""

    conditions: Tensor  # [COUNT,F], guide CLIP text features, or pseudo ones of images without a caption
    latents: Tensor  # [COUNT,Z]
    tokens: Tensor | None = None  # [COUNT,T,F] of the captions, zeros without one; None unless ideas read them

    def write(self, generate: Generate, path: Path, device: str) -> None:
        """Draw the grid with a generator on `device`."""
        save_row(quantise(self.draw(generate, device)), path)

    def draw(self, generate: Generate, device: str) -> Tensor:
        """Its images [COUNT,3,R,R] by a generator on `device`."""
        tokens = {} if self.tokens is None else {"tokens": self.tokens.to(device)}
        with torch.inference_mode():
            return generate(self.latents.to(device), self.conditions.to(device), **tokens)


def grid_columns(dataset: Dataset, seed: int, given: Sequence[str]) -> GridColumns:
    """The first `given` captions, then a seeded choice of held-out images with their main captions, then of held-out
    images without one. `seed` is that of the metrics."""
    lines = tuple(given[:COUNT])
    held_out = numpy_generator(seed, "sample grid").permutation(dataset.held_out)
    there = np.array([bool(dataset.captions[image]) for image in held_out], bool)
    chosen = np.concatenate([held_out[there], held_out[~there]])[: COUNT - len(lines)]
    real = to_unit_range(dataset.images[chosen], "cpu")
    return GridColumns(
        ids=(*(None for _ in lines), *chosen.tolist()),
        captions=(*lines, *((*dataset.captions[image], None)[0] for image in chosen)),
        real=torch.cat([torch.ones(len(lines), *real.shape[1:]), real]) if lines else real,
    )


def make_grid(corpus: Corpus, settings: Settings, given: Sequence[str] = (), device: str = "cpu") -> SampleGrid:
    """The columns, and what the generator makes their images from."""
    seed = settings.metrics.seed
    columns = grid_columns(corpus.dataset, seed, given)
    chosen = np.array([image for image in columns.ids if image is not None], np.int64)
    text = torch.from_numpy(corpus.text.of(chosen, np.zeros_like(chosen)))
    rng, latents = torch_generator(seed, "sample pseudo text"), torch_generator(seed, "sample latents")
    pseudo = pseudo_text(torch.from_numpy(corpus.frozen["f_c"][chosen]), settings.condition.pseudo_noise, rng)
    conditions = torch.where(torch.from_numpy(corpus.text.has(chosen))[:, None], text, pseudo)
    tokens = corpus.tokens and [corpus.tokens.of(corpus.text.rows(chosen, np.zeros_like(chosen)))]
    if lines := len(columns.ids) - len(chosen):
        prompts = features.given_text(given, content(given), settings.encoders.clip, device)
        conditions = torch.cat([torch.from_numpy(np.array(prompts[:lines])), conditions])
        if tokens:
            stored = token_features.given_tokens(given, content(given), settings.encoders.clip, device)
            tokens.insert(0, stored.of(np.arange(lines)))
    return SampleGrid(
        **vars(columns),
        conditions=conditions,
        latents=torch.randn(len(conditions), settings.generator.z_dim, generator=latents),
        tokens=torch.from_numpy(np.concatenate(tokens)) if tokens else None,
    )


def sample(folder: Path, prompts: Sequence[str], out: Path, seed: int = 0, scale: int | None = None) -> str:
    """Write one image per prompt, side by side, to the PNG `out`, each pixel as `scale` x `scale`; what was done.

    Pixels are repeated whole, so nothing is blurred: by default as often as brings an image near to `SHOWN_PIXELS`.

    Latents come from `seed`: the same seed gives the same latent at the same place. Raises RecordError when the run
    has no trained generator yet.
    """
    images = generate(folder, prompts, seed)
    real = images.shape[-1]
    by = max(1, SHOWN_PIXELS // real) if scale is None else scale
    save_row(images.repeat_interleave(by, 2).repeat_interleave(by, 3), out)
    return f"images of {real} x {real} px" + (f", each pixel shown as {by} x {by} (--scale {by})" if by > 1 else "")


def generate(folder: Path, prompts: Sequence[str], seed: int = 0) -> Tensor:
    """One image per prompt [N,3,R,R] in [-1,1], from the run.json and generator.safetensors in `folder`."""
    if bad := next((prompt for prompt in prompts if not is_utf8(prompt)), ""):
        raise SpecError(f"the prompt {bad!r} holds half a character, which no network reads; write it again in UTF-8")
    run = RunFolder(folder).run()
    if run.settings.command.run:
        work = folder / "script"
        where = f"{work / 'samples'}, numbered as the lines of {work / 'prompts.jsonl'}"
        more = "images for other prompts are the script's own to make"
        raise RecordError(f"{folder}: a script trained this run; its images are {where}; {more}")
    settings, path, ideas = run.settings, folder / "generator.safetensors", load_ideas(run)
    pack = read_pack(folder.parent, folder.parent.parent.parent)
    if not path.exists():
        fix = "the run has to finish first (see `harness status`)"
        if pack and not pack.record.generators:
            fix = "the study was packed without generators (--no-weights)"
        raise RecordError(f"{path}: not there; {fix}")
    refuse_of_another(path, run.id)
    # The run names the place that the weights had where it was trained.
    clip = (pack and pack.network(run.fingerprints.get("encoders.clip", ""))) or settings.encoders.clip
    with_tokens = reads(settings, "h_tokens")
    conditions = _conditions(run, prompts, clip, None if with_tokens else pack)
    with ideas.explained("building the generator"):
        own = ideas.modules().of("generator")
        generator = Generator(settings.generator, settings.data.resolution, conditions.shape[1], own).eval()
    try:
        generator.load_state_dict(read_tensors(path)[0])
    except Damaged as error:
        raise RecordError(f"{path}: {error}; delete the run's folder and run it again") from error
    except RuntimeError as error:
        raise RecordError(f"{path}: made by another version or with another encoder; run it again") from error
    latents = torch.randn(len(prompts), settings.generator.z_dim, generator=torch_generator(seed, "sample"))
    tokens = token_features.tokens_of(prompts, clip) if with_tokens else None
    with ideas.explained("drawing images"), torch.inference_mode():
        return quantise(generator(latents, conditions, tokens=tokens))


def _conditions(run: Run, prompts: Sequence[str], clip: str, pack: Pack | None) -> Tensor:
    """Text features [N,F] of the prompts by the CLIP of that name, or those that the study's pack has of them.

    Raises MissingWeights.
    """
    packed = pack.record.features.get(run.fingerprints.get("encoders.clip", ""), {}) if pack else {}
    if all(prompt in packed for prompt in prompts):
        return torch.from_numpy(np.stack([as_feature(packed[prompt]) for prompt in prompts]))
    try:
        with torch.inference_mode():
            return load_clip(clip, "cpu").text(list(prompts))
    except MissingWeights as error:
        if not packed:
            raise
        captions = ", ".join(map(repr, packed))
        raise MissingWeights(f"{error}\nwithout these weights the pack has these prompts: {captions}") from error


def save_row(images: Tensor, path: Path) -> None:
    """Images [N,3,R,R] in [-1,1] side by side as one PNG."""
    pixels = to_bytes(images).cpu()
    with replacing(path, durable=True) as temporary:
        Image.fromarray(pixels.permute(2, 0, 3, 1).flatten(1, 2).numpy()).save(temporary, format="PNG")
