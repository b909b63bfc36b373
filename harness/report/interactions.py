"""Interactions, attribution and unreplicated contrasts: their sections, and interactions as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter, itemgetter

from harness.analysis.results import Estimate, InteractionResult, Lenth, MetricResult
from harness.report import wording
from harness.report.document.model import Block, Mark, Paragraph, Section, Table, listing
from harness.report.effects import title
from harness.report.inputs import ReportInputs
from harness.report.tables import (
    Field,
    change,
    folded,
    named,
    p_values,
    plain_column,
    seeds_improved,
    table,
    text,
)
from harness.report.verdicts import on_interaction
from harness.report.wording import pair
from harness.text import listed, quantity, shortened

MOST_PAIRS = 6
"""Interactions that are named in one sentence."""
_PAIRS = (
    "a × b: half the difference between the effect of a with b on and with b off. Stronger together: the two do better "
    "than the sum of each alone; weaker together: they do less well; additive: the sum, to within the margin. "
    "None of them says that an idea is good or bad. Interactions joined by + or − cannot be told apart by these cells; "
    "the number is their sum."
)
_ENDS = (
    "idea × all others: half the difference between its effect with all other ideas on and alone. Stronger together: "
    "it gains more with the others on than alone."
)
_CONTRASTS = (
    "One run per cell leaves no spread over seeds, so each contrast is compared with the smaller ones (Lenth 1989). "
    "Beyond the simultaneous margin a contrast stands out among all; between the margins it may be chance. Distances: "
    "differences of logarithms."
)


def sentence(result: MetricResult, interaction: InteractionResult) -> str:
    """What better or worse on an interaction means, below the name of the metric."""
    good = interaction.estimate.verdict == "better"
    if interaction.toggle:
        split = _without_and_with(result, interaction, interaction.toggle)
        numbers = f": {split[0]} alone, {split[1]} with all of them on" if split else ""
        more = "more" if good else "less"
        return f"{interaction.toggle} gains {more} with the other ideas on than alone{numbers}."
    first = interaction.aliases[0]
    if len(interaction.aliases) > 1:
        names = [f"{pair(name)} {_together(good != name.startswith('-'))}" for name in interaction.aliases]
        return f"{listed(names, 'or')}: this design cannot tell which."
    one, other = first.removeprefix("-").split(":")
    split = _without_and_with(result, interaction, one)
    numbers = f": {one} {split[0]} without {other}, {split[1]} with it" if split else ""
    together = "only help together" if good and only_together(result, interaction) else _together(good)
    return f"{pair(first)} {together}{numbers}."


def members(interaction: InteractionResult) -> tuple[str, ...]:
    """The ideas of an interaction, or of several that have one number."""
    pairs = (name.removeprefix("-").split(":") for name in interaction.aliases)
    return (interaction.toggle,) if interaction.toggle else tuple(dict.fromkeys(name for own in pairs for name in own))


def _together(good: bool) -> str:
    return f"are {'stronger' if good else 'weaker'} together than the sum of each alone"


def is_same_contrast(result: MetricResult, interaction: InteractionResult) -> bool:
    """Whether a toggle's effect and its interaction with the rest are one contrast, as alone it changes nothing."""
    effect = next((each.estimate for each in result.effects if each.toggle == interaction.toggle), None)
    by_seed = interaction.estimate.by_seed
    if effect is None or not effect.by_seed or len(effect.by_seed) != len(by_seed):
        return False
    largest = max(map(abs, (*effect.by_seed, *by_seed)))
    return all(abs(one - other) <= 1e-9 * largest for one, other in zip(effect.by_seed, by_seed, strict=True))


def _without_and_with(result: MetricResult, interaction: InteractionResult, idea: str) -> tuple[str, str] | None:
    """An idea's effect without the other side and with it, where these cells give both."""
    if idea not in interaction.simple:
        return None
    without, joint = interaction.simple[idea]
    return wording.signed(result.metric, without.value), wording.signed(result.metric, joint.value)


def only_together(result: MetricResult, interaction: InteractionResult) -> bool:
    """Whether each of the two ideas gains where the other is on and shows no gain where it is off."""
    sides = interaction.simple.values()
    return len(sides) == 2 and all(_gains(result, on) and not _gains(result, off) for off, on in sides)


def _gains(result: MetricResult, estimate: Estimate) -> bool:
    """Whether its interval is all on the better side."""
    low, high = estimate.low, estimate.high
    return low is not None and high is not None and (high < 0 if result.metric.better == "lower" else low > 0)


def interactions(inputs: ReportInputs) -> Iterator[Block]:
    results = [result for result in inputs.analysis.headlines if result.interactions]
    summed = {bool(each.toggle) for result in results for each in result.interactions}
    if False in summed:
        yield Paragraph(_PAIRS, note=True)
    if True in summed:
        yield Paragraph(_ENDS, note=True)
    if results:
        yield from inputs.figures.get("interactions", ())
    for result in results:
        shown = folded(interactions_table(result), f"interactions on {result.metric.title}")
        yield Section(title(result.metric), (shown,), metric=result.metric.name)
    # What the cells of this design say nothing about.
    cannot = inputs.analysis.design.inestimable if inputs.analysis.metrics else ()
    if toggles := [name for name in cannot if ":" not in name]:
        yield Paragraph(
            ("These cells give no effect of ", listing(toggles), ": on in all of them or in none, or tied.")
        )
    if pairs := [wording.alias_names([name]) for name in cannot if ":" in name]:
        count, named = quantity(len(pairs), "interaction"), shortened(pairs, MOST_PAIRS)
        yield Paragraph(f"These cells say nothing about {count}: {named}.")


def interactions_table(result: MetricResult) -> Table:
    """One row for each interaction, or sum of several."""
    estimate = attrgetter("estimate")

    def together(interaction: InteractionResult) -> Mark:
        return Mark(on_interaction(interaction.estimate.verdict), interaction.estimate.verdict)

    fields: list[Field[InteractionResult]] = [
        text("interaction", wording.interaction_name),
        *change(result.metric, estimate, "size"),
        text("together", together),
        seeds_improved(estimate),
        *p_values(estimate),
    ]
    caption = f"Interactions on {title(result.metric)}"
    made = table(["interactions", result.metric.name], caption, fields, result.interactions)
    rows = zip(made.rows, result.interactions, strict=True)
    return replace(made, rows=tuple(replace(row, about=members(each)) for row, each in rows))


def attribution(inputs: ReportInputs) -> Iterator[Block]:
    results = [result for result in inputs.analysis.headlines if result.attribution]
    if results:
        note = "Shapley value: what an idea adds on the way from none to all, averaged over all orders of adding them."
        yield Paragraph(note, note=True)
    for result in results:
        name, own = title(result.metric), ["attribution", result.metric.name]
        fields: list[Field[tuple[str, Estimate]]] = [
            named("idea", itemgetter(0)),
            *change(result.metric, itemgetter(1), "share"),
        ]
        shown = table(own, f"Shapley values, {name}", fields, list(result.attribution.items()))
        yield Section(name, (shown,), metric=result.metric.name)


def unreplicated(inputs: ReportInputs) -> Iterator[Block]:
    results = [(result, result.lenth) for result in inputs.analysis.headlines if result.lenth]
    if results:
        yield Paragraph(_CONTRASTS, note=True)
        yield from inputs.figures.get("half-normal", ())
    for result, lenth in results:
        yield Section(title(result.metric), (_contrasts(result, lenth),), metric=result.metric.name)


def _contrasts(result: MetricResult, lenth: Lenth) -> Table:
    def stands_out(contrast: tuple[str, float]) -> str:
        size = abs(contrast[1])
        return "among all" if size > lenth.simultaneous else "alone" if size > lenth.margin else "no"

    fields: list[Field[tuple[str, float]]] = [
        text("contrast", lambda contrast: contrast[0]),
        plain_column("size", lambda contrast: contrast[1], 4),
        text("stands out", stands_out),
    ]
    caption = (
        f"Contrasts on {title(result.metric)}; margin {wording.plain_number(lenth.margin, 4)}, "
        f"simultaneous {wording.plain_number(lenth.simultaneous, 4)}"
    )
    ordered = sorted(zip(lenth.names, lenth.values, strict=True), key=lambda contrast: -abs(contrast[1]))
    made = table(["contrasts", result.metric.name], caption, fields, ordered)
    rows = zip(made.rows, ordered, strict=True)
    return replace(made, rows=tuple(replace(row, about=tuple(name.split(":"))) for row, (name, _) in rows))
