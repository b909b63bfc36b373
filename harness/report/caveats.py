"""What a reader has to know before believing the verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.analysis.results import Analysis, MetricResult
from harness.analysis.statistics import LEVEL, quantile
from harness.code.engine import SCRIPT, today
from harness.design.kinds import FIRST_LOOK
from harness.metrics import cards
from harness.metrics.definitions import base
from harness.report.document.model import About, Names, Span, Text, listing
from harness.report.inputs import ReportInputs
from harness.report.verdicts import CLAIMED, MOST_NAMES, has_zero, other_verdict
from harness.report.wording import counted, listed, minus, number
from harness.runs.initial import NETWORKS
from harness.runs.record import Run, Status, notes_on_scripts, state_of
from harness.study.looks import Look, changed_rules
from harness.study.schema import Study, cells_of_remarks, remarks

MOST_RUNS, MOST_CELLS = 8, 4
"""Named in one sentence."""


def caveats(inputs: ReportInputs) -> list[Text]:
    """One or two sentences each."""
    analysis, records = inputs.analysis, inputs.records
    cells = {record.run.cell: record.run for record in records}
    searched = about_cells(searched_weights(inputs.study, analysis.baseline), cells)
    lines: list[Text] = [searched, _few_seeds(analysis), by_looks(analysis)]
    if missing := [it for it in records if state_of(it) != "done"]:
        each = tuple((f"{it.run.cell} seed {it.run.seed} {state_of(it)}", it.run.cell) for it in missing[:MOST_RUNS])
        named = Names(each, len(missing[MOST_RUNS:]))
        lines.append((f"{counted(len(missing), 'planned run')} gave no number, see Runs: ", named, "."))
    lines += by_code(it.run for it in records if it.result)
    lines += by_machine(it.run for it in records if it.result)
    lines.append(by_sharing(it.status for it in records if it.result))
    lines += begun_from([record.run for record in records])
    lines += of_looks(inputs.study, inputs.looks)
    noted = ((record.run.cell, record.run.seed, record.status.script_notes) for record in records)
    lines += [about_cells(f"{line[0].upper()}{line[1:]}.", cells) for line in notes_on_scripts(noted)]
    for result in analysis.headlines:
        lines += [(f"{result.metric.title}: ", *text) for text in _on_metric(result, inputs.equal_time)]
        lines += [about_cells(f"{result.metric.title}: {note}", cells) for note in result.notes]
    lines += [about_cells(note, cells) for note in analysis.notes]
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


def about_cells(text: str, cells: Iterable[str]) -> Text:
    """A sentence that says nothing where a page hides a cell that it names."""
    named = tuple(cell for cell in cells if re.search(rf"(?<![\w-]){re.escape(cell)}(?![\w-])", text))
    return About((text,), named) if named else text


def searched_weights(study: Study, baseline: str) -> str:
    """For whom the loss weights were searched, and that the baseline's were not; empty for weights as written."""
    if not study.tuned:
        return ""
    searches = [f"{cell} ({it.trials} trials on {it.objective})" for cell, it in study.tuned.items()]
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


def of_looks(study: Study, looks: Sequence[Look]) -> Iterator[str]:
    """That the rule by which seeds were added was changed between looks, or is not the one of this report."""
    if changed := changed_rules(looks):
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
    if counts == {1}:
        return "One seed gives no verdict: the differences may be chance. Verdicts need two seeds; five are better."
    if 2 not in counts:
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
    compared = result.compared
    below = [(name, e) for name, e in compared if e.p is not None and e.p < 1 - LEVEL]
    if found := [name for name, e in below if e.verdict == "inconclusive"]:
        before, after = ("p of ", " is below 0.05") if result.rule else ("the interval of ", " excludes zero")
        leaves = f"but Holm's correction for {len(compared)} comparisons leaves the verdict inconclusive"
        yield before, listing(found), f"{after}, {leaves}. More seeds would help."
    if found := [name for name, e in compared if e.decided_after and e.verdict in CLAIMED and has_zero(e.low, e.high)]:
        stands = "was reached at an earlier look, and stands, although the interval of all seeds includes zero by now."
        yield "the verdict on ", listing(found), f" {stands}"
    if found := [name for name, e in compared if e.uneven]:
        alone = "so interval and p are from its own seeds alone (df = n − 1)."
        yield "the spread of ", listing(found), f" over seeds is unlike that of the other cells, {alone}"
    if found := [name for name, e in compared if e.verdict in CLAIMED and has_zero(e.own_low, e.own_high)]:
        own = "from own seeds alone, without the spread that all cells share, the interval of "
        yield own, listing(found), " includes zero."
    verdicts = {name: other_verdict(result, name, e, at_equal_time) for name, e in compared if e.verdict in CLAIMED}
    if others := tuple((f"{name} ({verdict})", name) for name, verdict in verdicts.items() if verdict):
        yield "at equal time instead of equal images the verdict differs: ", Names(others), "; see Cost."


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


def begun_from(runs: Sequence[Run]) -> Iterator[Text]:
    """Which cells started from other weights than those drawn by their seeds; their names are masked as all text is."""
    cells: dict[tuple[tuple[str, ...], bool], dict[str, None]] = {}
    for run in runs:
        written = {name: source for name, source in vars(run.settings.init).items() if source}
        whole = len(written) == len(NETWORKS) and len(set(written.values())) == 1
        each = [*written.values()][:1] if whole else [f"{source} ({name})" for name, source in written.items()]
        cells.setdefault((tuple(each), whole), {})[run.cell] = None
    for (sources, whole), names in cells.items():
        if sources:
            which = () if len(cells) == 1 else (" of ", listing(list(names), MOST_CELLS))
            says = (
                f" starts from the weights of {listed(sources)}, with a fresh optimiser: an effect is what an "
                "idea changes from there on. Layers that these weights do not fit start anew (harness plan names them)."
            )
            if whole:
                says += (
                    " Seeds differ in the order of the images and in what is drawn, not in these weights: intervals "
                    "tell nothing of other weights to start from."
                )
            yield "Every run", *which, says
    if len(cells) > 1:
        yield "Not all cells start from the same weights: a difference between them may come from that."


def by_code(
    runs: Iterable[Run], remedy: str = "harness run-grid --retrain repeats what today's code did not make"
) -> list[tuple[Span, ...]]:
    """One on training and one on measuring; none where today's code made all these runs, which have a result."""
    now, lines = today(), []
    each = list(runs)
    for part, verb in (("training", "trained"), ("measuring", "measured")):
        codes = [(run, getattr(run.engine, part)) for run in each]
        groups = _groups((run, code) for run, code in codes if code != SCRIPT)
        if not set(groups) <= {getattr(now, part)}:
            lines.append((*_codes(groups, verb, getattr(now, part)), f"; {remedy}."))
    return lines


def by_machine(runs: Iterable[Run]) -> list[tuple[Span, ...]]:
    """What differs between the machines that trained these runs: the device, the version of Python or of a package."""
    noted = [run for run in runs if run.machines]
    devices = _groups((run, _in_turn(each.device for each in run.machines)) for run in noted)
    lines: list[tuple[Span, ...]] = []
    if len(devices) > 1:
        what = (
            "rounding differs between devices, so a difference may come from them, and their times cannot be compared"
        )
        if len({each.kind for run in noted for each in run.machines if each.kind}) > 1:
            what += "; a GPU draws other random numbers than a processor, so runs of one seed are not paired here"
        lines.append(("Not all runs were trained on the same device: ", *_shares(devices), f"; {what}."))
    packages = dict.fromkeys(name for run in noted for each in run.machines for name in each.versions)
    for package in packages:
        used = _groups((run, _in_turn(each.versions.get(package, "none") for each in run.machines)) for run in noted)
        if len(used) > 1 or ", then " in "".join(used):
            lines.append((f"Not all training was done by the same {package}: ", *_shares(used), "."))
    return lines


def by_sharing(statuses: Iterable[Status]) -> str:
    """That runs shared GPUs, which changes their times and nothing else; empty if none did."""
    each = [status.sharing for status in statuses]
    if not (shared := sum(map(bool, each))):
        return ""
    some = "" if shared == len(each) else f" of {len(each)}"
    return (
        f"{counted(shared, 'run')}{some} could share a GPU with others, which slows each of them down: seconds and the "
        "comparison at equal time tell of that too."
    )


def _in_turn(values: Iterable[str]) -> str:
    """Of a run: each value once, in the order in which they came."""
    return ", then ".join(dict.fromkeys(values))


def _groups(values: Iterable[tuple[Run, str]]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run, value in values:
        groups.setdefault(value, []).append(run)
    return groups


def _named(runs: Sequence[Run]) -> Names:
    each = tuple((f"{run.cell} seed {run.seed}", run.cell) for run in runs[:MOST_RUNS])
    return Names(each, len(runs[MOST_RUNS:]))


def _enumerated(parts: Sequence[tuple[Span, ...]]) -> tuple[Span, ...]:
    """`a`, `a and b`, `a, b and c`."""
    between = ["", *[", "] * (len(parts) - 2), *[" and "] * (len(parts) > 1)]
    return tuple(span for comma, part in zip(between, parts, strict=True) for span in (comma, *part) if span)


def _shares(groups: Mapping[str, list[Run]]) -> tuple[Span, ...]:
    """How many runs have which value, and the names of those that do not have the one that most have."""
    (most, runs), *others = sorted(groups.items(), key=lambda item: -len(item[1]))
    named = [(f"{len(runs)} {value} (", _named(runs), ")") for value, runs in others]
    return _enumerated([(f"{len(runs)} {most}",), *named])


def _codes(groups: dict[str, list[Run]], verb: str, now: str) -> tuple[Span, ...]:
    """Which code trained or measured which runs. `groups`: hash of the code, empty if unknown -> runs."""

    def named(code: str, runs: Sequence[Run]) -> tuple[Span, ...]:
        if code == now:
            return (f"{len(runs)} by today's ({now})",)
        # Code that took over half way is joined by a plus.
        by = code.replace("+", ", then ") if code else "unknown code"
        return f"{len(runs)} by {by} (", _named(runs), ")"

    if len(groups) > 1:
        each = _enumerated([named(code, runs) for code, runs in groups.items()])
        return f"Not all runs were {verb} by the same code: ", *each, ". A difference may come from the code"
    ((code, runs),) = groups.items()
    count = counted(len(runs), "run")
    if not code:
        were = "was" if len(runs) == 1 else "were"
        return (f"{count} {were} {verb} by unknown code: runs may differ in it, and from runs of today",)
    return (
        f"{count}: {verb} by other code than today's ({code}, not {now}): they can be compared with each other, but "
        "not with runs of today",
    )
