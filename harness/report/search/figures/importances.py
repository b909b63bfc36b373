"""How much each weight matters, by two evaluators side by side. No torch here."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from harness.metrics.definitions import Metric
from harness.report.figures import style
from harness.report.figures.style import INK, NEUTRAL, SMALL, SOFT
from harness.report.search.figures import marks
from harness.study.search_space import Parameter
from harness.tuning.findings import ENOUGH, Findings

_COLOURS = (NEUTRAL, "#e69f00")
_ROW, _HEAD, _FOOT, _NAMES, _BAR = 0.26, 0.28, 0.3, 1.6, 0.36


def draw(found: Findings, stem: Path) -> bool:
    """A panel an objective, a row a weight, a bar an evaluator. False without importances."""
    panels = [metric for metric in found.search.objectives if any(found.importances.get(metric.name, {}).values())]
    if not panels:
        return False
    weights = found.search.parameters
    names = [style.fitted(each.label, _NAMES) for each in weights]
    left = 0.16 + max(map(style.width_of, names))
    panel = _HEAD + len(weights) * _ROW + _FOOT
    text = _meaning(found)
    evaluators = list(dict.fromkeys(name for metric in panels for name in found.importances[metric.name]))
    bars = [style.handle(name, marker="s", color=colour) for name, colour in zip(evaluators, _COLOURS, strict=False)]
    head = marks.legend_height(bars)
    with style.drawing(stem) as figure:
        top = head + len(panels) * panel
        figure.set_size_inches(style.WIDTH, top + style.note_height(0.05, text) + 0.05)
        marks.legend(figure, 0.06, bars)
        for place, metric in enumerate(panels):
            down = head + place * panel
            title = style.fitted(f"Importance for {metric.title}", style.WIDTH - 0.2, style.MEDIUM, "bold")
            style.written(figure, 0.1, down + 0.08, title, fontsize=style.MEDIUM, weight="bold")
            axis = style.placed(figure, (left, down + _HEAD, style.WIDTH - left - 0.4, len(weights) * _ROW))
            _panel(axis, found, metric)
        style.note(figure, 0.05, top, text)
    return True


def _meaning(found: Findings) -> str:
    done = sum(row.outcome == "done" for row in found.trials)
    few = f"Indicative only: {done} trials, below {ENOUGH}. " if done < ENOUGH else ""
    return f"{few}Shares of each evaluator add up to 100\N{NO-BREAK SPACE}%."


def ranked(found: Findings, metric: Metric) -> list[Parameter]:
    """The weights, those that matter most to any evaluator first."""
    shares = found.importances[metric.name].values()
    return sorted(found.search.parameters, key=lambda each: -max(share.get(each.name, 0.0) for share in shares))


def _panel(axis: Axes, found: Findings, metric: Metric) -> None:
    shares, weights = found.importances[metric.name], ranked(found, metric)
    names = [style.fitted(each.label, _NAMES) for each in weights]
    axis.set_xlim(0, max(share for each in shares.values() for share in each.values()) * 1.02 or 1.0)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    for bar, each in enumerate(shares.values()):
        for place, weight in enumerate(weights):
            share, height = each.get(weight.name, 0.0), place + (bar - 0.5) * _BAR
            axis.barh(height, share, _BAR * 0.9, color=_COLOURS[bar], zorder=2)
            axis.annotate(
                f"{100 * share:.0f}", (share, height), (3, 0), textcoords="offset points", va="center",
                fontsize=SMALL, color=SOFT, annotation_clip=False,
            )  # fmt: skip
