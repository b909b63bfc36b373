"""What can be done with a study, as functions: the command line and Python programs call the same ones.

Whatever is heavy is imported inside the function that needs it, and torch only in the processes that train. Each
function raises `HarnessError` when its input cannot be used; the message says how to put it right.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import given
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.grid.run import GridResult
    from harness.grid.tune import TuneResult
    from harness.notebook.loaded import LoadedStudy
    from harness.planning.budget import Comparison
    from harness.planning.forecast import Forecast
    from harness.study.plan import Plan
    from harness.study.schema import Study
    from harness.training.import_weights import Imported

AnyPath = str | PathLike[str]


def load(
    path: AnyPath, profile: str | None = None, overrides: Sequence[str] = (), *, no_code: bool = False
) -> LoadedStudy:
    """Read a study file and check all of it.

    Args:
        path: The study file.
        profile: One of the file's profiles; None for the one that the file names, if it names one.
        overrides: Changes of single values, such as "train.kimg=2"; the last one wins.
        no_code: Refuse a study that brings code of its own, which `run_grid` and `tune` would run.

    Returns:
        The study: settings, toggles, factors, design, the folders of its runs (`root`) and report (`reports`); and what
        its runs hold by now: `.runs`, `.curves`, `.effects` and `.looks` as tables, `.samples(cell, seed)` as images.

    Raises:
        HarnessError: The file, the profile or an override is wrong. The message lists every mistake.

    Example:
        study = harness.load("ablations.yaml", profile="paper", overrides=["design.seeds=3"])
    """
    from harness.notebook.loaded import LoadedStudy
    from harness.study.load import load_study
    from harness.study.strangers import without_code

    given.check_path("path", path)
    given.check("profile", profile, str | None, "the name of a profile or None")
    given.check_texts("overrides", overrides)
    study = load_study(Path(path), profile, overrides)
    return LoadedStudy(**vars(without_code(study) if no_code else study))


def plan(
    study: Study, *, seconds_per_kimg: float | None = None, sd: float | None = None, timing: bool = False
) -> Forecast:
    """Lay out the cells and runs of a study; say which runs are left, what they cost and what they can detect.

    Nothing is trained or written, except that the data's fingerprint, and what is timed, is computed and cached.

    Args:
        study: From `load`.
        seconds_per_kimg: Training time of a run per thousand images; None: as measured in finished runs.
        sd: Spread between seeds on the log scale of a distance, 0.05 is about 5 %; None: as measured.
        timing: Where no finished run tells the pace, time a few steps in processes of their own, on this machine.

    Returns:
        The forecast: `.plan` with its cells and runs, `.reasons` why each run would run, `.total` and `.wall` seconds,
        `.detects`. `.as_dict()` is the JSON of `harness plan --json`.

    Raises:
        HarnessError: Data or weights are missing, or a number is not above 0.

    Example:
        print(harness.plan(study, timing=True).wall / 3600, "hours")
    """
    from harness.grid.jobs import HEAVY
    from harness.planning.forecast import Given, forecast
    from harness.planning.timing import timed_pace
    from harness.study.plan import make_plan

    given.check_study(study)
    given.check_number("seconds_per_kimg", seconds_per_kimg)
    given.check_number("sd", sd)
    trial = (lambda made, slots: timed_pace(made, slots, HEAVY)) if timing else None
    return forecast(given=Given(seconds_per_kimg, sd), plan=make_plan(study), trial=trial)


def first_weights(plan: Plan) -> dict[str, dict[str, dict[str, Any]]]:
    """Say which layers of each cell start from the weights that `init` names, and which are new.

    Args:
        plan: The `plan` of a forecast.

    Returns:
        Cell -> network ("generator", "discriminator", "averaged") -> the names of its layers: "taken" as they are,
        "adapted" with the way how, "new" with first weights of their own, and the other network's "unused" ones. Cells
        without `init`, and cells that have the runs of another one, are not in it.

    Raises:
        HarnessError: A file of weights is missing or damaged.

    Example:
        layers = harness.first_weights(harness.plan(study).plan)
        print(layers["transform_w"]["generator"]["new"])
    """
    from harness.grid.prepare import first_weights as compare
    from harness.study.plan import Plan

    given.check("plan", plan, Plan, "the .plan of what harness.plan returns")
    return compare(plan)


def import_weights(path: AnyPath, out: AnyPath) -> Imported:
    """Convert a network pickle of LAFITE or StyleGAN2-ADA to a safetensors file that `init` can name. Loads torch.

    Nothing of the pickle is run: a file that asks for anything but tensors is refused.

    Args:
        path: The pickle, such as the published checkpoints.
        out: The safetensors file to write; an existing one is replaced.

    Returns:
        What the file holds: `.networks`, `.resolution`, `.settings` that a study needs to fit it, `.left_out` tensors.

    Raises:
        HarnessError: The pickle is damaged, holds something else, or has layers that have no counterpart here.

    Example:
        harness.import_weights("birds.pkl", "birds.safetensors")
    """
    from harness.training.import_weights import convert

    given.check_path("path", path)
    given.check_path("out", out)
    pickle = Path(path)
    if not pickle.is_file():
        problem = "is a folder, not a network pickle" if pickle.is_dir() else "No such file"
        raise HarnessError(f"{pickle}: {problem}; name the .pkl file")
    return convert(pickle, Path(out))


def compare_designs(forecast: Forecast, budget: float | str) -> Comparison:
    """Compare all kinds of design over the study's toggles at one budget of time, and propose one.

    Args:
        forecast: From `plan`; it must know how long a run takes.
        budget: Seconds, or a text such as "12h", "90m" or "2d".

    Returns:
        The designs (`.options`) and the proposed one (`.proposed`, None if nothing fits). `.as_dict()` is JSON.

    Raises:
        HarnessError: The budget cannot be read, or nothing tells how long a run takes.

    Example:
        best = harness.compare_designs(harness.plan(study, timing=True), "12h").proposed
    """
    from harness.planning.budget import compare, parse_time
    from harness.planning.forecast import Forecast

    given.check("forecast", forecast, Forecast, "a forecast, from harness.plan")
    given.check("budget", budget, Real | str, 'seconds or a text such as "12h"')
    return compare(forecast, parse_time("--budget", budget) if isinstance(budget, str) else budget)


def run_grid(
    study: Study,
    only: Sequence[str] = (),
    *,
    slots: int | None = None,
    fail_fast: bool = False,
    retrain: bool = False,
    detach: bool = False,
) -> GridResult:
    """Train every run of a study that has no result, measure it, compare all runs and write the report.

    Calling it again continues; several calls at the same time, also from other machines, share the runs. Progress is
    shown on standard error. Ctrl-C ends all runs after a checkpoint, and the function returns.

    Args:
        study: From `load`.
        only: Names of cells; empty: all of the design.
        slots: How many runs train at the same time; None: the study's `resources.slots`.
        fail_fast: Stop all runs when one has failed.
        retrain: Train again what other code than today's has trained or measured.
        detach: Return once the runs are submitted to the study's `resources.executor`, which is not `local` then.

    Returns:
        The result: `.exit_code` (0 done or detached, 3 with failed or diverged runs, 130 or 143 stopped), `.analysis`,
        `.report` and `.failures`.

    Raises:
        HarnessError: Something that the runs need is missing or damaged.

    Example:
        result = harness.run_grid(study, only=["origin", "full"], slots=2)
        print(result.exit_code, result.report)
    """
    from harness.grid.run import run_grid as run

    given.check_study(study)
    given.check_texts("only", only)
    given.check_number("slots", slots, is_whole=True)
    return run(study, only=only, slots=slots, fail_fast=fail_fast, retrain=retrain, detach=detach)


def write_report(study: Study, only: Sequence[str] = ()) -> Path:
    """Write the report of a study from the runs that are there; nothing is trained.

    Args:
        study: From `load`.
        only: Names of cells; empty: all.

    Returns:
        The path of report.md; report.html, tables and figures are beside it.

    Raises:
        HarnessError: Run folders are damaged, or there is no cell of a name in `only`. Without finished runs the report
            says so.

    Example:
        print(harness.write_report(harness.load("ablations.yaml")))
    """
    from harness.grid.run import report

    given.check_study(study)
    given.check_texts("only", only)
    return report(study, only)


def tune(
    study: Study,
    cells: Sequence[str] = (),
    *,
    slots: int | None = None,
    seconds: float = float("inf"),
    apply: bool = False,
    detach: bool = False,
) -> TuneResult:
    """Search the loss weights of one or several cells with Optuna, each with the study's `tune.trials` trials.

    Calling it again continues; several calls at the same time share the work.

    Args:
        study: From `load`.
        cells: Whose weights are searched, the one of interest first; empty: the study's `tune.cell`.
        slots: How many runs train at the same time; None: the study's `resources.slots`.
        seconds: No trial begins after that time.
        apply: Write the best weights into the study file, as a profile.
        detach: As of `run_grid`.

    Returns:
        The result: `.exit_code` (as of `run_grid`) and `.searches`, one for each cell, unless detached.

    Raises:
        HarnessError: The `tune` section is wrong, or something that the runs need is missing.

    Example:
        result = harness.tune(harness.load("ablations.yaml", overrides=["tune.trials=60"]), ["full", "origin"])
        print(result.searches[0].best)
    """
    from harness.grid.tune import tune_cells
    from harness.study.schema import cell_toggles

    given.check_study(study)
    given.check_texts("cells", cells)
    given.check_number("slots", slots, is_whole=True)
    given.check("seconds", seconds, Real, "a number")
    studies: dict[frozenset[str], Study] = {}
    for name in cells or [study.tune.cell]:
        toggles = frozenset(cell_toggles(study, name))  # a cell however it is spelt
        if toggles not in studies:
            others = (each for each in study.overrides if each != f"tune.cell={name}")
            studies[toggles] = load(study.path, study.profile, (*others, f"tune.cell={name}"))
    return tune_cells([*studies.values()], slots=slots, deadline=time.monotonic() + seconds, apply=apply, detach=detach)
