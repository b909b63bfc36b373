"""DINOv2 (arXiv 2304.07193) as a further guide of the generator, beside CLIP and the ResNet.

Any other frozen network does as well: `ideas.f_dino.network: timm:convnext_tiny.fb_in22k`, a level of a factor or a
toggle of its own. Features of real images are computed once, before training; the weights are part of a run's id.
"""

from harness.ideas import feature, term

f_dino = feature("timm:vit_small_patch14_dinov2.lvd142m", size=224)


@term("generator", weight=4.0, reads=("f_dino",))
def dino(step):
    """What the network sees in a generated image is close to what it sees in the real one, and far from the others'.

    The contrast is that of the built-in term iiv_r, with the study's own `loss.tau` and `loss.similarity`.
    """
    return step.contrast(step.feature("f_dino", "x"), step.feature("f_dino", "r"))
