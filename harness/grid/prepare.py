"""What comes before any run: data and features, the scale of the metrics, and whether the disk has room.

Several schedulers of one study do each of these once, one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import Timeout

from harness import cache
from harness.data.dataset import without_split
from harness.data.pack_record import NAME as PACK
from harness.data.pack_record import read_pack
from harness.data.packed import find_prepared
from harness.errors import HarnessError
from harness.files import alone, write_json
from harness.grid import jobs
from harness.grid.jobs import HEAVY, measure_scale, sizes_mb
from harness.grid.jobs import rehearse as rehearse_run
from harness.ideas.syntax import ideas_of
from harness.runs import initial
from harness.runs.record import SETTLED, Run
from harness.runs.scale import read_scale, scale_name
from harness.runs.snapshot import Snapshot
from harness.scheduler.forkserver import EndedEarly, run_apart, warm_up
from harness.scheduler.slots import OPTION, Slot, find_slots
from harness.storage.caches import reads_of, register
from harness.storage.usage import Meter, shortage
from harness.study.checks import absent_captions, absent_data
from harness.study.overlay import dotted
from harness.study.plan import Plan, PlannedCell, fingerprints
from harness.study.schema import Study
from harness.terminal.console import note
from harness.text import quantity
from harness.tracking import provenance

_log = logging.getLogger(__name__)


@contextmanager
def one_at_a_time(root: Path, step: str) -> Iterator[None]:
    """Of the calls on a study one is in this step; the others say what they wait for."""
    lock = alone(root, step, 1)
    try:
        lock.acquire()
    except Timeout:
        note(f"waiting for another call on this study, which has the {step} step")
        lock.acquire(timeout=-1)
    try:
        yield
    finally:
        lock.release()


def with_slots(study: Study, slots: int | None) -> Study:
    """The study with so many runs at the same time; None: as it is."""
    if slots is None:
        return study
    places = {**study.places, "resources.slots": f"{OPTION} {slots}"}
    return replace(study, resources=replace(study.resources, slots=slots), places=places)


def slots_of(study: Study) -> tuple[Slot, ...]:
    """Where its runs go on this machine. Raises HarnessError."""
    resources = study.resources
    asked = (resources.slots, resources.runs_per_gpu, resources.gpus_per_run)
    return find_slots(*asked, written=study.places)


def make_ready(plan: Plan, root: Path, runs: Sequence[Run], slots: Sequence[Slot]) -> None:
    """All that comes before these runs, which have no result, are trained in `root`."""
    study = plan.study
    initial.refuse_gone(root, runs)
    register(study, reads_of(plan.runs))
    with one_at_a_time(study.root, "prepare"):
        prepare(study.root, plan.runs_of(plan.cell(study.baseline))[:1], slots)
        provenance.add(study.root / "provenance.json", study, "run-grid", data_provenance(plan.runs[0]))
        if any(run.code_files for run in runs):
            statuses = Snapshot(root, plan.runs).statuses
            tried = {run.cell for run in plan.runs if statuses[run.id].state in SETTLED}
            rehearse(root, [run for run in runs if run.cell not in tried], slots)
    warn_of_shortage(root, runs, slots)


def prepare(root: Path, runs: Sequence[Run], slots: Sequence[Slot]) -> None:
    """Data, features and the scale of the metrics, before any run waits for them and once for all studies of them.

    `runs`: one for each kind of data and metrics that is read.
    """
    scales = cache.root() / "scales"
    paths = {root / scale_name(run): run for run in runs}
    needed = {path: run for path, run in paths.items() if not path.exists()}
    if not all((scales / path.name).exists() for path in needed):
        scales.mkdir(parents=True, exist_ok=True)
        note("preparing data and features of the real images, once")
        warm_up(HEAVY, slots[0].threads)
    # No run is under way yet, so this may have the threads of all slots.
    whole = replace(slots[0], threads=sum(slot.threads for slot in slots))
    for path, run in needed.items():
        shared = scales / path.name
        if not shared.exists():
            _apart(measure_scale, run, whole, shared)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, read_scale(shared))


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """As `run_apart`. Raises HarnessError where the process ended before it had an answer."""
    try:
        return run_apart(function, *arguments)
    except EndedEarly as error:
        ways = "a process is ended when the memory or a disk is full, or when a library crashes"
        raise HarnessError(f"{error}: {ways}; make room and run the command again") from None


def rehearse(root: Path, runs: Sequence[Run], slots: Sequence[Slot]) -> None:
    """Take one step of each cell with code of the study's own that has no checkpoint yet, and throw it away.

    So a mistake in that code ends before the queue. Raises IdeaError, HarnessError where no step can be taken here.
    """
    own = {run.cell: run for run in runs if run.code_files and not (root / run.id / "checkpoint").exists()}
    if not own:
        return
    files = sorted({file for run in own.values() for file in run.source})
    note(
        f"this runs code of the study's own: {', '.join(files)}; a step of {quantity(len(own), 'cell')} is tried first"
    )
    warm_up(HEAVY, slots[0].threads)
    whole = replace(slots[0], threads=sum(slot.threads for slot in slots))
    for run in own.values():
        try:
            if remark := run_apart(rehearse_run, run, whole):
                note(f"{run.cell}: {remark}")
        except EndedEarly as error:
            ideas = [each for each in ideas_of(run.source, run.code_files) if each.name in run.settings.ideas]
            named = ", ".join(f"{each.name} ({each.where})" for each in ideas)
            ways = "code may not end its process, and it ends when a library crashes or the memory is full"
            raise HarnessError(f"{run.cell}: {error}: {ways}; own ideas that are on: {named}") from None
        except HarnessError as error:
            raise type(error)(f"{run.cell}: {error}") from error


def warn_of_shortage(root: Path, runs: Sequence[Run], slots: Sequence[Slot]) -> None:
    """Warn if two checkpoints and the generator of each of these runs, and one state being written, will not fit."""
    warm_up(HEAVY, slots[0].threads)
    sizes = _apart(sizes_mb, list({run.cell: run for run in runs}.values()))
    meter = Meter()
    missing = (2 * sizes[run.cell] * 2**20 - meter.path(root / run.id).bytes for run in runs)
    writing = len(slots) * max(sizes.values()) * 2**20
    if warning := shortage(root, int(writing + sum(each for each in missing if each > 0))):
        _log.warning("%s", warning)


def refuse_absent(study: Study, cells: Sequence[PlannedCell], told: Mapping[str, Mapping[str, str]]) -> None:
    """Before a study that was unpacked is trained: raises HarnessError that names what is not on this machine and where
    it has to be, or what is another than in the pack. `told`: cell -> fingerprints that its runs are planned with.
    """
    if read_pack(study.root, study.path.parent) is None:
        return
    problems = (*absent_data(study.settings.data), *absent_captions(study.settings.metrics))
    absent = [f"{dotted(keys)}: {text}" for keys, text in problems]
    here: dict[str, dict[str, str]] = {}
    if not absent:
        try:
            here = fingerprints(study, cells, None)
        except HarnessError as error:
            absent = [str(error)]
    if absent:
        first = f"{study.path}: training needs data and networks, which no pack holds: put them where they belong"
        raise HarnessError("\n".join([first, *absent, "without them status, report, sample and plan work"]))
    others = {path for cell, prints in here.items() for path, value in prints.items() if told[cell].get(path) != value}
    if others:
        problem = f"{', '.join(sorted(others))}: not what the runs of the pack were trained with"
        fix = f"put the same here, or delete {study.root / PACK} to plan every run anew with what is here"
        raise HarnessError(f"{study.path}: {problem}; {fix}")


def first_weights(plan: Plan) -> dict[str, dict[str, dict[str, Any]]]:
    """Cell -> network -> "taken", "adapted", "new" and "unused" layers, for cells that start from other weights."""
    runs = [plan.runs_of(cell)[0] for cell in plan.cells if any(vars(cell.settings.init).values())]
    outcomes: dict[str, dict[str, dict[str, Any]]] = {}
    left = []
    for run in runs:
        if plan.pack and run.id in plan.pack.record.layers:
            outcomes[run.cell] = plan.pack.record.layers[run.id]
        elif plan.pack and plan.pack.init(run.settings.init) is not None:
            note(f"{run.cell}: which layers start from other weights is not known, as these are not in the pack")
        elif run.first_weights and all(initial.file_of(place).is_file() for place in run.first_weights.values()):
            left.append(run)
    if left:
        warm_up(HEAVY, 1)
        outcomes |= _apart(jobs.first_weights, left)
    return outcomes


def data_provenance(run: Run) -> dict[str, Any]:
    """What a run is trained on: how many images, and which were left out and why."""
    found = find_prepared(without_split(run.fingerprints["data"]), cache.root())
    if found is None:
        return {}
    _, index = found
    same = {"same_pictures": list(index.remarks)} if index.remarks else {}
    counts = {"images": index.images, "held_out": index.held_out}
    if index.uncaptioned:
        counts["without_a_caption"] = index.uncaptioned
    return {"attribution": index.attribution, **counts, "left_out": index.bad, **same}
