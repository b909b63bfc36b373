"""The commands `pack` and `unpack`: a study in one zip, for a machine without its data."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import api, sharing
from harness.cli.options import Request, standard_options

if TYPE_CHECKING:
    from harness.storage.pack import Packed
    from harness.study.schema import Study


@standard_options
def pack(
    request: Request,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.zip", help="The zip to write; default: named after the study, here."),
    ] = None,
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Leave the generators out.")] = False,
) -> None:
    """Put the study, its runs and reports into one zip. It opens on machines that have neither data nor networks.

    Without --profile all profiles that have runs are in it.

    \b
    harness pack ablations.yaml
    harness pack ablations.yaml --profile both -o both.zip --no-weights
    """
    from harness.terminal import console

    studies = _studies(request)
    for line in [] if request.profile else _of_no_profile(studies):
        console.note(line)  # before the pack, which may be refused for it
    made = sharing.pack(studies, out, weights=not no_weights)
    for line in _lines(made):
        console.note(line)
    console.result(str(made.path))


def _studies(request: Request) -> list[Study]:
    """The study under the profile that is asked for; else as its file has it, and under each profile with runs."""
    study = request.load()
    if request.profile:
        return [study]
    from harness.study.load import profiles_of
    from harness.study.schema import OF_SEARCH

    # A profile without runs is not loaded: its data may be on another machine.
    labels = {folder.name.split(OF_SEARCH)[0] for folder in study.root.parent.glob("*") if folder.is_dir()}
    others = [name for name in profiles_of(request.study) if f"{study.name}-{name}" in labels]
    every: list[Study] = [
        api.load(request.study, name, request.overrides or ()) for name in others if name != study.profile
    ]
    return [study, *every] if study.label in labels or not every else every


def _of_no_profile(studies: Sequence[Study]) -> Iterator[str]:
    """What is left out because the file has its profile no more, or under another name."""
    from harness.storage.folders import runs_beside
    from harness.text import quantity

    for label, count in runs_beside(studies).items():
        yield (
            f"left out: {quantity(count, 'run')} in runs/{label}, to which no profile of {studies[0].path.name} leads; "
            "give the profile its name back, or the folder the profile's new name"
        )


def _lines(made: Packed) -> list[str]:
    from rich.filesize import decimal

    from harness.text import quantity, shortened

    parts = [quantity(made.runs, "run"), quantity(made.generators, "generator"), quantity(made.reports, "report")]
    lines = [f"{decimal(made.bytes)}: {', '.join(parts)}"]
    if made.running:
        lines.append(f"still running: {shortened(made.running)}; they are packed as they are now")
    if made.left_out:
        kinds = ", ".join(quantity(count, what) for what, count in sorted(made.left_out.items()))
        lines.append(f"left out: {kinds}")
    if made.masked:
        lines.append(f"passwords or tokens are hidden in {shortened(made.masked)}")
    if made.networks:
        lines.append(f"to draw other prompts than those of the sample sheet, needed there: {shortened(made.networks)}")
    if made.not_for_windows:
        lines.append(f"Windows cannot make {shortened([repr(name) for name in made.not_for_windows])}")
    return lines


@standard_options
def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="What `harness pack` wrote.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="The folder to make; default: named after the zip, here.")
    ] = None,
) -> None:
    """Open a packed study in a new folder. Nothing is overwritten, and no code of the study is run.

    \b
    harness unpack emoji-quick.zip
    harness unpack emoji-quick.zip theirs
    """
    from rich.filesize import decimal

    from harness.terminal import console
    from harness.text import file_word, quantity, shortened

    made = sharing.unpack(file, folder)
    if made.code:
        console.note(f"files of its own (sample, run-grid and tune run the code among them): {shortened(made.code)}")
    following = shlex.join(["harness", "status", file_word(made.study)])
    console.note(f"{quantity(made.files, 'file')}, {decimal(made.bytes)}; next: {following}")
    console.result(str(made.folder))
