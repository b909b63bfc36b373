"""torch-fidelity's Inception, the network that the Frechet Inception distance is defined by, for measuring only."""

from __future__ import annotations

import io

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from harness.models import weight_files
from harness.models.embedded import fold_batch_norm
from harness.models.encoders import Encoder
from harness.models.frozen import Preparation, Resnet, check_images

_POOLED = "2048"
_OWN = Preparation(FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE, (0.5,) * 3, (0.5,) * 3)


class Inception(Resnet):
    """The pooled features of torch-fidelity's network, resized and normalised by its own code."""

    def __init__(self, network: FeatureExtractorInceptionV3, fingerprint: str) -> None:
        fold_batch_norm(network)
        super().__init__(network, _OWN, int(_POOLED), fingerprint)

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1], any R -> [N,2048] of the images as 8-bit files hold them; without gradient.

        Raises ValueError where a gradient is asked for: rounding to 8 bits has none, so it would silently be zero.
        """
        check_images(images)
        if images.requires_grad and torch.is_grad_enabled():
            raise ValueError("this Inception sees 8-bit images and gives no gradient: it measures, it cannot guide")
        pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        with torch.no_grad():
            features: Tensor = self.network(pixels)[0]
        return features


def load(encoder: Encoder, fingerprint: str) -> Inception:
    """The network with the published weights or a local file's. Raises ValueError for weights that do not fit."""
    own = weight_files.published(encoder)
    try:
        path = encoder.file or weight_files.fetched(own)
        if path.name == own.path.name:
            weight_files.check_content(path)
        return Inception(_built(weight_files.read(path)), fingerprint)
    except weight_files.FAILURES as error:
        raise weight_files.unusable(encoder, error) from error


def _built(state: dict[str, Tensor]) -> FeatureExtractorInceptionV3:
    """torch-fidelity's network can only be built from a file that it unpickles: it gets one that was written here."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return FeatureExtractorInceptionV3("inception", [_POOLED], feature_extractor_weights_path=file)
