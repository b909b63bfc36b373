"""The verb `evaluate`: two folders of images measured as runs are, for those who train elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.options import verb

if TYPE_CHECKING:
    from harness.metrics.evaluate import Judges

_CLIP = "open_clip:ViT-L-14/laion2b_s32b_b82k"
"""The default of `metrics.clip`; a test holds the two together, as the settings load too slowly for `--help`."""


@dataclass(frozen=True)
class Measuring:
    """By which networks, and where they run."""

    resnet: Annotated[str, typer.Option(metavar="NAME", help="Network of the distances, precision and recall.")] = (
        "torch_fidelity:inception-v3-compat"
    )
    clip: Annotated[str, typer.Option(metavar="NAME", help="CLIP of the caption metrics.")] = _CLIP
    more: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further network of distances; may be repeated.")
    ] = None
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the networks run.")] = "cpu"

    def judges(self) -> Judges:
        from harness.metrics.evaluate import Judges

        return Judges(self.resnet, self.clip, tuple(self.more or ()), self.batch, self.device)


@verb
def evaluate(
    real: Annotated[Path, typer.Option(metavar="DIR", help="Real images, in it and below it.")],
    fake: Annotated[Path, typer.Option(metavar="DIR", help="Generated images.")],
    measuring: Measuring,
    captions: Annotated[Path | None, typer.Option(metavar="FILE", help="Captions of the generated images.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output, all else on standard error.")
    ] = False,
) -> None:
    """Measure a folder of images against another.

    Captions are lines of PATH, tab, caption; or JSON {PATH: caption}; or a folder with a PATH.txt for every image.

    \b
    harness evaluate --real photos --fake samples
    harness evaluate --real photos --fake samples --captions captions.tsv --json
    harness evaluate --real photos --fake samples --resnet embedded:resnet-measure
    """
    from harness.cli import tables
    from harness.metrics.evaluate import Folders
    from harness.metrics.evaluate import evaluate as measure
    from harness.terminal.console import json_document

    found = measure(Folders(real, fake, captions), measuring.judges(), _watch)
    if as_json:
        json_document(found.as_dict())
    else:
        tables.evaluation(found.metrics, found.cards)
    tables.left_to_go_wrong(found.cards)


def _watch(images: Iterable[Any], count: int, what: str) -> Iterable[Any]:
    """The images, with a bar on standard error while they pass; none where that is no terminal."""
    from rich.progress import track

    from harness.terminal.console import terminal

    console = terminal(error=True, live=True)
    shown = console.is_terminal
    yield from track(images, f"{what} images", total=count, console=console, transient=True, disable=not shown)
