"""The sections on weights, comparison and trials in the report of a search. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.analysis.results import Estimate, MetricResult
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.document import Block, Figure, Mark, Paragraph, Section, Strong, Table, Text
from harness.report.grids import NOTHING, Field, folded, numeric, seeds_improved, table, text, verdict
from harness.report.search import answer
from harness.study.search_space import Parameter
from harness.tuning.findings import ENOUGH, TUNED, WRITTEN, Findings, TrialRow

Figures = Mapping[str, tuple[Figure, ...]]
"""Kind of figure -> those that could be drawn."""
_COMPARED = (
    "Cell tuned has the weights of the best trial, cell written those as written, both trained and measured as the "
    "study's own runs are, under seeds that neither the search nor the study has. Change: mean difference between runs "
    "of equal seed, in % for distances. Each row stands alone: p is not corrected over them."
)


def weights(found: Findings, figures: Figures) -> Section:
    """What was written, what was found, and what it matters."""
    blocks: list[Block] = [weights_table(found)]
    if note := doubt(found):
        blocks.append(Paragraph(note, note=True))
    return Section("Weights", (*blocks, *figures.get("importances", ())), "weights")


def doubt(found: Findings) -> str:
    """How far importances can be trusted; empty where there are none."""
    if not found.importances:
        return ""
    done = sum(row.outcome == "done" for row in found.trials)
    told = (
        "Importance: the share of a weight in what the trials' objective varies by. fANOVA tells of the whole range, "
        "PED-ANOVA of what sets the better trials apart."
    )
    few = f" Indicative only: they rest on {done} trials, and below {ENOUGH} such shares change from search to search."
    return told + (few if done < ENOUGH else "")


def weights_table(found: Findings) -> Table:
    """A row a weight, in the order of the table of terms."""
    best = found.best.values if found.best else {}
    fields: list[Field[Parameter]] = [
        text("weight", lambda each: each.label),
        numeric("written", lambda each: value(each.written), lambda each: each.written),
        numeric("best", lambda each: value(best.get(each.name)), lambda each: best.get(each.name)),
        numeric("factor", lambda each: factor(each, best), lambda each: _ratio(each, best)),
        text("range", lambda each: f"{value(each.low)} to {value(each.high)}"),
        *_importances(found),
        text("setting", lambda each: each.name),
    ]
    return table(["weights"], "Weights as written and as found", fields, found.search.parameters)


def value(number: float | None) -> str:
    """A weight, to the digits that are trained with."""
    return wording.MISSING if number is None else f"{number:.4g}"


def factor(each: Parameter, best: Mapping[str, float]) -> str:
    """`× 1.32`: the best value in terms of the written one."""
    ratio = _ratio(each, best)
    return wording.MISSING if ratio is None else f"× {ratio:.3g}"


def _ratio(each: Parameter, best: Mapping[str, float]) -> float | None:
    return best[each.name] / each.written if each.name in best else None


def _importances(found: Findings) -> Iterator[Field[Parameter]]:
    several = len(found.search.objectives) > 1
    for metric in found.search.objectives:
        for evaluator, shares in found.importances.get(metric.name, {}).items():
            title = f"{evaluator}, {metric.title}" if several else evaluator
            yield _share(title, shares)


def _share(title: str, shares: Mapping[str, float]) -> Field[Parameter]:
    def tell(each: Parameter) -> str:
        return f"{100 * shares[each.name]:.0f} %" if each.name in shares else wording.MISSING

    return numeric(title, tell, lambda each: shares.get(each.name))


def comparison(found: Findings, _: Figures) -> Section | None:
    """The best against the weights as written under fresh seeds, on everything that was measured."""
    if found.comparison is None:
        return None
    leading = [metric.name for metric in found.search.metrics]
    results = sorted(found.comparison.metrics, key=lambda result: result.metric.name not in leading)
    fields: list[Field[MetricResult]] = [
        text("metric", lambda result: _named(found, result.metric)),
        text("better", lambda result: result.metric.better),
        numeric("written", lambda r: _cell(r, WRITTEN), lambda r: r.cell(WRITTEN).mean),
        numeric("tuned", lambda r: _cell(r, TUNED), lambda r: r.cell(TUNED).mean),
        numeric("change", lambda r: wording.signed(r.metric, _estimate(r).value), lambda r: _estimate(r).value),
        numeric("95 % interval", _interval, lambda r: _estimate(r).low),
        text("verdict", lambda result: verdict(_estimate(result).verdict)),
        seeds_improved(_estimate),
        numeric("p", lambda r: wording.p_value(_estimate(r).p), lambda r: _estimate(r).p),
    ]
    shown = table(["comparison"], "Weights as found and as written under fresh seeds", fields, results)
    notes = " ".join(filter(None, (_COMPARED, _apart(found))))
    return Section("Comparison under fresh seeds", (shown, Paragraph(notes, note=True)), "comparison")


def _apart(found: Findings) -> str:
    """Why the weights as written have other numbers here than in trial 0."""
    start = answer.first(found)
    results = {result.metric.name: result for result in found.comparison.metrics} if found.comparison else {}
    told = [
        f"{metric.title} is {answer.number(metric, start)} there and {wording.number(metric, mean)} here"
        for metric in found.search.metrics
        if start and metric.name in results and (mean := results[metric.name].cell(WRITTEN).mean) is not None
    ]
    if not told:
        return ""
    settings = found.search.cell.settings
    known = settings.data.source == "twemoji" and settings.metrics.clip.startswith("embedded:")
    why = ", on which the shipped networks that measure were trained" if known else ""
    return (
        f"Trials are measured on other images and captions than these{why}, and under other seeds, so "
        f"numbers of the two are not to be compared: with the weights as written {wording.listed(told)}."
    )


def _named(found: Findings, metric: Metric) -> Text:
    """Objectives stand out."""
    name = metric.title + (f", {metric.unit}" if metric.unit else "")
    return Strong(name) if metric.name in {each.name for each in found.search.objectives} else name


def _cell(result: MetricResult, name: str) -> str:
    return wording.mean_sd(result.metric, result.cell(name))


def _estimate(result: MetricResult) -> Estimate:
    return result.cell(TUNED).estimate or NOTHING


def _interval(result: MetricResult) -> str:
    return wording.interval(result.metric, _estimate(result).low, _estimate(result).high)


def course(_: Findings, figures: Figures) -> Section | None:
    """The search as figures."""
    kinds = ("history", "front", "parallel", "slices")
    drawn = tuple(figure for kind in kinds for figure in figures.get(kind, ()))
    return Section("The search", drawn, "search") if drawn else None


def trials(found: Findings, _: Figures) -> Section:
    """A row a trial."""
    if not found.trials:
        return Section("Trials", (Paragraph("No trial has begun."),), "trials")
    note = "Weights of every trial: trials.csv. Values are means over the seeds of a trial."
    shown = folded(trials_table(found), "trials with what they measured")
    return Section("Trials", (shown, Paragraph(note, note=True)), "trials")


def trials_table(found: Findings) -> Table:
    best = found.best.number if found.best else None
    fields: list[Field[TrialRow]] = [
        numeric("trial", lambda row: str(row.number), lambda row: row.number),
        text("outcome", lambda row: Mark(row.outcome, row.outcome)),
        *(_measured(metric) for metric in found.search.metrics),
    ]
    if found.search.constraints:
        fields.append(text("constraints", kept))
    fields += [
        numeric("seconds", lambda row: f"{row.seconds:.0f}", lambda row: row.seconds),
        text("note", lambda row: role(row, best, found)),
    ]
    return table(["trials"], "Every trial of the search", fields, found.trials)


def _measured(metric: Metric) -> Field[TrialRow]:
    return numeric(metric.title, lambda row: answer.number(metric, row), lambda row: row.measured.get(metric.name))


def kept(row: TrialRow) -> str:
    """Whether a trial keeps its constraints; a dash where it measured nothing."""
    if row.outcome != "done":
        return wording.MISSING
    return "kept" if row.is_candidate else "broken"


def role(row: TrialRow, best: int | None, found: Findings) -> str:
    """What is to be said of a trial beside its numbers."""
    told = ["as written"] if row.number == 0 else []
    told += ["Pareto front"] if row.number in {each.number for each in found.front} else []
    return ", ".join([*told, *(["best"] if row.number == best else [])])
