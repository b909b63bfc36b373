"""What a reader has to know before believing the verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from harness.analysis.results import Analysis, Estimate, MetricResult, family_size
from harness.analysis.sample import ALPHA
from harness.analysis.statistics import quantile
from harness.design.kinds import FIRST_LOOK
from harness.metrics import cards
from harness.metrics.definitions import base
from harness.report.document.model import About, Names, Span, Text, listing
from harness.report.inputs import ReportInputs
from harness.report.made_by import MOST_CELLS, MOST_RUNS, begun_from, by_code, by_machine, by_sharing, differ_at_first
from harness.report.verdicts import CLAIMED, MOST_NAMES, Reasoned, beside_effects, has_zero, other_verdict
from harness.report.wording import minus, number
from harness.runs.record import Run, notes_on_scripts, state_of
from harness.study.looks import Look, changed_rules, look_now
from harness.study.remarks import cells_of_remarks, remarks
from harness.study.schema import Study
from harness.text import listed, quantity


def caveats(inputs: ReportInputs) -> list[Text]:
    """One or two sentences each."""
    analysis, records = inputs.analysis, inputs.records
    cells = {record.run.cell: record.run for record in records}
    lines: list[Text] = [searched_weights(inputs.study, analysis.baseline), _few_seeds(analysis), by_looks(analysis)]
    if missing := [it for it in records if state_of(it) != "done"]:
        each = tuple((f"{it.run.cell} seed {it.run.seed} {state_of(it)}", it.run.cell) for it in missing[:MOST_RUNS])
        named = Names(each, len(missing[MOST_RUNS:]))
        lines.append((f"{quantity(len(missing), 'planned run')} gave no number, see Runs: ", named, "."))
    lines += by_code(it.run for it in records if it.result)
    lines += by_machine(it.run for it in records if it.result)
    lines.append(by_sharing(it.status for it in records if it.result))
    lines += begun_from([record.run for record in records])
    lines += of_looks(inputs.study, [record.run for record in records], inputs.looks)
    noted = ((record.run.cell, record.run.seed, record.status.script_notes) for record in records)
    lines += [with_names(f"{line[0].upper()}{line[1:]}.", cells) for line in notes_on_scripts(noted)]
    for result in analysis.headlines:
        texts = [
            *_on_looks(result, len(analysis.seeds)),
            *_on_metric(result, inputs.equal_time),
            *differ_at_first(result, records, analysis.baseline),
        ]
        lines += [(f"{result.metric.title}: ", *text) for text in texts]
        lines += [with_names(f"{result.metric.title}: {note}", cells) for note in result.notes]
    lines += [with_names(note, cells) for note in analysis.notes]
    lines += [cards.bias(result.metric, result.card) for result in analysis.headlines if result.card]
    lines += dict.fromkeys(text for result in analysis.metrics for text in cards.caveats(result.metric, result.card))
    lines += against_real_images(inputs)
    suspected = "the CLIP that guided its training scores it higher in every seed, the CLIP that measures in none."
    lines += [
        About((f"Overfitting to CLIP is suspected in {cell}: {suspected}",), (cell,)) for cell in analysis.suspicions
    ]
    remarked = cells_of_remarks({cell: remarks(run.settings, run.fingerprints) for cell, run in cells.items()})
    for remark, own in remarked.items():
        lines.append((listing(own, MOST_NAMES) if own else "every cell", f": {remark}."))
    return [line for line in lines if line]


def with_names(text: str, cells: Iterable[str]) -> Text:
    """A sentence in which lists of cells, or of their runs, are lists that a page can shorten."""
    name = "|".join(re.escape(cell) for cell in sorted(cells, key=len, reverse=True))
    one = rf"(?<![\w.+=-])(?:{name})(?![\w+=-]|\.\w)(?: seed \d+)?"
    spans: list[Span] = []
    at = 0
    for found in re.finditer(rf"{one}(?:(?:, | and ){one})*(?: and (\d+) more)?", text) if name else ():
        items = tuple((item[0], re.sub(r" seed \d+$", "", item[0])) for item in re.finditer(one, found[0]))
        spans += [text[at : found.start()], Names(items, int(found[1] or 0))]
        at = found.end()
    return (*spans, text[at:]) if spans else text


def searched_weights(study: Study, baseline: str) -> str:
    """For whom the loss weights were searched, and that the baseline's were not; empty for weights as written."""
    if not study.tuned:
        return ""
    searches = [f"{cell} ({quantity(it.trials, 'trial')} on {it.objective})" for cell, it in study.tuned.items()]
    text = f"The loss weights come from a search for {listed(searches)}, and are used in every cell."
    if baseline in study.tuned:
        return text
    return f"{text} No search was made for {baseline}: a change against it includes what the search gained."


def by_looks(analysis: Analysis) -> str:
    """What it means that the results decided how many seeds there are; empty where their number was fixed."""
    rule = analysis.rule
    if rule is None or len(analysis.seeds) < rule.first:
        return ""
    looks = listed([str(seeds) for seeds in range(rule.first, rule.most + 1)], "or")
    return (
        f"The results decided how many seeds there are: training could end after {looks}. Intervals, p and verdicts "
        "allow for that. Effects and means do not: a study ends sooner where chance makes its effects look large, so "
        "on average they are a little smaller than shown."
    )


def of_looks(study: Study, runs: Sequence[Run], looks: Sequence[Look]) -> Iterator[str]:
    """That the rule by which seeds were added was changed between looks, or is not the one of this report."""
    by_todays_rule = [look_now(study, runs)] if study.design.max_seeds is not None else []
    if changed := changed_rules([*looks, *by_todays_rule]):
        yield (
            f"The rule by which seeds were added was not fixed beforehand: {listed(changed)}. So a difference that is "
            "not there is called one more often than the rule allows."
        )
    seeds = len(study.design.seeds)
    if looks and study.design.max_seeds is None and seeds >= FIRST_LOOK:
        yield (
            f"Seeds were added to this study until its effects were decided, last compared after {looks[-1].seeds}. "
            f"This report is of {seeds} seeds as if their number had been fixed: its intervals and p values are too "
            f"good. With design.seeds=auto and design.max_seeds={looks[-1].rule.most} they are right."
        )


def _few_seeds(analysis: Analysis) -> str:
    if analysis.rule:
        return ""
    compared = [(result.df, estimate) for result in analysis.headlines for _, estimate in result.compared]
    counts = {estimate.n for _, estimate in compared if estimate.n}
    if counts == {1} and all(estimate.p is None for _, estimate in compared):
        return "One seed gives no verdict: the differences may be chance. Verdicts need two seeds; five are better."
    if 2 not in counts or len(analysis.seeds) > 2:
        return ""
    two, three, five = (quantile(n - 1) for n in (2, 3, 5))
    return (
        "Two seeds are few, so inconclusive says little here. Intervals use the spread of all cells together "
        f"(df = {min(df for df, _ in compared)}), and are right if all cells spread alike. From two seeds alone an "
        f"interval would reach {two:.1f} standard errors to either side, from three {three:.1f}, from five {five:.1f}."
    )


def _on_metric(result: MetricResult, at_equal_time: Analysis | None) -> Iterator[tuple[Span, ...]]:
    """Where an interval and its verdict do not say the same, or an interval is not like the others; claims that have
    another verdict when every cell has the baseline's time."""
    effects, cells = _families(result)
    yield from _on_intervals(effects, family_size(it.estimate for it in effects), result.rule is not None)
    yield from _on_intervals(cells, family_size(cell.estimate for cell in result.cells), result.rule is not None)
    claims = [(it.called, it.estimate) for it in effects if it.estimate.verdict in CLAIMED]
    verdicts = {name: other_verdict(result, name, estimate, at_equal_time) for name, estimate in claims}
    if others := tuple((f"{name} ({verdict})", name) for name, verdict in verdicts.items() if verdict):
        yield "at equal time instead of equal images the verdict differs: ", Names(others), "; see Cost."


def _families(result: MetricResult) -> tuple[list[Reasoned], list[Reasoned]]:
    """What the answer is about; and the cells that are compared beside it, of which `full` is one."""
    effects = [Reasoned(name, name, estimate) for name, estimate in result.compared]
    return effects, beside_effects(result) if result.effects else []


def _on_intervals(compared: Sequence[Reasoned], family: int, by_rule: bool) -> Iterator[tuple[Span, ...]]:
    """Of comparisons among so many that Holm's correction is over all of them."""
    below = [it for it in compared if it.estimate.p is not None and it.estimate.p < ALPHA]
    if found := [it for it in below if it.estimate.verdict == "inconclusive"]:
        before, after = ("p of ", " is below 0.05") if by_rule else ("the interval of ", " excludes zero")
        leaves = f"but Holm's correction for {family} comparisons leaves the verdict inconclusive"
        yield before, _named(found), f"{after}, {leaves}. More seeds would help."
    if found := [it for it in compared if it.estimate.uneven]:
        alone = "so interval and p are from its own seeds alone (df = n − 1)."
        yield "the spread of ", _named(found), f" over seeds is unlike that of the other cells, {alone}"
    claimed = [it for it in compared if it.estimate.verdict in CLAIMED]
    if found := [it for it in claimed if has_zero(it.estimate.own_low, it.estimate.own_high)]:
        own = "from own seeds alone, without the spread that all cells share, the interval of "
        yield own, _named(found), " includes zero."


def _on_looks(result: MetricResult, seeds: int) -> Iterator[tuple[Span, ...]]:
    """Where the interval of all seeds does not say what a look has decided."""
    decided = [it for family in _families(result) for it in family if it.estimate.decided_after]
    before = [it for it in decided if (it.estimate.decided_after or 0) < seeds]
    apart = [it for it in decided if it.estimate.verdict in CLAIMED and has_zero(it.estimate.low, it.estimate.high)]
    includes = "the interval of all seeds includes zero"
    if found := [it for it in apart if it in before]:
        stands = f"was reached at an earlier look, and stands, although {includes} by now."
        yield "the verdict on ", _named(found), f" {stands}"
    if found := [it for it in apart if it not in before]:
        rests = f"rests on p of an earlier look, which Holm's correction lets through now, although {includes}."
        yield "the verdict on ", _named(found), f" {rests}"
    equivalent = [it for it in before if it.estimate.verdict == "equivalent"]
    if found := [it for it in equivalent if _reaches_beyond(it.estimate, result.margin)]:
        stands = (
            "was reached at an earlier look, and stands, although the interval of all seeds reaches beyond the margin."
        )
        yield "that the change is within the margin, of ", _named(found), f", {stands}"


def _named(found: Sequence[Reasoned]) -> Names:
    return Names(tuple((it.called, it.cell) for it in found[:MOST_NAMES]), len(found[MOST_NAMES:]))


def _reaches_beyond(estimate: Estimate, margin: float | None) -> bool:
    """Whether an interval leaves room for a change that would matter."""
    low, high = estimate.low, estimate.high
    return margin is not None and low is not None and high is not None and (low < -margin or high > margin)


def against_real_images(inputs: ReportInputs) -> Iterator[Text]:
    """Where real images show that a caption metric says nothing, and which cells score above real images."""
    count = int(inputs.sanity.get("floor", {}).get("n", 0))
    for result in inputs.analysis.metrics:
        metric, name = result.metric, result.metric.name
        if base(name) not in ("clip_score", "r_precision"):
            continue
        gap, error, ceiling = (inputs.sanity.get(row, {}).get(name) for row in ("gap", "gap_error", "ceiling"))
        half = quantile(count - 1) * error if error is not None and count > 1 else None
        if gap is not None and half is not None and gap <= half:
            yield (
                f"{metric.title}: real images score no better with their own captions than with shuffled ones (by "
                f"{minus(f'{gap:.2f}')} ± {half:.2f} {metric.unit}): {result.card.get('extractor', 'the network')} "
                "cannot tell right from wrong captions of this data, so no caption metric says anything about them."
            )
        means = {cell.cell: cell.mean for cell in result.cells if cell.mean is not None}
        ranked = sorted(means, key=lambda cell: -means[cell])
        if above := [cell for cell in ranked if ceiling is not None and means[cell] > ceiling]:
            each = tuple((f"{cell} {number(metric, means[cell])}", cell) for cell in above[:MOST_CELLS])
            means_what = (
                "Training makes images fit what a CLIP model expects of a caption, more closely than real images do. "
                "Above the ceiling a higher score is a closer fit to the model, not a better image."
            )
            real = f"above real images with their own captions ({number(metric, ceiling)})"
            yield f"{metric.title}: ", Names(each, len(above[MOST_CELLS:])), f" {real}. {means_what}"
