"""DiffAugment (arXiv 2006.10738, Sec. 3 and 4): the discriminator sees changed images only, real and generated alike.

Every change lets the gradient through, so the generator learns from changed images and itself makes unchanged ones.
"""

import torch
from torch.nn.functional import pad

from harness.ideas import Fraction, augment


@augment
def diff_augment(images, rng, *, colour: Fraction = 1.0, translate: Fraction = 0.125, cutout: Fraction = 0.5):
    """Colour, translation and cutout, drawn for each image; 0 switches each of them off, the default is the paper's.

    colour 1: brightness -0.5 to 0.5, saturation 0 to 2, contrast 0.5 to 1.5. translate: the largest shift as a share of
    the side, with zeros (grey) coming in. cutout: the side of a square of zeros, as a share of the image's.
    """
    n, _, side, _ = images.shape

    def uniform(reach):
        return reach * (2 * torch.rand(n, 1, 1, 1, generator=rng, device=rng.device).to(images) - 1)

    def whole(below):  # two numbers for each image, of 0 to below - 1
        return torch.randint(0, below, (2, n, 1, 1), generator=rng, device=rng.device).to(images.device)

    # Colour.
    images = images + uniform(0.5 * colour)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (1 + uniform(colour))
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + uniform(0.5 * colour))

    # Translation: each image is read from its own corner of the padded one.
    place, every = torch.arange(side, device=images.device), torch.arange(n, device=images.device)
    reach = int(translate * side + 0.5)
    down, right = whole(2 * reach + 1)
    padded = pad(images, (reach,) * 4)
    images = padded[every[:, None, None], :, down + place[:, None], right + place].movedim(-1, 1)

    # Cutout: the square's centre lies anywhere in the image, so that a part of it may lie outside.
    size = int(cutout * side + 0.5)
    top, left = whole(side + 1 - size % 2)  # an odd square has its centre in a pixel, an even one between two
    inside = [(place >= first - size // 2) & (place < first - size // 2 + size) for first in (top, left)]
    return images * ~(inside[0].transpose(1, 2) & inside[1])[:, None]
