"""What the runs of a study came from: code, machines, and the weights that they started from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from harness.analysis.results import MetricResult
from harness.code.engine import SCRIPT, today
from harness.report.document.model import Clause, Clauses, Names, Span, Text, listing
from harness.report.wording import number
from harness.runs.initial import NETWORKS
from harness.runs.record import Run, RunRecord, Status
from harness.text import listed, quantity

MOST_RUNS, MOST_CELLS = 8, 4
"""Named in one sentence."""


def begun_from(runs: Sequence[Run]) -> Iterator[Text]:
    """Which cells started from other weights than those drawn by their seeds; their names are masked as all text is."""
    cells: dict[tuple[str, ...], dict[str, None]] = {}
    for run in runs:
        written = {name: source for name, source in vars(run.settings.init).items() if source}
        whole = len(written) == len(NETWORKS) and len(set(written.values())) == 1
        each = [*written.values()][:1] if whole else [f"{source} ({name})" for name, source in written.items()]
        cells.setdefault(tuple(each), {})[run.cell] = None
    several_seeds = len({run.seed for run in runs}) > 1
    for sources, names in cells.items():
        if sources:
            which = () if len(cells) == 1 else (" of ", listing(list(names), MOST_CELLS))
            says = (
                f" starts from the weights of {listed(sources)}, with a fresh optimiser: an effect is what an idea "
                "changes from there on. Layers that these weights do not fit are fitted to them or start anew "
                "(harness plan names them)."
            )
            if several_seeds:
                says += (
                    " Seeds differ in the order of the images and in random numbers, not in these weights: intervals "
                    "tell nothing of other weights to start from."
                )
            yield "Every run", *which, says
    if len(cells) > 1:
        yield "Not all cells start from the same weights: a difference between them may come from that."


def differ_at_first(result: MetricResult, records: Iterable[RunRecord], baseline: str) -> Iterator[tuple[Span, ...]]:
    """Cells whose generator starts from the same given weights as the baseline's, and draws otherwise before training:
    those weights do not fit all their layers."""
    starts = {it.run.cell: it.run.settings.init.averaged for it in records}
    found: dict[str, list[float]] = {}
    for it in records:
        if starts[it.run.cell] and starts[it.run.cell] == starts.get(baseline):
            values = [point.values.get(f"metrics/{result.metric.name}") for point in it.points if point.step == 0]
            found.setdefault(it.run.cell, []).extend(value for value in values if value is not None)
    shown = {cell: number(result.metric, fmean(values)) for cell, values in found.items() if values}
    others = [cell for cell, value in shown.items() if value != shown.get(baseline)]
    if baseline in shown and others:
        named = Names(tuple((f"{cell} {shown[cell]}", cell) for cell in others[:MOST_CELLS]), len(others[MOST_CELLS:]))
        yield (
            f"before training it is {shown[baseline]} for {baseline}, but: ",
            named,
            ". The weights of init do not fit all layers of these cells; what that costs is part of their effects.",
        )


def by_code(
    runs: Iterable[Run], remedy: str = "harness run-grid --retrain repeats what today's code did not make"
) -> list[tuple[Span, ...]]:
    """One on training and one on measuring; none where today's code made all these runs, which have a result."""
    now, each, lines = today(), list(runs), []
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
            ". Rounding differs between devices, so a difference may come from them, and their times cannot be compared"
        )
        if len({each.kind for run in noted for each in run.machines if each.kind}) > 1:
            what += "; a GPU draws other random numbers than a processor, so runs of one seed are not paired here"
        lines.append(("Not all runs were trained on the same device: ", *_shares(devices, "on"), f"{what}."))
    threads = _groups((run, _in_turn(_threads(run))) for run in noted if any(_threads(run)))
    if len(threads) > 1 or ", then " in "".join(threads):
        why = ". The last digits of sums depend on it, and so does all training: runs of one seed are less alike"
        lines.append(("Not all runs had the same number of processor threads: ", *_shares(threads, "with"), f"{why}."))
    packages = dict.fromkeys(name for run in noted for each in run.machines for name in each.versions)
    for package in packages:
        used = _groups((run, _in_turn(each.versions.get(package, "none") for each in run.machines)) for run in noted)
        if len(used) > 1 or ", then " in "".join(used):
            lines.append((f"Not all training was done by the same {package}: ", *_shares(used, "by"), "."))
    return lines


def _threads(run: Run) -> list[str]:
    return [str(each.threads) for each in run.machines if each.threads]


def by_sharing(statuses: Iterable[Status]) -> str:
    """That runs shared GPUs, which changes their times and nothing else; empty if none did."""
    each = [status.sharing for status in statuses]
    if not (shared := sum(map(bool, each))):
        return ""
    some = "" if shared == len(each) else f" of {len(each)}"
    return (
        f"{quantity(shared, 'run')}{some} could share a GPU with others, which slows each of them down: seconds and "
        "the comparison at equal time tell of that too."
    )


def _in_turn(values: Iterable[str]) -> str:
    """Of a run: each value once, in the order in which they came."""
    return ", then ".join(dict.fromkeys(values))


def _groups(values: Iterable[tuple[Run, str]]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run, value in values:
        groups.setdefault(value, []).append(run)
    return groups


def _clause(runs: Sequence[Run], says: str) -> Clause:
    """`a seed 0, b seed 1 and 3 more by this code`."""
    each = tuple((f"{run.cell} seed {run.seed}", run.cell) for run in runs[:MOST_RUNS])
    return Clause(Names(each, len(runs[MOST_RUNS:])), (f" {says}",), (f" {says}",))


def _shares(groups: dict[str, list[Run]], by: str) -> tuple[Span, ...]:
    """How many runs have the value that most have, and which have another one."""
    (most, runs), *others = sorted(groups.items(), key=lambda item: -len(item[1]))
    named = Clauses(tuple(_clause(runs, f"{by} {value}") for value, runs in others))
    return (f"{len(runs)} {by} {most}", *(("; ", named) if others else ()))


def _codes(groups: dict[str, list[Run]], verb: str, now: str) -> tuple[Span, ...]:
    """Which code trained or measured which runs. `groups`: hash of the code, empty if unknown -> runs."""
    if len(groups) > 1:
        # Code that took over half way is joined by a plus.
        named = tuple(
            _clause(runs, f"by {code.replace('+', ', then ') if code else 'unknown code'}")
            for code, runs in groups.items()
            if code != now
        )
        most = f"{len(groups[now])} by today's ({now}); " if now in groups else ""
        begin = f"Not all runs were {verb} by the same code: {most}"
        return begin, Clauses(named), ". A difference may come from the code"
    ((code, runs),) = groups.items()
    count = quantity(len(runs), "run")
    if not code:
        were = "was" if len(runs) == 1 else "were"
        return (f"{count} {were} {verb} by unknown code: runs may differ in it, and from runs of today",)
    return (
        f"{count}: {verb} by other code than today's ({code}, not {now}): they can be compared with each other, but "
        "not with runs of today",
    )
