"""The closing sections: what the words mean, how it was measured, where it came from, and which files there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from harness.analysis.results import Analysis, MetricResult
from harness.masking import masked_tree
from harness.metrics.definitions import Metric
from harness.report.document import model
from harness.report.document.model import Block, Bullets, Code, Details, FileLink, Paragraph, Strong, Text, bullets
from harness.report.inputs import ReportInputs
from harness.report.tables import Field, table, text
from harness.report.wording import MISSING
from harness.runs.identity import read_by_who_trains
from harness.runs.record import RunRecord
from harness.text import listed, quantity, shortened, with_folder_as
from harness.trees import as_tree

if TYPE_CHECKING:
    from harness.study.schema import Study

MOST_HOSTS = 4
"""Machines that are named in a line."""
MOST_FILES = 5
"""Changed files that are named in a line; all of them stand below it."""

_VERDICTS = {
    "equivalent": "the change is surely smaller than the margin that the study file sets, or the runs are the same",
    "inconclusive": "too uncertain to say; this does not mean that there is no effect",
    "insufficient seeds": "one side of the comparison has one seed or no result, so there is no verdict",
    "diagnostic": "the network that measures was also used in training; the number has no verdict",
}


def words(inputs: ReportInputs) -> Block:
    """What the words of this report stand for; docs/glossary.md has the same words."""
    analysis = inputs.analysis
    absent = {"origin", "full"} - {cell.cell for cell in analysis.cells}
    if not any(result.interactions for result in analysis.metrics):
        absent.add("interaction")
    if not analysis.factors:
        absent.add("level")
    references = listed([factor.reference for factor in analysis.factors])
    meanings: dict[str, Text] = {
        "idea": (
            *("a change that is tried out: one of the ", Code("toggles")),
            *((", or a level of one of the ", Code("levels")) if analysis.factors else ()),
            " of the study file",
        ),
        "level": "a value of a setting that has several; the origin has the reference level: " + references,
        "cell": "a set of ideas that are on, also called a variant; each is trained once under every seed",
        "origin": "the cell with every idea off",
        "full": (
            *("the cell with every ", "toggle" if analysis.factors else "idea", " on; ", Code("full-minus-x")),
            " has every ",
            "toggle" if analysis.factors else "idea",
            " on but x",
        ),
        "baseline": ("the cell that all others are compared with: here ", Code(analysis.baseline)),
        "interaction": "whether two ideas are stronger together, weaker together or just add up (additive)",
    }
    return glossary(meanings, absent, analysis, [result.metric for result in analysis.metrics])


def glossary(
    meanings: Mapping[str, Text], absent: Set[str], analysis: Analysis | None, metrics: Sequence[Metric]
) -> Block:
    """These words but the absent ones, those of the verdicts that the analysis has, and metrics by name in files."""
    results = analysis.metrics if analysis else ()
    estimates = [cell.estimate for result in results for cell in result.cells]
    estimates += [effect.estimate for result in results for effect in result.effects]
    verdicts = {"equivalent", "inconclusive", *(estimate.verdict for estimate in estimates if estimate)}
    every: list[tuple[str, Text]] = [
        *((word, meaning) for word, meaning in meanings.items() if word not in absent),
        ("seeds improved", "in how many seeds the difference points to the better side, also called wins"),
        *((verdict, meaning) for verdict, meaning in _VERDICTS.items() if verdict in verdicts),
        *((metric.title, ("called ", Code(metric.name), " in the CSV and JSON files")) for metric in metrics),
    ]
    return bullets([(Strong(word), ": ", *model.spans(meaning)) for word, meaning in every])


def how_measured(inputs: ReportInputs) -> Iterator[Block]:
    """The cards: what they have in common once, what differs between metrics in a table."""
    results = [result for result in inputs.analysis.metrics if result.card]
    if not results:
        return
    keys = sorted({key for result in results for key in result.card})
    common = [key for key in keys if len({str(result.card.get(key)) for result in results}) == 1]
    is_script = any(record.run.settings.command.run for record in inputs.records)
    what = "the images that the script has left" if is_script else "the averaged generator"
    yield Paragraph(
        f"After training, on {what}, with the same captions, {'seeds' if is_script else 'latents'} and real images for "
        "every run; equal manifests stand for this."
    )
    if common:
        yield bullets([f"{key}: {results[0].card[key]}" for key in common])

    def column(key: str) -> Field[MetricResult]:
        return text(key, lambda result: str(result.card.get(key, MISSING)))

    columns: list[Field[MetricResult]] = [text("metric", lambda result: result.metric.name)]
    columns += [column(key) for key in keys if key not in common]
    yield table(["cards"], "How each metric was measured", columns, results)


def provenance(inputs: ReportInputs) -> Iterator[Block]:
    study, calls = inputs.study, inputs.provenance.get("calls")
    weights = "from a search, see the caveats" if study.tuned else "as written, not searched"
    items: list[Text] = [f"study: {study.name}, profile {study.profile or 'none'}"]
    if not study.settings.command.run:
        items.append(f"loss weights: {weights}")
    # One line for each call: by which code and command.
    for call in calls if isinstance(calls, list) else [inputs.provenance]:
        code = call.get("code") if isinstance(call, Mapping) else None
        if isinstance(code, Mapping):
            commit = str(code.get("commit") or "unknown")[:12]
            items.append((f"code: commit {commit}, {_changes(code)}; ", Code(str(call.get("command", "harness")))))
    machines = _machines(inputs.records)
    for device, its in machines.items():
        hosts = shortened(list(its["hosts"]), MOST_HOSTS)
        items.append(f"{quantity(its['runs'], 'run')} trained on {device} ({hosts})")
    yield bullets(items)
    if inputs.provenance:
        told = {**inputs.provenance, **({"machines": machines} if machines else {})}
        whole = Bullets(tuple(_tree(told, 0)))
        yield Details("All of it: versions, machine, data, every call", (whole,))
    settings = json.dumps(resolved(study), indent=1, sort_keys=True, ensure_ascii=False)
    yield Details("The study, resolved", (model.CodeBlock(settings),))


def _machines(records: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Device -> {"runs": how many it trained, "hosts": {machine with it: its versions}}, by number of runs."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        for device in dict.fromkeys(each.device for each in record.run.machines):
            found.setdefault(device, {"runs": 0, "hosts": {}})["runs"] += 1
        for each in record.run.machines:
            others = found[each.device]["hosts"].setdefault(each.host, each.versions)
            if others != each.versions:
                found[each.device]["hosts"][f"{each.host}, torch {each.versions.get('torch')}"] = each.versions
    return dict(sorted(found.items(), key=lambda item: -item[1]["runs"]))


def _changes(code: Mapping[str, Any]) -> str:
    """Whether files differed from the commit, how many and which."""
    dirty, changed = code.get("dirty"), code.get("changed")
    if not dirty:
        return "unknown changes" if dirty is None else "as committed"
    if not isinstance(changed, Mapping):
        return "with uncommitted changes (in which files was not noted)"
    files = [str(name) for name in changed.get("files") or ()]
    count = int(changed.get("count") or len(files))
    named = files[:MOST_FILES]
    rest = [f"{count - len(named)} more"] if count > len(named) else []
    return f"with uncommitted changes in {quantity(count, 'file')}: {listed([*named, *rest])}"


def _tree(value: Any, depth: int) -> Iterator[tuple[int, Text]]:
    """Nested values as a nested list; entries of a list that have parts of their own are numbered."""
    if isinstance(value, Mapping):
        pairs = sorted(value.items())
    else:
        pairs = [(str(place) if isinstance(item, Mapping) else "", item) for place, item in enumerate(value, 1)]
    for key, item in pairs:
        label = f"{key}:" if key else ""
        if isinstance(item, Mapping | list | tuple) and item:
            if label:
                yield depth, label
            yield from _tree(item, depth + 1)
        else:
            shown: model.Span = Code(str(item)) if item not in ([], (), {}, "", None) else "none"
            yield depth, (f"{label} ", shown) if label else shown


def resolved(study: Study) -> dict[str, Any]:
    """The study as JSON, without passwords and the machine's paths: those in its folder are as they begin there."""
    whole: dict[str, Any] = {
        "study": study.name,
        "profile": study.profile,
        "baseline": study.baseline,
        "toggles": {toggle.name: dict(toggle.patch) for toggle in study.toggles},
        **({"levels": {factor.setting: factor.values for factor in study.factors}} if study.factors else {}),
        "design": asdict(study.design),
        **({"code": {file: study.code.digest(file) for file in study.code.files}} if study.code.files else {}),
        **as_tree(read_by_who_trains(study.settings)),
    }
    plain: dict[str, Any] = masked_tree(with_folder_as(whole, study.path.parent, ""))
    return plain


def files(study: Study, names: Sequence[str]) -> Block:
    """Links to the files beside the report and to other reports of the study; how to open the tracker."""
    items: list[Text] = [("In this folder: ", *_links([(name, name) for name in names]))]
    label, own = replace(study, searched_cell="").label, study.reports
    there = sorted(path.parent for path in own.parent.glob("*/report.html")) if own.parent.is_dir() else []
    # A search's report is named after the study, with a dot and more.
    others = [folder.name for folder in there if folder != own and f"{folder.name}.".startswith(f"{label}.")]
    if others:
        items.append(("Other reports of the study: ", *_links([(name, f"../{name}/report.html") for name in others])))
    items.append(("Curves, images and every number in MLflow: ", Code(f"harness ui {study.path.name}")))
    return bullets(items)


def _links(targets: Sequence[tuple[str, str]]) -> list[str | FileLink]:
    parts = [part for text, path in targets for part in (FileLink(text, path), ", ")]
    return [*parts[:-1], "."]
