"""The commands `data prepare` and `data show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Png, Request, standard_options
from harness.text import quantity

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Prepare a study's data and look at it.")


@data.command()
@standard_options
def prepare(request: Request) -> None:
    """Decode, resize and pack the study's images, once. The same command continues.

    \b
    harness data prepare ablations.yaml
    harness data prepare ablations.yaml --set data.on_bad_image=skip
    """
    from harness import cache
    from harness.data import caption_counts
    from harness.data.prepare import prepare as pack
    from harness.metrics import captions as caption_metrics
    from harness.storage.caches import Reads, register
    from harness.terminal import console

    study = request.load()
    settings = study.settings
    given = caption_metrics.read_captions(settings.metrics.captions)
    folder, index = pack(settings.data, cache.root(), describe=True)
    register(study, Reads(frozenset({frozenset({index.fingerprint})})))
    for bad in index.bad:
        console.note(f"left out: {bad}")
    clips = (settings.metrics.clip,) if settings.command.run else (settings.encoders.clip, settings.metrics.clip)
    caption_counts.count_in_process(index.fingerprint, clips, given)
    for remark in caption_metrics.of_settings(index.fingerprint, settings):
        console.note(remark)
    console.result(f"{index.counted}, fingerprint {index.fingerprint}, in {folder}")


@data.command("show")
@standard_options
def show_data(
    request: Request,
    out: Png = Path("data.png"),
    count: Annotated[int, typer.Option(min=1, max=600, help="How many images.")] = 36,
    seed: Annotated[int, typer.Option(help="Which images.")] = 0,
) -> None:
    """Draw a sheet of the study's images with their captions. The held-out ones' are blue.

    \b
    harness data show ablations.yaml
    harness data show ablations.yaml --count 100 --out sheet.png
    """
    from harness import cache
    from harness.data.contact_sheet import contact_sheet
    from harness.data.dataset import load
    from harness.data.prepare import prepare
    from harness.terminal import console

    config = request.load().settings.data
    dataset = load(config, cache.root(), prepare(config, cache.root(), describe=True)[1].fingerprint)
    contact_sheet(dataset, out, count, seed)
    console.note(
        f"{quantity(len(dataset.train), 'image')} to train on, {len(dataset.held_out):,} held out: "
        f"{dataset.fingerprint}"
    )
    console.result(str(out))
