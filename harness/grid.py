"""A whole grid: what is missing is trained, everything is mirrored to MLflow, and the comparison is written.

No torch here: it is loaded in the fork server, from which every run's process comes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from harness import cache
from harness.comparison.analysis import Comparison, compare
from harness.comparison.report import print_comparison, write_report
from harness.data.prepare import known
from harness.provenance import provenance
from harness.records import Run, RunRecord, read_json, records, state_of, write_json
from harness.running.forkserver import run_apart, warm_up
from harness.running.live import LiveView
from harness.running.processes import exclusive
from harness.running.scheduler import SETTLED, Scheduler
from harness.running.slots import Slot, find_slots
from harness.show import failure, note
from harness.study.definition import Study
from harness.study.plan import ALGORITHM, Plan, make_plan
from harness.tracking.mirror import Mirror
from harness.work import HEAVY, execute, measure_scale

FINISHED_WITH_FAILURES = 3


def run_grid(study: Study, *, only: Sequence[str], slots: int | None) -> int:
    """Train every selected run that has no result, then compare; returns the exit code.

    0 done, 3 with failed or diverged runs, 130 or 143 when stopped after checkpoints. Raises HarnessError.
    """
    plan = make_plan(study)
    runs = plan.select(only)
    places = find_slots(study.resources.slots if slots is None else slots, study.resources.runs_per_gpu)
    states = plan.states()
    missing = [run for run in runs if states[run.id] not in SETTLED]
    if missing:
        note(f"{len(missing)} of {len(runs)} runs to do, {len(places)} at a time")
        code = _train(plan, runs, places)
        if code:
            return code
    else:
        note(f"nothing to do: all {len(runs)} runs of {study.name} have a result")
    if missing or _stale(plan):
        _publish(plan)
    return _conclude(plan, runs)


def report(study: Study) -> Path:
    """Write the report from the run folders and return its path. Raises HarnessError."""
    return _write(make_plan(study))


def _train(plan: Plan, runs: Sequence[Run], slots: Sequence[Slot]) -> int:
    """Run the grid and mirror it; the exit code, 0 if it came to its end."""
    root = plan.study.root
    scheduler = Scheduler(root, tuple(slots), execute, plan.study.resources.retries, HEAVY)
    mirror = Mirror(plan.study, root, plan.runs)
    with exclusive(root):
        _prepare(plan, slots)
        write_json(root / "provenance.json", {**provenance(plan.study), "data": _data(plan)})
        with mirror, LiveView(runs, root, slots, Console(stderr=True)) as view:
            scheduler.run(plan.queue(runs), view.tick)
    return scheduler.stop.exit_code


def _data(plan: Plan) -> dict[str, Any]:
    """What the runs were trained on: how many images, and which were left out and why."""
    found = known(plan.runs[0].fingerprints["data"], cache.root())
    if found is None:
        return {}
    index = found[1]
    return {"attribution": index.attribution, "images": index.images, "held_out": index.held_out, "left_out": index.bad}


def _stale(plan: Plan) -> bool:
    """Whether the report is missing or tells of other runs or states than there are."""
    path = plan.study.root / "grid.json"
    if not path.exists() or not (plan.study.reports / "report.md").exists():
        return True
    told: dict[str, str] = read_json(path).get("states", {})
    return told != plan.states()


def _publish(plan: Plan) -> None:
    """The report, here and on MLflow's parent run with a summary as metrics."""
    path = _write(plan)
    note(f"report: {_shown(path)}")
    found = records(plan.study.root, plan.runs)
    Mirror(plan.study, plan.study.root, plan.runs).finish(summary(compare(found, plan.study.baseline)), path.parent)


def _prepare(plan: Plan, slots: Sequence[Slot]) -> None:
    """Data, features and the scale of the metrics, before any run waits for them and once for all studies of them."""
    path = _scale_path(plan)
    if path.exists():
        return
    shared = cache.root() / "scales" / path.name
    if not shared.exists():
        shared.parent.mkdir(parents=True, exist_ok=True)
        note("preparing data and features of the real images, once")
        warm_up(HEAVY, slots[0].threads)
        whole = replace(slots[0], threads=sum(slot.threads for slot in slots))
        run_apart(measure_scale, plan.runs_of(plan.cell(plan.study.baseline))[0], whole, shared)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, read_json(shared))


def _scale_path(plan: Plan) -> Path:
    """Named by what the scale depends on, so that a change of data, judges or formulas measures it again."""
    run = plan.runs_of(plan.cell(plan.study.baseline))[0]
    identity = json.dumps([ALGORITHM, run.fingerprints, run.settings["metrics"]], sort_keys=True)
    return plan.study.root / f"scale-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"


def _conclude(plan: Plan, runs: Sequence[Run]) -> int:
    """Print the comparison and name the runs without a result."""
    found = records(plan.study.root, plan.runs)
    print_comparison(compare(found, plan.study.baseline), Console())
    chosen = {run.id for run in runs}
    bad = [record for record in found if record.run.id in chosen and state_of(record) != "done"]
    for record in bad:
        log = _shown(plan.study.root / record.run.id / "log.txt")
        failure(f"{record.run.cell} seed {record.run.seed}: {state_of(record)}; see {log}")
    return FINISHED_WITH_FAILURES if bad else 0


def summary(comparison: Comparison) -> dict[str, float]:
    """The comparison as metrics of MLflow's parent run: what is known of each cell and metric, by name."""
    values: dict[str, float | None] = {}
    for cell in comparison.summaries:
        values |= {f"{cell.cell}/{cell.metric}/mean": cell.mean, f"{cell.cell}/{cell.metric}/sd": cell.sd}
    for effect in comparison.effects:
        values |= {f"{effect.cell}/{effect.metric}/difference": effect.difference}
    return {name.replace("+", " "): value for name, value in values.items() if value is not None}


def _write(plan: Plan) -> Path:
    """The report, and grid.json, from which it takes the scale of the metrics and where everything came from."""
    found = records(plan.study.root, plan.runs)
    path = _scale_path(plan)
    scale = read_json(path) if path.exists() else {}
    untrained = _untrained(found)
    rows = {**scale, "untrained": untrained} if untrained else scale
    origin = plan.study.root / "provenance.json"
    told = {"sanity": rows, "provenance": read_json(origin) if origin.exists() else {}, "states": plan.states()}
    plan.study.root.mkdir(parents=True, exist_ok=True)
    write_json(plan.study.root / "grid.json", told)
    return write_report(plan.study, found, plan.study.reports)


def _untrained(found: Sequence[RunRecord]) -> dict[str, float]:
    """Means over all runs of what was measured before their first step."""
    values: dict[str, list[float]] = {}
    for record in found:
        for point in record.points:
            for name, value in point.values.items() if point.step == 0 else ():
                values.setdefault(name.removeprefix("metrics/"), []).append(value)
    return {name: fmean(numbers) for name, numbers in values.items()}


def _shown(path: Path) -> str:
    """Relative to where the user stands, if it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
