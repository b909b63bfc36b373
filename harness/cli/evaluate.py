"""The command `evaluate`: two folders of images measured as runs are, for those who train elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness import comparing
from harness.cli.options import AsJson, standard_options


@dataclass(frozen=True)
class NetworkOptions:
    """Which networks measure, and where they run; a test compares the defaults with those of `Networks`."""

    resnet: Annotated[str, typer.Option(metavar="NAME", help="Network of the distances, precision and recall.")] = (
        "torch_fidelity:inception-v3-compat"
    )
    clip: Annotated[str, typer.Option(metavar="NAME", help="CLIP of the caption metrics.")] = (
        "open_clip:ViT-L-14/laion2b_s32b_b82k"
    )
    more: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further network of distances; may be repeated.")
    ] = None
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where the networks run; auto: on the GPU, if there is one.")
    ] = "auto"


@standard_options
def evaluate(
    real: Annotated[Path, typer.Option(metavar="DIR", help="Real images, in it and below it.")],
    fake: Annotated[Path, typer.Option(metavar="DIR", help="Generated images.")],
    networks: NetworkOptions,
    captions: Annotated[Path | None, typer.Option(metavar="FILE", help="Captions of the generated images.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a folder of images against another.

    Captions are lines of PATH, tab, caption; or JSON {PATH: caption}; or a folder with a PATH.txt for every image.

    \b
    harness evaluate --real photos --fake samples
    harness evaluate --real photos --fake samples --captions captions.tsv --json
    harness evaluate --real photos --fake samples --resnet embedded:resnet-measure
    """
    from harness.cli import tables
    from harness.metrics.evaluate import Networks
    from harness.terminal.console import json_document

    chosen = Networks(networks.resnet, networks.clip, tuple(networks.more or ()), networks.batch, networks.device)
    evaluation = comparing.evaluate(real, fake, captions, chosen)
    if as_json:
        json_document(evaluation.as_dict())
    else:
        tables.evaluation(evaluation.metrics, evaluation.cards)
    tables.caveats(evaluation.cards)
