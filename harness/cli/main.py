"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it.

Exit codes: 0 done; 1 a bug in the harness; 2 a mistake in the input, or what `doctor` misses; 3 finished with failed or
diverged runs; 128 and the number of a signal, such as 130 after Ctrl-C; 75 after SIGUSR2; 141 a pipe without a reader.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from harness import api
from harness.cli import complete
from harness.cli.analyze import analyze
from harness.cli.complete import DEFAULT_STUDY
from harness.cli.data import data
from harness.cli.evaluate import evaluate
from harness.cli.import_weights import import_weights
from harness.cli.options import (
    AsJson,
    Only,
    Png,
    Request,
    RequestByOption,
    RequestOfGrid,
    Version,
    names_study,
    say_how_to_go_on,
    standard_options,
)
from harness.cli.pack import pack, unpack
from harness.cli.storage import gc, ls, rm
from harness.cli.tracked import sync, ui
from harness.cli.tune import tune
from harness.cli.usage import Commands, share
from harness.cli.watch import watch
from harness.cli.work import cancel, checkpoint, work
from harness.errors import HarnessError, describe_os_error
from harness.exit_codes import REFUSED
from harness.terminal import streams
from harness.text import file_word

app = typer.Typer(
    name="harness",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ablations of text-to-image GANs: a study file in, trained and compared runs out. Start with `harness init`.",
)

app.add_typer(data, name="data")
complete.teach_bash()


@app.callback()
def _options(show_version: Version = False) -> None:
    pass


@app.command()
@standard_options
def init(
    file: Annotated[Path, typer.Argument(help="Where to write; an existing file is never touched.")] = DEFAULT_STUDY,
    preset: Annotated[str, typer.Option(help="Which study to start from.", autocompletion=complete.presets)] = "quick",
) -> None:
    """Write a commented study file.

    \b
    harness init
    harness init studies/mine.yaml --preset quick
    """
    from harness.cli import presets
    from harness.terminal import console

    presets.write(preset, file)
    console.note(f"wrote {file}; next: {shlex.join(['harness', 'plan', file_word(file)])}")


@app.command()
@standard_options
def plan(
    request: Request,
    seconds_per_kimg: Annotated[
        float | None, typer.Option(metavar="X", help="Seconds per thousand images; default: of finished runs.")
    ] = None,
    sd: Annotated[
        float | None,
        typer.Option(metavar="X", parser=share, help="Spread between seeds, 0.05 or 5%; default: of finished runs."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Compare designs at 12h, 90m, 2d or so, and propose one.")
    ] = None,
    timing: Annotated[
        bool, typer.Option(envvar="HARNESS_TIMING", help="Time a few steps where no finished run tells the pace.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Show what would run and why, and the cost. Also which effects the study can detect.

    \b
    harness plan ablations.yaml
    harness plan ablations.yaml --profile standard --set design.seeds=3
    harness plan ablations.yaml --set design.kind=full --json
    harness plan ablations.yaml --budget 12h
    harness plan ablations.yaml --budget 2d --seconds-per-kimg 40 --sd 0.05
    harness plan ablations.yaml --no-timing
    """
    from harness.cli import show_plan
    from harness.planning.budget import parse_time
    from harness.terminal import console

    seconds = None if budget is None else parse_time("--budget", budget)
    forecast = api.plan(request.load(), seconds_per_kimg=seconds_per_kimg, sd=sd, timing=timing)
    compared = api.compare_designs(forecast, seconds) if seconds else None
    first = api.first_weights(forecast.plan) if as_json or not compared else {}
    if as_json:
        more = {"budget": compared.as_dict()} if compared else {}
        console.json_document(forecast.as_dict() | more | ({"first_weights": first} if first else {}))
    elif compared:
        show_plan.budget(forecast, compared)
    else:
        show_plan.plan(forecast)
        show_plan.first_weights(first)


app.command("import")(import_weights)


@app.command()
@standard_options
def terms(
    request: Request,
    cell: Annotated[
        str,
        typer.Option(
            help="origin, full, full-minus-TOGGLE, TOGGLE or TOGGLE+TOGGLE; a level, such as tau=0.1, may be a TOGGLE.",
            autocompletion=complete.cells,
        ),
    ] = "origin",
    as_json: AsJson = False,
) -> None:
    """Show the loss of a cell, term by term.

    \b
    harness terms ablations.yaml
    harness terms ablations.yaml --cell full
    harness terms ablations.yaml --cell paired_contrast+resnet_guided --json
    """
    from harness.cli import tables
    from harness.study.schema import apply_toggles, cell_toggles, terms_of
    from harness.terminal import console

    study = request.load()
    rows = terms_of(study, cell)
    if as_json:
        console.json_document(rows)
    else:
        tables.terms(cell, rows, apply_toggles(study, cell_toggles(study, cell)).command)


@app.command("run-grid")
@standard_options
def run_grid(
    request: RequestOfGrid,
    only: Only = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Runs at the same time; default: the study's.")] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast/--keep-going", help="Stop all when a run has failed.")
    ] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train again what other code than today's has trained or measured.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the runs are submitted.")] = False,
) -> None:
    """Train every run once, measure it, and compare. The same command continues; in two terminals it shares the work.

    \b
    harness run-grid ablations.yaml
    harness run-grid ablations.yaml --only origin --only full --slots 2
    harness run-grid ablations.yaml --profile paper
    harness run-grid ablations.yaml --until-decided --max-seeds 6
    harness run-grid ablations.yaml --retrain
    harness run-grid ablations.yaml --executor slurm --workers 8 --detach
    """
    from harness.report.terminal import print_comparison
    from harness.terminal import console

    study = request.load()
    result = api.run_grid(study, only or [], slots=slots, fail_fast=fail_fast, retrain=retrain, detach=detach)
    if result.analysis is not None:
        print_comparison(result.analysis, console.terminal())
    for text in result.failures:
        console.failure(text)
    if result.report:
        console.note(f"the report for a browser: {console.shown(result.report.with_suffix('.html'))}")
    say_how_to_go_on(result.exit_code)
    raise typer.Exit(result.exit_code)


@app.command()
@standard_options
def status(request: Request, as_json: AsJson = False) -> None:
    """Show every run: its state, progress and last error.

    \b
    harness status ablations.yaml
    watch -n 5 harness status ablations.yaml
    harness status ablations.yaml --json
    """
    from harness.cli import tables
    from harness.cli.select import run_rows
    from harness.executors.live import job_rows
    from harness.planning.reasons import by_other_code, code_json, reasons
    from harness.study import looks
    from harness.study.plan import make_plan
    from harness.terminal import console
    from harness.tuning.search import searches

    made = make_plan(request.load())
    snapshot = made.snapshot()
    jobs = [row for each in (made.study, *searches(made.study)) for row in job_rows(each.root)]
    rows, why = run_rows(made, snapshot), reasons(made, snapshot)
    if as_json:
        more = {"code": code_json(why), "jobs": jobs, "seeds": looks.as_json(made.study, made.runs)}
        console.json_document({"study": made.study.name, "runs": rows, **more})
    else:
        tables.status(
            made.study.name, rows, (*by_other_code(why), *filter(None, [looks.in_words(made.study, made.runs)]))
        )
        tables.jobs(made.study.label, jobs)


@app.command()
@standard_options
def report(
    request: Request,
    only: Only = None,
) -> None:
    """Write tables and figures from the runs that are there. Nothing is trained.

    With --set, --only or --profile the report has a folder of its own.

    \b
    harness report ablations.yaml
    harness report ablations.yaml --only full --only resnet_guided
    """
    from harness.terminal import console

    console.result(str(api.write_report(request.load(), only or [])))


@dataclass(frozen=True)
class Drawing:
    """How images are drawn."""

    seed: Annotated[int, typer.Option(help="Seed of the latents.")] = 0
    scale: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Width and height of a pixel; default: large enough to see."),
    ] = None


@app.command()
@standard_options
def sample(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its id or CELL/SEED in the study.")],
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="One image for each.")],
    request: RequestByOption,
    context: typer.Context,
    drawing: Drawing,
    out: Png = Path("sample.png"),
) -> None:
    """Draw images from a trained run.

    \b
    harness sample full/0 "red heart" "smiling cat" --out cats.png
    harness sample runs/emoji/3f2a9c41d07b "a pizza" --seed 7 --scale 8
    """
    from harness.cli.select import find_run
    from harness.terminal import console

    folder = Path(run)
    if not os.path.exists(folder / "run.json"):
        folder = find_run(request.load(), run)
    elif names_study(context):
        text = "is the folder of a run, which has settings of its own; leave --study, --profile and --set out"
        raise HarnessError(f"{run}: {text}, or name the run by its id or CELL/SEED")
    request.check_run(folder)
    from harness.training.samples import sample as draw

    console.note(draw(folder, prompts, out, seed=drawing.seed, scale=drawing.scale))
    console.result(str(out))


for _command in (watch, tune, work, cancel, checkpoint, analyze, evaluate, ls, rm, gc, pack, unpack, ui, sync):
    app.command()(_command)


@app.command()
@standard_options
def doctor(request: Request, context: typer.Context) -> None:
    """Show what this machine can do and what is missing.

    \b
    harness doctor
    harness doctor ablations.yaml --profile paper
    """
    from harness.cli import tables
    from harness.cli.doctor import examine

    is_there = os.path.lexists(request.study)  # a link that leads nowhere too
    findings = examine(request.load() if is_there or names_study(context) else None)
    tables.findings(findings)
    raise typer.Exit(REFUSED if any(finding.fix for finding in findings) else 0)


def main() -> None:
    """Run the command line; a mistake of the user, or a file or disk that fails, ends in one message and code 2."""
    try:
        streams.prepare()
        try:
            app()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.exit(streams.finish(code))
    except HarnessError as error:
        message = str(error)
    except OSError as error:
        if error.filename == streams.STDOUT:
            streams.drop_answer()
        message = describe_os_error(error)
        if not message:
            raise
        logging.getLogger("harness").debug("the whole error", exc_info=True)
    from harness.terminal import console

    with contextlib.suppress(OSError):  # such as a full disk that takes standard error too
        console.failure(message)
    sys.exit(REFUSED)
