"""The sections of a report in Markdown, one function each; empty where there is nothing to say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.comparison import wording
from harness.comparison.analysis import Comparison
from harness.comparison.markup import code, md, table
from harness.comparison.sheet import sample_captions
from harness.metrics.cards import bias
from harness.metrics.definitions import Metric
from harness.records import STATES, RunRecord, state_of
from harness.study.definition import remarks, told_once
from harness.study.settings import from_dict

if TYPE_CHECKING:
    from harness.study.definition import Study

_COSTS = {
    "s_per_kimg": "s per kimg",
    "seconds": "s in all",
    "peak_memory_mb": "peak MiB",
    "generator_mparams": "G, M parameters",
    "discriminator_mparams": "D, M parameters",
    "gflops_per_step": "GFLOP per step",
}
_ROWS = {
    "ceiling": "real held-out images, own captions (ceiling)",
    "floor": "real held-out images, shuffled captions (floor)",
    "untrained": "untrained generator",
}


@dataclass(frozen=True)
class Material:
    """All that a report is made of."""

    study: Study
    records: tuple[RunRecord, ...]
    comparison: Comparison
    sanity: Mapping[str, Mapping[str, float]]
    provenance: Mapping[str, Any]

    @property
    def headlines(self) -> tuple[Metric, ...]:
        return self.comparison.headlines


def answer(material: Material) -> str:
    """The first screen."""
    comparison, headlines = material.comparison, material.headlines
    lines = [md(wording.headline(comparison)) + f" Everything is compared with **{md(comparison.baseline)}**."]
    if not comparison.metrics:
        lines.append("No run is finished, so there is nothing to compare yet.")
    elif not headlines:
        lines.append("Training has seen every network that measures, so no metric is left for verdicts.")
    for metric in headlines:
        base = wording.mean_sd(metric, comparison.summary(comparison.baseline, metric.name))
        lines.append(f"**{md(metric.title)}** ({metric.better} is better; {md(comparison.baseline)}: {base})")
        lines.append("\n".join(f"- **{title}:** {md(text)}" for title, text in wording.answers(comparison, metric)))
    cautions = [*wording.cautions(comparison, headlines), *_remarks(material.records)]
    if cautions:
        lines.append("**Mind:**\n" + "\n".join(f"- {md(text)}" for text in cautions))
    return "\n\n".join(filter(None, lines))


def _remarks(records: Sequence[RunRecord]) -> list[str]:
    runs = {record.run.cell: record.run for record in records}
    lines = told_once({cell: remarks(from_dict(run.settings), run.fingerprints) for cell, run in runs.items()})
    return [f"{line}." for line in lines]


def comparisons(material: Material) -> str:
    tables = [_metric_table(material.comparison, metric) for metric in material.comparison.metrics]
    if not tables:
        return ""
    how = (
        "Change: mean difference of runs of equal seed with its 95 % Student-t interval; for distances it is that of "
        "logarithms, shown in %. p: two-sided, after Holm's correction over all variants of a metric; a verdict needs "
        "p < 0.05. r: correlation of the paired values, which is what pairing by seed gains from."
    )
    return "\n\n".join(["## Comparison", how, *tables])


def _metric_table(comparison: Comparison, metric: Metric) -> str:
    base = comparison.summary(comparison.baseline, metric.name)
    rows = [[f"**{md(comparison.baseline)}**", wording.mean_sd(metric, base), *["–"] * 5, "baseline"]]
    for effect in comparison.of(metric.name):
        rows.append(
            [
                md(effect.cell),
                wording.mean_sd(metric, comparison.summary(effect.cell, metric.name)),
                "–" if effect.difference is None else wording.signed(metric, effect.difference),
                wording.interval(metric, effect),
                wording.improved(effect),
                wording.p_value(effect.p_holm),
                "–" if effect.correlation is None else f"{effect.correlation:.2f}".replace("-", "−"),
                effect.verdict,
            ]
        )
    head = ["cell", "mean ± sd", "change", "95 % interval", "improved", "p", "r", "verdict"]
    unit = f", {metric.unit}" if metric.unit else ""
    title = f"### {md(metric.title)}{unit}: {metric.better} is better"
    told = [md(metric.doc), *filter(None, [md(_note(comparison, metric))])]
    return "\n\n".join([title, *told, table(head, rows, text=["verdict"])])


def _note(comparison: Comparison, metric: Metric) -> str:
    """What stands above a table whose numbers need it."""
    if metric.name not in comparison.cards:
        return "Not measured alike in all cells: a change is shown where a cell was measured as the baseline was."
    return bias(metric, comparison.cards[metric.name])


def runs(material: Material) -> str:
    order = [state for state in STATES if any(state in cell.states for cell in material.comparison.cells)]
    rows = [[md(c.cell), *(str(c.states.get(state, 0)) for state in order)] for c in material.comparison.cells]
    unfinished = [record for record in material.records if state_of(record) != "done"]
    lines = ["## Runs", table(["cell", *order], rows)]
    if unfinished:
        lines.append("\n".join(f"- {_fate(record)}" for record in unfinished))
    return "\n\n".join(lines)


def _fate(record: RunRecord) -> str:
    status = record.status
    told = f"{md(record.run.cell)}, seed {record.run.seed} ({record.run.id}): **{state_of(record)}**"
    if status.step:
        told += f" at step {status.step} of {status.total_steps}"
    last = status.error.strip().splitlines()[-1:]
    return told + "".join(f": {md(line)}" for line in last)


def scale(material: Material) -> str:
    """What the numbers are to be held against."""
    metrics = material.comparison.metrics
    if not material.sanity or not metrics:
        return ""
    rows = [
        [md(_ROWS.get(name, name)), f"{values['n']:.0f}" if "n" in values else "–", *_values(metrics, values)]
        for name, values in sorted(material.sanity.items())
    ]
    base = [material.comparison.summary(material.comparison.baseline, metric.name) for metric in metrics]
    means = {summary.metric: summary.mean for summary in base if summary.mean is not None}
    rows.append([f"**{md(material.comparison.baseline)}**", "–", *_values(metrics, means)])
    note = "The ceiling's distances are those of n real images of the other side of the split; few are biased upward."
    return "\n\n".join(["## Scale", table(["row", "n", *(md(metric.title) for metric in metrics)], rows), note])


def _values(metrics: Sequence[Metric], values: Mapping[str, float]) -> list[str]:
    return [wording.number(metric, values[metric.name]) if metric.name in values else "–" for metric in metrics]


def cost(material: Material) -> str:
    costs: dict[str, list[Mapping[str, float]]] = {cell.cell: [] for cell in material.comparison.cells}
    for record in material.records:
        if record.result and state_of(record) == "done":
            costs[record.run.cell].append(record.result.cost)
    found = {name for runs in costs.values() for cost in runs for name in cost}
    names = [name for name in _COSTS if name in found] + sorted(found - set(_COSTS))
    if not names:
        return ""
    rows = [[md(cell), *(_mean_cost(runs, name) for name in names)] for cell, runs in costs.items()]
    note = "Means over finished runs. Runs that shared the machine with others took longer for it."
    return "\n\n".join(["## Cost", table(["cell", *(md(_COSTS.get(name, name)) for name in names)], rows), note])


def _mean_cost(runs: Sequence[Mapping[str, float]], name: str) -> str:
    values = [cost[name] for cost in runs if name in cost]
    return f"{np.mean(values):.4g}" if values else "–"


def figures(material: Material, figures: Sequence[tuple[str, str]]) -> str:
    lines = [f"### {md(title)}\n\n![{md(title)}](figures/{stem}.png)" for title, stem in figures]
    if lines:
        lines.insert(0, "In the figures, unclear stands for no evidence either way and too few for insufficient seeds.")
    captions = sample_captions(material.records)
    if captions:
        lines.append("Captions, from left to right: " + "; ".join(md(caption) for caption in captions) + ".")
    return "\n\n".join(["## Figures", *lines]) if lines else ""


def measured(comparison: Comparison) -> str:
    """The cards: what they have in common once, what differs between metrics in a table."""
    cards = comparison.cards
    if not cards:
        return ""
    keys = sorted({key for card in cards.values() for key in card})
    values = {key: [md(str(card.get(key, "–"))) for card in cards.values()] for key in keys}
    common = [key for key in keys if len(set(values[key])) == 1]
    own = [key for key in keys if key not in common]
    same = (
        "After training, on the averaged generator, with the same captions, latents and real images for every run, "
        "which is what equal manifests stand for."
    )
    shared = "\n".join(f"- {md(key)}: {values[key][0]}" for key in common)
    rows = [[md(name), *(values[key][place] for key in own)] for place, name in enumerate(cards)]
    differing = table(["metric", *map(md, own)], rows, own)
    return "\n\n".join(["## How it was measured", same, shared, differing])


def provenance(material: Material) -> str:
    lines = [f"- study: {md(material.study.name)}, profile {md(material.study.profile or 'none')}"]
    lines += _tree(material.provenance)
    text = json.dumps(resolved(material.study), indent=1, sort_keys=True)
    details = f"<details><summary>The study, resolved</summary>\n\n```json\n{text}\n```\n\n</details>"
    return "\n\n".join(["## Provenance", "\n".join(lines), details])


def _tree(value: Any, depth: int = 0) -> list[str]:
    """Nested values as a nested list."""
    indent = "  " * depth
    lines: list[str] = []
    pairs = sorted(value.items()) if isinstance(value, Mapping) else [("", item) for item in value]
    for key, item in pairs:
        label = f"{md(key)}:" if key else ""
        if isinstance(item, Mapping | list | tuple) and item:
            lines += [f"{indent}- {label}".rstrip(), *_tree(item, depth + 1)]
        else:
            told = code(str(item)) if item not in ([], ()) else "none"
            lines.append(f"{indent}- {label} {told}".replace("-  ", "- "))
    return lines


def resolved(study: Study) -> dict[str, Any]:
    """The study as JSON, without what depends on the machine."""
    return {
        "study": study.name,
        "profile": study.profile,
        "baseline": study.baseline,
        "toggles": {toggle.name: dict(toggle.patch) for toggle in study.toggles},
        "design": asdict(study.design),
        **study.settings.as_dict(),
    }
