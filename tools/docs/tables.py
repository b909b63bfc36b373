"""The pages of toggles and loss terms, and of metrics, from the tables of the code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from harness.metrics.definitions import METRICS
from harness.models.objective import TERMS
from harness.models.toggles import TOGGLES

_OBJECTIVE = """\
# Toggles and loss terms

## Toggles

The built-in ideas. Each rewrites one setting; a study file turns it on by its name in `toggles`.

{toggles}

## Loss terms

Every contrastive term, with the setting of its weight, the default of that, and the settings under which it is on. A
weight of 0 switches a term off. [The objective, term by term](../docs/objective.md) has the symbols and what `contrast`
is; `harness terms STUDY --cell full` prints what a cell computes.

{terms}
"""
_METRICS = """\
# Metrics

What a run is measured by. The names of `fd` and `kid` end in that of the network whose features they live in, such as
`fd_emoji`; with Inception-2015 they are `fid` and `kid`. The ending `_seen` marks what was measured by a network that
also guided training: it takes no part in verdicts. [How a run is measured](../docs/measuring.md) says with which
captions, latents and real images.

{metrics}

On the scale *log* runs are compared by ratios, and a change is shown in %; on *raw* by differences, in the metric's
unit.
"""


def objective() -> str:
    """The page of toggles and loss terms."""
    toggles = [(_code(it.name), it.idea, _code(f"{it.setting}: {_yaml(it.value)}")) for it in TOGGLES.values()]
    terms = [
        (
            _code(term.setting),
            f"{term.weight:g}",
            _code(term.equation),
            ", ".join(_code(f"loss.{name}: {_yaml(value)}") for name, value in term.when.items()),
        )
        for term in TERMS
    ]
    return _OBJECTIVE.format(
        toggles=_table(("toggle", "idea", "sets"), toggles),
        terms=_table(("weight", "default", "term", "on while"), terms),
    )


def metrics() -> str:
    """The page of metrics."""
    rows = [
        (_code(it.name), it.title, it.better, it.unit or "none", it.scale, it.role, it.doc) for it in METRICS.values()
    ]
    return _METRICS.format(metrics=_table(("name", "title", "better", "unit", "scale", "role", "what it is"), rows))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
