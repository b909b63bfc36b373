"""The sections on interactions, attribution and unreplicated contrasts. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import Estimate, InteractionResult, Lenth, MetricResult
from harness.report import wording
from harness.report.document.document import Block, Mark, Paragraph, Section, Table
from harness.report.effects import title
from harness.report.grids import Field, change, folded, judgement, numeric, seeds_improved, table, text
from harness.report.material import Material

_NAMED = 6
Share = tuple[str, Estimate]
_PAIRS = (
    "a × b: half the difference between the effect of a with b on and with b off. Stronger together: the two do better "
    "than the sum of each alone; weaker together: they do less well; additive: by less than the margin it is the sum. "
    "None of them says that an idea is good or bad. Interactions joined by + or − cannot be told apart by these cells; "
    "the number is their sum."
)
_ENDS = (
    "idea × all others: half the difference between its effect with all other ideas on and alone. Stronger together: "
    "it gains more with the others on than alone."
)


def interactions(material: Material) -> Section | None:
    analysis = material.analysis
    results = [result for result in analysis.headlines if result.interactions]
    cannot = _cannot(analysis.design.inestimable)
    if not results:
        return Section("Interactions", cannot, "interactions") if cannot and analysis.metrics else None
    summed = any(found.toggle for result in results for found in result.interactions)
    pairs = any(not found.toggle for result in results for found in result.interactions)
    notes = [Paragraph(note, note=True) for note, wanted in ((_PAIRS, pairs), (_ENDS, summed)) if wanted]
    shown = [Section(title(result.metric), (_table(result),)) for result in results]
    drawn = material.figures.get("interactions", ())
    return Section("Interactions", (*notes, *drawn, *shown, *cannot), "interactions")


def _table(result: MetricResult) -> Block:
    return folded(interactions_table(result), f"interactions on {result.metric.title}")


def interactions_table(result: MetricResult) -> Table:
    """A row an interaction, or a sum of several."""
    fields: list[Field[InteractionResult]] = [
        text("interaction", wording.interaction_name),
        *change(result.metric, _estimate, "size"),
        text("together", lambda found: Mark(wording.together(found.estimate.verdict), found.estimate.verdict)),
        seeds_improved(_estimate),
        *judgement(_estimate),
    ]
    caption = f"Interactions on {title(result.metric)}"
    return table(["interactions", result.metric.name], caption, fields, result.interactions)


def _estimate(found: InteractionResult) -> Estimate:
    return found.estimate


def _cannot(inestimable: Sequence[str]) -> tuple[Block, ...]:
    """What the cells of this design say nothing about."""
    toggles = [name for name in inestimable if ":" not in name]
    pairs = [wording.alias_names([name]) for name in inestimable if ":" in name]
    told = []
    if toggles:
        told.append(f"These cells give no effect of {wording.listed(toggles)}: on in all of them or in none, or tied.")
    if pairs:
        named = [*pairs[:_NAMED], *([f"{len(pairs) - _NAMED} more"] if len(pairs) > _NAMED else [])]
        told.append(f"These cells say nothing about {len(pairs)} interactions: {wording.listed(named)}.")
    return tuple(Paragraph(line) for line in told)


def attribution(material: Material) -> Section | None:
    results = [result for result in material.analysis.headlines if result.attribution]
    if not results:
        return None
    note = "Shapley value: what an idea adds on the way from none to all, averaged over all orders of adding them."
    shown = [Section(title(result.metric), (_shares(result),)) for result in results]
    return Section("Attribution", (Paragraph(note, note=True), *shown), "attribution")


def _shares(result: MetricResult) -> Table:
    toggle: Field[Share] = text("idea", lambda share: share[0])
    part: list[Field[Share]] = change(result.metric, lambda share: share[1], "part")
    caption = f"Shapley values, {title(result.metric)}"
    return table(["attribution", result.metric.name], caption, [toggle, *part], list(result.attribution.items()))


def unreplicated(material: Material) -> Section | None:
    results = [(result, result.lenth) for result in material.analysis.headlines if result.lenth]
    if not results:
        return None
    note = (
        "One run a cell leaves no spread over seeds, so each contrast is held against the smaller ones (Lenth 1989). "
        "Beyond the simultaneous margin a contrast stands out among all; between the margins it may be chance. "
        "Distances: differences of logarithms."
    )
    shown = [Section(title(result.metric), (_contrasts(result, lenth),)) for result, lenth in results]
    drawn = material.figures.get("half-normal", ())
    return Section("Contrasts without replication", (Paragraph(note, note=True), *drawn, *shown), "unreplicated")


def _contrasts(result: MetricResult, lenth: Lenth) -> Table:
    fields: list[Field[tuple[str, float]]] = [
        text("contrast", lambda found: found[0]),
        numeric("size", lambda found: wording.plain_number(found[1], 4), lambda found: found[1]),
        text("stands out", lambda found: _place(abs(found[1]), lenth)),
    ]
    caption = (
        f"Contrasts on {title(result.metric)}; margin {wording.plain_number(lenth.margin, 4)}, "
        f"simultaneous {wording.plain_number(lenth.simultaneous, 4)}"
    )
    found = sorted(zip(lenth.names, lenth.values, strict=True), key=lambda item: -abs(item[1]))
    return table(["contrasts", result.metric.name], caption, fields, found)


def _place(size: float, lenth: Lenth) -> str:
    return "among all" if size > lenth.simultaneous else "alone" if size > lenth.margin else "no"
