"""A whole search of weights: trials until there are as many as asked for, then the best against those as written.

Torch is loaded in the fork server alone, from which every run's process comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.exit_codes import FAILED_RUNS, STOPPED
from harness.grid import placement
from harness.grid.prepare import refuse_absent, slots_of, with_slots
from harness.grid.search_outcome import apply_best, problems, publish, refuse_unfit_file
from harness.grid.search_run import SearchRun, all_runs, make_search_ready
from harness.grid.search_submit import SearchSubmission, in_words, submission, with_failed_runs
from harness.report.search.write import is_written
from harness.runs.device_kind import refuse_other_kind
from harness.runs.record import FINAL, SETTLED, Run
from harness.runs.snapshot import Snapshot
from harness.scheduler.live import LiveView
from harness.scheduler.processes import nothing_to_save
from harness.scheduler.slots import Slot
from harness.study.schema import Study
from harness.terminal.console import failure, note, terminal
from harness.text import quantity
from harness.tracking.mirror import Mirror
from harness.tuning.findings import Findings, fresh_runs, gains, read_findings, with_importances
from harness.tuning.search import make_search
from harness.tuning.trials import Trials, storage_errors


@dataclass(frozen=True)
class TuneResult:
    """How one or several searches ended."""

    exit_code: int
    """The largest of them: 0 done or submitted, 3 with failed runs, 130 or 143 stopped by a signal, after checkpoints.
    """
    searches: tuple[Findings, ...] = ()
    """One for each cell, in order; empty when they were stopped or are not waited for."""
    applied: tuple[str, ...] = ()
    """What was written into the study file, and what was not and why, in words."""


def tune_cells(
    studies: Sequence[Study],
    *,
    slots: int | None = None,
    deadline: float = float("inf"),
    apply: bool = False,
    detach: bool = False,
) -> TuneResult:
    """One search after another, each as far as it comes.

    `slots`: runs at the same time, by default the study's. `deadline`, of `time.monotonic`: no trial begins after it.
    `apply`: write the best weights into the study file. `detach`: return once workers are submitted for all of them.
    """
    nothing_to_save()
    studies = [with_slots(study, slots) for study in studies]
    # All are opened before the first runs, so that a mistake in the last one shows at once.
    found = [make_search(study) for study in studies]
    for study, search in zip(studies, found, strict=True):
        refuse_absent(study, [search.cell], {search.cell.name: search.fingerprints})
    places = [submission(search, deadline, apply, detach) for search in found]
    opened = [Trials(search) for search in found]
    for study, trials in zip(studies, opened, strict=True) if apply else ():
        with storage_errors(trials.search):
            refuse_unfit_file(study, read_findings(trials))
    code, searched = 0, list[Findings]()
    for trials, elsewhere in zip(opened, places, strict=True):
        with storage_errors(trials.search):
            ended, findings = _tune(trials, deadline, elsewhere)
        code = max(code, ended)
        if findings is None and not detach:
            return TuneResult(code)
        searched += [findings] if findings else []
    if detach:
        return TuneResult(code)
    first = replace(searched[0], gains=gains(searched[0], searched[1:]))
    if first.gains:
        publish(first)
        Mirror(first.search.study, first.search.study.root, all_runs(first)).catch_up()
    return TuneResult(code, (first, *searched[1:]), tuple(map(apply_best, studies, searched)) if apply else ())


def _tune(trials: Trials, deadline: float, elsewhere: SearchSubmission | None) -> tuple[int, Findings | None]:
    """Carry on a search, here or by workers; the exit code and, unless it was left in the middle, the findings.

    0 as far as it was asked for, 3 with failed runs, above 128 when stopped after checkpoints. Raises HarnessError.
    """
    search, study = trials.search, trials.search.study
    findings = read_findings(trials)
    runs = all_runs(findings)
    before = Snapshot(study.root, runs)
    before.refuse_damaged(runs)
    mirror = Mirror(study, study.root, runs)
    is_complete = findings.is_over and all(before.status(run.id).state in SETTLED for run in fresh_runs(findings))
    code, failed = 0, set[int]()
    if is_complete:
        note(f"nothing to do: {quantity(findings.done, 'trial')} of {search.cell.name}, and no run is left")
    elif elsewhere:
        code = elsewhere.train(trials, findings, runs, mirror)
        if code or elsewhere.detach:
            return code, None
        failed = with_failed_runs(read_findings(trials))
    else:
        work = SearchRun(trials, _slots(findings, before, runs), runs)
        make_search_ready(trials, work.slots)
        with mirror, LiveView(runs, study.root, work.slots, terminal(error=True, live=True)) as view:
            code = work.run(view.tick, deadline)
        if code > STOPPED:
            return code, None
        failed = work.failed
    findings = with_importances(read_findings(trials), trials)
    # A worker elsewhere has written it, by the study as its job has it; margins and the like may be others since.
    if not (is_current := is_written(findings, study.reports)):
        publish(findings)
    if not (is_complete and is_current):
        mirror.catch_up()
    texts = list(problems(findings, failed))
    for text in texts:
        failure(text)
    return code or (FAILED_RUNS if texts else 0), findings


def _slots(findings: Findings, before: Snapshot, runs: Sequence[Run]) -> tuple[Slot, ...]:
    """Where runs go on this machine, which is told. Raises HarnessError where those begun were elsewhere."""
    resources = findings.search.study.resources
    slots = slots_of(findings.search.study)
    left = [run for run in runs if before.status(run.id).state not in FINAL]
    refuse_other_kind(before.root, left, slots[0].torch_device)
    note(f"{in_words(findings)}, {placement.in_words(resources, slots)}")
    return slots
