"""What came out of a search: its report, what went wrong, and the weights in the study file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.analysis.results import Verdict
from harness.grid.prepare import one_at_a_time
from harness.report.document.markdown import md
from harness.report.search.answer import on_fresh_seeds, on_gains, on_tuning_seeds, progress
from harness.report.search.write import for_tracker, reported_searches, write_search
from harness.report.write import ReportIsKept, set_aside
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.study import search_space
from harness.study.schema import Study, Tuned
from harness.terminal.console import note, shown
from harness.text import quantity
from harness.tracking.ledger import Report
from harness.tracking.parent_run import ask_for_report
from harness.tuning.findings import Findings, fresh_runs
from harness.tuning.profile import refuse_unfit, write_profile

_AGAINST: Mapping[Verdict, str] = {
    "diverged": "runs with the weights found have diverged",
    "worse": "the weights found are worse than those as written",
}
"""What keeps weights from being written into the study file."""


def publish(findings: Findings) -> None:
    """The report, unless it would replace one that tells more; MLflow's parent run is to show it."""
    study = findings.search.study
    folder = study.reports
    name = {findings.search.name}
    finished = name if findings.has_result else set()
    with one_at_a_time(study.root, "report"):
        try:
            earlier = set_aside(folder, "search", reported_searches(folder), name, finished)
        except ReportIsKept as kept:
            note(str(kept))
            return
        if earlier:
            note(f"the report of another search that was in {shown(folder)} is now in {shown(earlier)}")
        path = write_search(findings, folder)
    note(f"report: {shown(path)}")
    numbers, tables = for_tracker(findings)
    sentences = [progress(findings), on_tuning_seeds(findings)]
    sentences += [text for _, text in (*on_fresh_seeds(findings), *on_gains(findings))]
    report = Report(
        summary=numbers,
        tables=tables,
        note=[md(text) for text in sentences],
        headlines=[(metric.name, metric.better) for metric in findings.search.objectives],
        parameters=[each.name for each in findings.search.parameters],
    )
    ask_for_report(study, study.root, report, path.parent)


def problems(findings: Findings, failed: Iterable[int]) -> Iterator[str]:
    """Why trials have no outcome, and what of the comparison gave no number."""
    search = findings.search
    for number in sorted(failed):
        runs = search.runs(findings.trials[number].values, number)
        yield f"trial {number} has failed runs: {_logs(findings, without_number(findings, runs) or runs)}"
    first = findings.trials[0] if findings.trials else None
    if search.constraints and first and first.outcome == "diverged":
        what = "trial 0, which the constraints are measured against, has diverged"
        yield f"{what}; write other weights, or leave tune.constraints out"
    elif findings.is_over and not findings.has_result:
        fix = "write other weights, or narrow tune.span or tune.ranges"
        yield f"{quantity(findings.done, 'trial')} without a result: all have diverged or were pruned; {fix}"
    if bad := without_number(findings, fresh_runs(findings)):
        yield f"no number came of {quantity(len(bad), 'run')} of the comparison: {_logs(findings, bad)}"


def without_number(findings: Findings, runs: Sequence[Run]) -> list[Run]:
    """Those of these runs that have failed or diverged."""
    snapshot = Snapshot(findings.search.study.root, runs)
    return [run for run in runs if snapshot.status(run.id).state in ("failed", "diverged")]


def _logs(findings: Findings, runs: Sequence[Run]) -> str:
    """Where to read what went wrong."""
    root = findings.search.study.root
    return ", ".join(f"{run.cell} seed {run.seed} (see {shown(root / run.id / 'log.txt')})" for run in runs)


def refuse_unfit_file(study: Study, findings: Findings) -> None:
    """Before a search whose weights are to be written: raises SpecError where the study file could not take them."""
    if not findings.is_over:  # of one that is over the text to paste is shown
        highest = {each.name: each.high for each in findings.search.parameters}
        refuse_unfit(study, highest, _tuned(study, findings))


def apply_best(study: Study, findings: Findings) -> str:
    """Write the best weights into the study file, unless they are there already; what was done, in words."""
    cell = findings.search.cell.name
    if not findings.is_over or findings.best is None:
        return f"{cell}: {findings.done} of {study.tune.trials} trials are done; the weights are written when all are"
    if findings.best.number == 0:
        return f"{cell}: no trial was better than the weights as written; nothing is written"
    verdicts = [verdict for verdict, _ in on_fresh_seeds(findings) if verdict]
    against = next((why for verdict, why in _AGAINST.items() if verdict in verdicts), "")
    if not verdicts and study.tune.confirm:
        against = "the weights found gave nothing to compare"
    if against:
        return f"{cell}: under fresh seeds {against}; nothing is written (the report has the weights as text)"
    name = write_profile(study, findings.best.values, _tuned(study, findings))
    judged = f"under fresh seeds: {', '.join(verdicts)}" if verdicts else "not compared under fresh seeds"
    train = replace(study, profile=name, overrides=()).command("run-grid")
    return f"{cell}: the weights are in the profile {name} ({judged}); {train}"


def _tuned(study: Study, findings: Findings) -> dict[str, Tuned]:
    """What the study file is to say of the search: the trials that there are, where fewer are asked for by now."""
    trials = max(findings.done, study.tune.trials)
    return {findings.search.cell.name: Tuned(trials, ", ".join(search_space.objectives(study.tune)))}
