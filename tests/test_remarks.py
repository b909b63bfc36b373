"""What a plan and a report remark of settings that change nothing, or not what they seem to."""

from __future__ import annotations

import re

import pytest
import yaml

from harness.settings import Settings
from harness.study.remarks import remarks


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        ("", ""),
        ("discriminator.heads=separate", "^no active term reads f_img"),
        ("discriminator.heads=separate loss.img_img_loss=true", "^no term of the discriminator trains f_img"),
        ("discriminator.heads=separate loss.resnet_guided=true", ""),
        ("loss.img_img_loss=true", ""),
        ("discriminator.minibatch_std_group=1", "a single image has no spread, so the layer .* says nothing"),
        (
            "discriminator.minibatch_std_layout=strided discriminator.minibatch_std_group=16",
            "minibatch_std_group 16 is all of train.batch: same training as with .*minibatch_std_layout neighbours",
        ),
        ("discriminator.minibatch_std_layout=strided loss.group=4", "is all of loss.group: same training as with .*"),
        ("discriminator.minibatch_std_layout=strided", ""),
        ("loss.group=16", "loss.group 16 is the whole batch: same training as with loss.group 0"),
        ("loss.logit=batch_sum loss.group=1", "f.h of one image alone: same training as with loss.logit per_sample"),
        ("loss.mix_logits=true loss.mix_lambda=1", "no share of a logit: same training as without loss.mix_logits"),
        ("loss.mix_logits=true loss.mix_lambda=1 loss.paired_contrast=true", ""),
        ("encoders.crop=0.03", "crop 0.03 of 16 px .* are not shifted: same training as with encoders.crop 0"),
        ("encoders.crop=0.03 encoders.pixel_noise=0.1", "only other random numbers than with encoders.crop 0"),
        ("encoders.crop=0.04", ""),
        ("encoders.view=crop", r"16 px are not cropped for encoders.clip \(32 px\) .*, so .*crop_from changes nothing"),
        ("encoders.view=crop data.resolution=32", ""),
        ("encoders.view=crop data.resolution=128 encoders.clip=open_clip:RN50/openai", r"128 px are not .* \(224 px\)"),
        ("encoders.view=crop loss.weights.generator.itc=0", ""),
        ("encoders.view=crop loss.resnet_guided=true encoders.resnet=timm:other", r"\(32 px\) but .* white$"),
        ("train.pl_decay=1 train.pl_batch_shrink=16", "nothing is regularised, whatever train.pl_weight is"),
        ("train.pl_decay=1 train.pl_batch_shrink=8", ""),
    ],
)  # fmt: skip
def test_a_value_that_changes_nothing_is_remarked(values: str, remark: str) -> None:
    pairs = (each.split("=") for each in f"encoders.clip=embedded:clip-guide data.resolution=16 {values}".split())
    found = remarks(Settings().with_values({name: yaml.safe_load(value) for name, value in pairs}))
    assert len(found) == bool(remark) and all(re.search(remark, text) for text in found)
