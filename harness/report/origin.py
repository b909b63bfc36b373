"""The sections on how it was measured and where it came from. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.report.document.document import (
    Block,
    Bullets,
    Code,
    CodeBlock,
    Details,
    Paragraph,
    Section,
    Span,
    Text,
    bullets,
)
from harness.report.grids import Field, table, text
from harness.report.material import Material

if TYPE_CHECKING:
    from harness.study.schema import Study

Item = tuple[int, Text]
Card = tuple[str, Mapping[str, Any]]
_FILES = 5
"""Changed files that are named in a line; all that are known stand below."""


def measured(material: Material) -> Section | None:
    """The cards: what they have in common once, what differs between metrics in a table."""
    cards: list[Card] = [(result.metric.name, result.card) for result in material.analysis.metrics if result.card]
    if not cards:
        return None
    keys = sorted({key for _, card in cards for key in card})
    common = [key for key in keys if len({str(card.get(key)) for _, card in cards}) == 1]
    same = (
        "After training, on the averaged generator, with the same captions, latents and real images for every run, "
        "which is what equal manifests stand for."
    )
    blocks: list[Block] = [Paragraph(same)]
    if common:
        blocks.append(bullets([f"{key}: {cards[0][1][key]}" for key in common]))
    own: list[Field[Card]] = [text("metric", lambda card: card[0])]
    own += [_said(key) for key in keys if key not in common]
    blocks.append(table(["cards"], "How each metric was measured", own, cards))
    return Section("How it was measured", tuple(blocks), "measured")


def _said(key: str) -> Field[Card]:
    return text(key, lambda card: str(card[1].get(key, "–")))


def provenance(material: Material) -> Section:
    study = material.study
    items: list[Item] = [(0, f"study: {study.name}, profile {study.profile or 'none'}")]
    items.append((0, f"loss weights: {'of a search, see the cautions' if study.tuned else 'as written, not searched'}"))
    items += _short(material.provenance)
    settings = json.dumps(resolved(study), indent=1, sort_keys=True, ensure_ascii=False)
    whole = Details("All of it: versions, machine, data, every call", (Bullets(tuple(_tree(material.provenance, 0))),))
    folded = (whole,) if material.provenance else ()
    blocks = (Bullets(tuple(items)), *folded, Details("The study, resolved", (CodeBlock(settings),)))
    return Section("Where it came from", blocks, "provenance")


def _short(provenance: Mapping[str, Any]) -> list[Item]:
    """A line a call: by which code and command."""
    calls = provenance.get("calls")
    items: list[Item] = []
    for call in calls if isinstance(calls, list) else [provenance]:
        code = call.get("code") if isinstance(call, Mapping) else None
        if not isinstance(code, Mapping):
            continue
        told = f"code: commit {str(code.get('commit') or 'unknown')[:12]}, {_state(code)}"
        items.append((0, (f"{told}; ", Code(str(call.get("command", "harness"))))))
    return items


def _state(code: Mapping[str, Any]) -> str:
    """Whether files differed from the commit, how many and which."""
    dirty, changed = code.get("dirty"), code.get("changed")
    if not dirty:
        return "unknown changes" if dirty is None else "as committed"
    if not isinstance(changed, Mapping):
        return "with uncommitted changes (in which files was not noted)"
    files = [str(name) for name in changed.get("files") or ()]
    count = int(changed.get("count") or len(files))
    named = ", ".join(files[:_FILES]) + (f" and {count - _FILES} more" if count > _FILES else "")
    return f"with uncommitted changes in {count} {'file' if count == 1 else 'files'}: {named}"


def _tree(value: Any, depth: int) -> list[Item]:
    """Nested values as a nested list."""
    items: list[Item] = []
    pairs = sorted(value.items()) if isinstance(value, Mapping) else _numbered(value)
    for key, item in pairs:
        label = f"{key}:" if key else ""
        if isinstance(item, Mapping | list | tuple) and item:
            items += [*([(depth, label)] if label else []), *_tree(item, depth + 1)]
        else:
            told: Span = Code(str(item)) if item not in ([], (), {}, "", None) else "none"
            items.append((depth, (f"{label} ", told) if label else told))
    return items


def _numbered(values: Sequence[Any]) -> list[tuple[str, Any]]:
    """Items that have parts of their own are told apart by number."""
    return [(str(place) if isinstance(item, Mapping) else "", item) for place, item in enumerate(values, 1)]


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
