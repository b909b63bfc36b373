"""The sections on weights, comparison, trials and method in the report of a search."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from harness.analysis.results import Estimate, MetricResult
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.model import (
    Block,
    Code,
    CodeBlock,
    Details,
    Mark,
    Paragraph,
    Strong,
    Table,
    Text,
    bullets,
    plain,
)
from harness.report.made_by import by_code, by_machine
from harness.report.provenance import glossary
from harness.report.search.answer import aim, as_written
from harness.report.tables import (
    NO_ESTIMATE,
    Field,
    folded,
    measured,
    numeric,
    p_column,
    plain_column,
    seeds_improved,
    table,
    text,
)
from harness.report.verdicts import mark
from harness.runs.snapshot import Snapshot
from harness.study import search_space
from harness.study.search_space import Parameter
from harness.text import listed, quantity
from harness.trees import as_tree
from harness.tuning.findings import ENOUGH, TUNED, WRITTEN, Findings, TrialRow
from harness.tuning.profile import LINE, STEP, block_lines
from harness.tuning.search import Search
from harness.tuning.trials import JOURNAL

FILES = ("trials.csv", "search.json", "tables.tex")
"""Beside the report, as it lists them."""
_COMPARED = (
    "Cell tuned has the weights of the best trial, cell written those as written, both trained and measured as the "
    "study's own runs are, under seeds that neither the search nor the study has. Change: mean difference between runs "
    "of equal seed, in % for distances. Each row stands alone: p is not corrected over them."
)
_SAMPLERS = {
    "tpe": "TPE (multivariate Parzen estimators)",
    "gp": "GP (a Gaussian process)",
    "nsga2": "NSGA-II (a genetic algorithm)",
}
_PRUNERS = {
    "none": "none: every trial is trained to its end",
    "halving": "successive halving on what is measured during training",
    "hyperband": "Hyperband on what is measured during training",
    "wilcoxon": "Wilcoxon's signed-rank test over the seeds of a trial",
}


def weights(findings: Findings) -> Iterator[Block]:
    """What was written, what was found, and how much each weight matters."""
    yield weights_table(findings)
    if note := on_importances(findings):
        yield Paragraph(note, note=True)


def on_importances(findings: Findings) -> str:
    """What importances are and how far they can be trusted; empty where there are none."""
    if not any(findings.importances.values()):
        return ""
    done = sum(row.outcome == "done" for row in findings.trials)
    meaning = (
        "Importance: the share of a weight in the variation of the objective over trials. fANOVA covers the whole "
        "range, PED-ANOVA what separates the better trials from the rest."
    )
    trials = quantity(done, "trial")
    few = f" Indicative only: they rest on {trials}, and below {ENOUGH} such shares change from search to search."
    return meaning + (few if done < ENOUGH else "")


def weights_table(findings: Findings) -> Table:
    """One row for each weight, in the order of the table of terms."""
    best = findings.best.values if findings.best else {}
    objectives = findings.search.objectives

    def column(
        title: str, value: Callable[[Parameter], float | None], show: Callable[[float], str] = "{:.4g}".format
    ) -> Field[Parameter]:
        """Of weights, unless told, to the digits that are trained with."""

        def shown(each: Parameter) -> str:
            number = value(each)
            return wording.MISSING if number is None else show(number)

        return numeric(title, shown, value)

    def importance(evaluator: str, metric: Metric) -> Field[Parameter]:
        shares = findings.importances[metric.name][evaluator]
        title = f"{evaluator}, {metric.title}" if len(objectives) > 1 else evaluator
        return column(title, lambda each: shares.get(each.name), lambda share: f"{100 * share:.0f} %")

    fields: list[Field[Parameter]] = [
        text("weight", lambda each: each.label),
        column("written", lambda each: each.written),
        column("best", lambda each: best.get(each.name)),
        column("factor", lambda each: best[each.name] / each.written if each.name in best else None, "× {:.3g}".format),
        text("range", lambda each: f"{each.low:.4g} to {each.high:.4g}"),
        *(importance(each, metric) for metric in objectives for each in findings.importances.get(metric.name, ())),
        text("setting", lambda each: each.name),
    ]
    return table(["weights"], "Weights as written and as found", fields, findings.search.parameters)


def comparison(findings: Findings) -> Iterator[Block]:
    """The best against the weights as written under fresh seeds, on everything that was measured."""
    if findings.comparison is None:
        return
    yield _comparison_table(findings.search, findings.comparison.metrics)
    note, start = _COMPARED, as_written(findings)
    means = {result.metric.name: result.cell(WRITTEN).mean for result in findings.comparison.metrics}
    numbers = [
        f"{metric.title} is {wording.number(metric, start.measured.get(metric.name))} there and "
        f"{wording.number(metric, means[metric.name])} here"
        for metric in findings.search.metrics
        if start and means.get(metric.name) is not None
    ]
    if numbers:
        # Why the weights as written have other numbers here than in trial 0.
        settings = findings.search.cell.settings
        shipped = settings.data.source == "twemoji" and settings.metrics.clip.startswith("embedded:")
        why = ", on which the shipped networks that measure were trained" if shipped else ""
        others = "images" if settings.metrics.captions else "images and captions"
        note += (
            f" Trials are measured on other {others} than these{why}, and under other seeds, so "
            f"numbers of the two are not to be compared: with the weights as written {listed(numbers)}."
        )
    yield Paragraph(note, note=True)


def _comparison_table(search: Search, results: Sequence[MetricResult]) -> Table:
    """One row for each metric, those that the search does not use last."""
    used = [metric.name for metric in search.metrics]
    objectives = [metric.name for metric in search.objectives]

    def estimate(result: MetricResult) -> Estimate:
        return result.cell(TUNED).estimate or NO_ESTIMATE

    def interval(result: MetricResult) -> str:
        return wording.interval(result.metric, estimate(result).low, estimate(result).high)

    def title(result: MetricResult) -> Text:
        return Strong(result.metric.title) if result.metric.name in objectives else result.metric.title

    def mean(column: str, cell: str) -> Field[MetricResult]:
        return numeric(column, lambda r: wording.mean_sd(r.metric, r.cell(cell)), lambda r: r.cell(cell).mean)

    fields: list[Field[MetricResult]] = [
        text("metric", title),
        text("better", lambda result: result.metric.better),
        mean("written", WRITTEN),
        mean("tuned", TUNED),
        numeric("change", lambda r: wording.signed(r.metric, estimate(r).value), lambda r: estimate(r).value),
        numeric("95 % interval", interval, lambda result: estimate(result).low),
        text("verdict", lambda result: mark(estimate(result).verdict)),
        seeds_improved(estimate),
        p_column("p", lambda result: estimate(result).p),
    ]
    ordered = sorted(results, key=lambda result: result.metric.name not in used)
    return table(["comparison"], "Weights as found and as written under fresh seeds", fields, ordered)


def trials(findings: Findings) -> Iterator[Block]:
    if findings.trials:
        yield folded(trials_table(findings), "trials with what they measured")
        yield Paragraph("Weights of every trial: trials.csv. Values are means over the seeds of a trial.", note=True)
    else:
        yield Paragraph("No trial has started.")


def trials_table(findings: Findings) -> Table:
    """One row for each trial."""
    front = {row.number for row in findings.front}

    def role(row: TrialRow) -> str:
        is_best = findings.best is not None and row.number == findings.best.number
        roles = {"as written": row.number == 0, "Pareto front": row.number in front, "best": is_best}
        return ", ".join(role for role, holds in roles.items() if holds)

    def constraints(row: TrialRow) -> str:
        return wording.MISSING if row.outcome != "done" else "met" if row.is_candidate else "violated"

    fields: list[Field[TrialRow]] = [
        plain_column("trial", lambda row: row.number, 0),
        text("outcome", lambda row: Mark(row.outcome, row.outcome)),
        *measured(findings.search.metrics, attrgetter("measured")),
        *([text("constraints", constraints)] if findings.search.constraints else []),
        plain_column("seconds", lambda row: row.seconds, 0),
        text("note", role),
    ]
    return table(["trials"], "Every trial of the search", fields, findings.trials)


def words(findings: Findings) -> Block:
    """What the words of this report stand for; docs/glossary.md has the same words."""
    search = findings.search
    absent: set[str] = {"pruned", "unfinished"} - {row.outcome for row in findings.trials}
    absent |= set() if search.constraints else {"constraint"}
    absent |= set() if len(search.objectives) > 1 else {"Pareto front"}
    meanings: dict[str, Text] = {
        "weights as written": "the loss settings of the study file; trial 0 has them",
        "trial": "one set of weights, trained under the search's own seeds",
        "tuning seeds and captions": "those that trials are trained under and measured on",
        "fresh seeds": "seeds that neither the search nor the study has; what was found is compared under them",
        "objective": "the metric that the search improves",
        "constraint": "how much worse another metric may become than with the weights as written",
        "Pareto front": "the trials that no other trial beats in all objectives",
        "pruned": "stopped early, as what was measured during training was poor",
        "unfinished": "stopped by somebody; the next call continues it",
    }
    return glossary(meanings, absent, findings.comparison, search.metrics)


_SPLIT = (
    "A trial is trained and measured on a split of its own: the images and captions that the study holds out are left "
    "out, and others are held out in their place. So no trial has seen what the study holds out."
)
_SHARED_CAPTIONS = (
    " The captions of metrics.captions are the same for trials and for the study, so caption metrics of the best trial "
    "are optimistic."
)


def method(findings: Findings) -> Iterator[Block]:
    """Sampler, pruner, seeds, budget, the search's name in Optuna, and the weights found as text."""
    search, tune = findings.search, findings.search.tune
    hours = sum(row.seconds for row in findings.trials) / 3600
    budget = f"{quantity(tune.trials, 'trial')} of {quantity(tune.seeds, 'seed')}"
    items: list[Text] = [
        f"cell: {search.cell.name}, with {listed(search.cell.toggles) or 'no toggle'}",
        f"objective: {aim(findings)}",
        f"sampler: {_SAMPLERS[tune.sampler]}, each weight on a logarithmic scale, weights as written first",
        f"pruner: {_PRUNERS[search_space.pruner(search.cell.settings, tune)]}",
        f"budget: {budget}; {hours:.2f} hours of training so far",
        f"seeds of a trial: {_range(search.seeds)}",
        f"fresh seeds of the comparison: {_range(search.fresh_seeds) or 'none'}",
        ("search: ", Code(search.identity), ", in Optuna's storage ", Code(search.name)),
    ]
    root = search.study.root
    done = [run for run in Snapshot(root, ()).other_runs if (root / run.id / "result.json").exists()]
    items += [f"code: {plain(line)}" for line in by_code(done, "to search anew, move the folder of its runs away")]
    items += [f"machines: {plain(line)}" for line in by_machine(done)]
    yield bullets(items)
    shared = _SHARED_CAPTIONS if search.cell.settings.metrics.captions else ""
    yield Paragraph(f"{_SPLIT}{shared}", note=True)
    look: Text = (
        "To look into the search: ",
        Code(f"optuna-dashboard {shlex.quote(f'runs/{search.study.label}/{JOURNAL}')}"),
        " beside the study file; or with the URL of tune.storage or OPTUNA_STORAGE, if one was set.",
    )
    yield Paragraph(look)
    if findings.best is not None and findings.best.number > 0:
        yield Details("The weights found, as in a study file", (CodeBlock(as_yaml(findings), "yaml"),))


def _range(seeds: Sequence[int]) -> str:
    """`10000 to 10004` where they follow each other."""
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return listed([str(seed) for seed in seeds])


def as_yaml(findings: Findings) -> str:
    """The best weights as settings of a study file, whose comment says where they come from."""
    assert findings.best is not None
    head = f"# found by trial {findings.best.number} of search {findings.search.identity}"
    return "\n".join([head, *block_lines(as_tree(findings.best.values), STEP, LINE)])
