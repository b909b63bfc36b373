"""Images from a trained run, for any prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from harness.data.loading import load_clip
from harness.errors import RecordError
from harness.files import parse
from harness.metrics.measure import quantise
from harness.models.generator import Generator
from harness.rng import torch_generator
from harness.runs.folders import RunFolder
from harness.settings import Settings
from harness.training import tensors
from harness.training.samples import save_row

SEEN = 256
"""Pixels that an image is enlarged to, nearly, where nobody says how much."""


def sample(folder: Path, prompts: Sequence[str], out: Path, seed: int = 0, scale: int | None = None) -> str:
    """Write one image per prompt, side by side, to the PNG `out`, each pixel as `scale` x `scale`; what was done.

    Whole pixels alone, so nothing is blurred: by default as many as bring an image near to `SEEN`.

    Latents come from `seed`: the same seed gives the same latent at the same place. Raises RecordError when the run
    has no trained generator yet.
    """
    images = generate(folder, prompts, seed)
    real = images.shape[-1]
    by = max(1, SEEN // real) if scale is None else scale
    out.parent.mkdir(parents=True, exist_ok=True)
    save_row(images.repeat_interleave(by, 2).repeat_interleave(by, 3), out)
    return f"images of {real} x {real} px" + (f", each pixel shown as {by} x {by} (--scale {by})" if by > 1 else "")


def generate(folder: Path, prompts: Sequence[str], seed: int = 0) -> Tensor:
    """One image per prompt [N,3,R,R] in [-1,1], from the run.json and generator.safetensors in `folder`."""
    settings = parse(
        json.dumps(RunFolder(folder).run().settings).encode(),
        Settings,
        f"{folder / 'run.json'}: settings",
        "take a run that this version has trained",
    )
    clip = load_clip(settings.encoders.clip, "cpu")
    generator = Generator(settings.generator, settings.data.resolution, clip.dim)
    path = folder / "generator.safetensors"
    try:
        generator.load_state_dict(_weights(path))
    except RuntimeError as error:
        raise RecordError(f"{path}: made by another version or with another encoder; run it again") from error
    latents = torch.randn(len(prompts), settings.generator.z_dim, generator=torch_generator(seed, "sample"))
    with torch.inference_mode():
        return quantise(generator(latents, clip.text(list(prompts))))


def _weights(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise RecordError(f"{path}: not there; the run has to finish first (see `harness status`)")
    try:
        return tensors.read(path)[0]
    except tensors.Damaged as error:
        raise RecordError(f"{path}: {error}; delete the run's folder and run it again") from error
