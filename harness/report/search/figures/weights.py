"""Weights and what they do: importances, parallel coordinates, and slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, PercentFormatter
from scipy.stats import rankdata

from harness.metrics.definitions import Floats, Metric
from harness.report import wording
from harness.report.figures import style
from harness.report.figures.curves import columns_for
from harness.report.figures.style import BASELINE, RULE, SMALL, SOFT, NamedRows
from harness.report.search.figures import marks
from harness.report.search.figures.marks import LEAST
from harness.report.verdicts import BAD, INK, NEUTRAL
from harness.study.search_space import Parameter
from harness.tuning.findings import ENOUGH, Findings, TrialRow

_EVALUATORS = (NEUTRAL, "#e69f00")
_ROW, _HEAD, _FOOT, _BAR = 0.26, 0.28, 0.3, 0.36
_LINE_ROW, _ENDS = 0.3, 0.42
"""Inches from row to row of parallel coordinates, and at the left of a row for its lowest value."""
_OUTSIDE = 0.015
"""Where values far off stand, in lengths of a row."""
_PANEL, _NAME, _LEFT, _GAP = 1.0, 0.2, 0.46, 0.14


def draw_importances(findings: Findings, stem: Path) -> bool:
    """One panel for each objective, one row for each weight, one bar for each evaluator. False without importances."""
    importances = findings.importances
    panels = [metric for metric in findings.search.objectives if any(importances.get(metric.name, {}).values())]
    if not panels:
        return False
    done = sum(row.outcome == "done" for row in findings.trials)
    few = f"Indicative only: {done} trials, below {ENOUGH}. " if done < ENOUGH else ""
    text = f"{few}Shares of each evaluator add up to 100\N{NO-BREAK SPACE}%."
    evaluators = list(dict.fromkeys(name for metric in panels for name in importances[metric.name]))
    bars = [style.handle(name, marker="s", color=colour) for name, colour in zip(evaluators, _EVALUATORS, strict=False)]
    named = [NamedRows.of([each.label for each in ranked(findings, metric)], 1.6, _ROW) for metric in panels]
    top = style.legend_height(bars)
    height = top + sum(_HEAD + each.count * _ROW + _FOOT for each in named)
    with style.drawing(stem, height, text) as figure:
        style.legend(figure, 0.06, bars)
        for metric, each in zip(panels, named, strict=True):
            style.heading(figure, top + 0.08, f"Importance for {metric.title}")
            left = 0.16 + each.width
            box = (left, top + _HEAD, style.WIDTH - left - 0.4, each.count * _ROW)
            _bars(style.placed(figure, box), findings, metric, each)
            top += _HEAD + each.count * _ROW + _FOOT
    return True


def ranked(findings: Findings, metric: Metric) -> list[Parameter]:
    """The weights, those that matter most to any evaluator first."""
    shares = findings.importances[metric.name].values()
    return sorted(findings.search.parameters, key=lambda each: -max(share.get(each.name, 0.0) for share in shares))


def _bars(axis: Axes, findings: Findings, metric: Metric, named: NamedRows) -> None:
    shares, weights = findings.importances[metric.name], ranked(findings, metric)
    axis.set_xlim(0, max(share for each in shares.values() for share in each.values()) * 1.02 or 1.0)
    named.name(axis)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    for bar, each in enumerate(shares.values()):
        for centre, weight in zip(named.centres, weights, strict=True):
            share, height = each.get(weight.name, 0.0), centre + (bar - 0.5) * _BAR
            axis.barh(height, share, _BAR * 0.9, color=_EVALUATORS[bar], zorder=2)
            axis.annotate(
                f"{100 * share:.0f}", (share, height), (3, 0), textcoords="offset points", va="center",
                fontsize=SMALL, color=SOFT, annotation_clip=False,
            )  # fmt: skip


def draw_parallel(findings: Findings, metric: Metric, stem: Path) -> bool:
    """Parallel coordinates: one row for each weight over its range, the last for the objective; one line for each
    trial, coloured by the objective. False below two trials."""
    rows = marks.drawable(findings, metric)
    if len(rows) < LEAST:
        return False
    titles = [*(each.label for each in findings.search.parameters), metric.title]
    named = NamedRows.of(titles, 1.3, _LINE_ROW)
    text = f"Each row runs from its lowest to its highest value. Colour by rank: the darker, the better {metric.title}."
    if len(marks.near(metric, rows)) < len(rows):
        text += " An arrow: values beyond the row, up to the number behind it."
    numbers, best = {row.number for row in rows}, findings.best.number if findings.best else None
    entries = []
    if 0 in numbers:
        entries.append(style.handle(marks.AS_WRITTEN, linestyle="--", color=INK, linewidth=1.4))
    if best in numbers and best != 0:
        entries.append(style.handle(f"best (trial {best})", linestyle="-", color=BAD, linewidth=2))
    head = style.legend_height(entries)
    with style.drawing(stem, head + 0.3 + named.count * _LINE_ROW, style.plain(text)) as figure:
        style.legend(figure, 0.06, entries)
        left = 0.16 + named.width + _ENDS
        box = (left, head + 0.15, style.WIDTH - left - 0.58, named.count * _LINE_ROW)
        axis = style.placed(figure, box)
        _trial_lines(axis, findings, metric, rows, named.centres)
        _rows(axis, findings, metric, rows, named)
    return True


def _rows(axis: Axes, findings: Findings, metric: Metric, rows: Sequence[TrialRow], named: NamedRows) -> None:
    """A line for each row with its name and, at its ends, its lowest and highest value; for the objective also values
    beyond them."""

    def beside(text: str, at: tuple[float, float], shift: float, colour: str) -> None:
        axis.annotate(
            text, at, (shift, 0), textcoords="offset points", annotation_clip=False, fontsize=SMALL, color=colour,
            ha="right" if shift < 0 else "left", va="center",
        )  # fmt: skip

    axis.set(xlim=(-0.02, 1.02), ylim=(named.count - 0.5, -0.5), xticks=[], yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.grid(visible=False)
    for centre, name in zip(named.centres, named.names, strict=True):
        axis.plot((0, 1), (centre, centre), color=RULE, linewidth=0.8, zorder=1)
        beside(name, (0, centre), -36, INK)
    measured, near = [row.measured[metric.name] for row in rows], marks.near(metric, rows)
    low, high = (wording.number(metric, end) for end in (min(near), max(near)))
    low += f"\n← {wording.number(metric, min(measured))}" if min(measured) < min(near) else ""
    high += f"\n→ {wording.number(metric, max(measured))}" if max(measured) > max(near) else ""
    ends = [*((f"{each.low:.3g}", f"{each.high:.3g}") for each in findings.search.parameters), (low, high)]
    for centre, (first, last) in zip(named.centres, ends, strict=True):
        beside(first, (0, centre), -4, SOFT)
        beside(last, (1, centre), 4, SOFT)


def _trial_lines(
    axis: Axes, findings: Findings, metric: Metric, rows: Sequence[TrialRow], centres: Sequence[float]
) -> None:
    measured = [row.measured[metric.name] for row in rows]
    values, shares = metric.scaled(measured), places(metric, measured)
    # Ranks from 0 to 1, so that a few bad trials leave the colours to the rest.
    badness = (rankdata(values if metric.better == "lower" else -values, "ordinal") - 1) / (len(rows) - 1)
    best = findings.best.number if findings.best else None
    # The best on top, and of the others the better ones.
    for place in np.argsort(-badness, kind="stable").tolist():
        row = rows[place]
        look: dict[str, Any] = {"color": colormaps["cividis"](0.9 * badness[place]), "linewidth": 0.9, "alpha": 0.8}
        if row.number == best:
            look = {"color": BAD, "linewidth": 2.0, "zorder": 5}
        elif row.number == 0:
            look = {"color": INK, "linewidth": 1.4, "linestyle": "--", "zorder": 4}
        axis.plot([*positions(findings, row), shares[place]], centres, **look)
        if not 0 <= shares[place] <= 1:
            arrow = ">" if shares[place] > 1 else "<"
            axis.plot(shares[place], centres[-1], arrow, color=look["color"], markersize=4.5, clip_on=False, zorder=6)


def places(metric: Metric, measured: Sequence[float]) -> Floats:
    """0 for the lowest value, 1 for the highest; those far off, which would squeeze the rest, a little beyond."""
    values, near = metric.scaled(measured), metric.scaled(marks.without_outliers(metric, measured))
    shares = (values - near.min()) / (np.ptp(near) or 1.0)
    clipped: Floats = np.clip(shares, -_OUTSIDE, 1 + _OUTSIDE)
    return clipped


def positions(findings: Findings, row: TrialRow) -> list[float]:
    """Where each weight lies within its range, on a logarithmic scale: 0 its lowest, 1 its highest value."""
    parameters = findings.search.parameters
    return [math.log(row.values[each.name] / each.low) / math.log(each.high / each.low) for each in parameters]


def draw_slices(findings: Findings, metric: Metric, stem: Path) -> bool:
    """One objective against each weight, one panel for each weight. False below two trials that were measured."""
    rows = marks.drawable(findings, metric)
    if len(rows) < LEAST:
        return False
    weights, near = findings.search.parameters, marks.near(metric, rows)
    columns = columns_for(len(weights))
    width = (style.WIDTH - _LEFT - 0.1 - _GAP * (columns - 1)) / columns
    entries = marks.handles({marks.kind(findings, row) for row in rows})
    head, panel = 0.3 + style.legend_height(entries), _NAME + _PANEL + 0.26
    text = f"Dotted: as written. All weights change at once, so no panel shows the effect of one weight. {marks.BEYOND}"
    labels = [each.label for each in weights]
    titles = style.distinct(labels, [style.fitted(label, width) for label in labels])
    with style.drawing(stem, head + math.ceil(len(weights) / columns) * panel + 0.02, text) as figure:
        style.heading(figure, 0.06, f"{style.titled(metric)}, {metric.better} is better")
        style.legend(figure, 0.3, entries)
        for place, weight in enumerate(weights):
            axis = style.panel(figure, place, columns, (_LEFT, width, width + _GAP), (head + _NAME, _PANEL, panel))
            style.value_axis(axis, "y", metric, near)
            style.log_axis(axis, "x", [weight.low, weight.high])
            # The ends of the range and the written value, which all else is compared with.
            axis.xaxis.set_major_locator(FixedLocator(sorted({weight.low, weight.written, weight.high})))
            axis.axvline(weight.written, color=BASELINE, linewidth=1, linestyle=":", zorder=1)
            for row in rows:
                value = row.values[weight.name]
                marks.put(axis, (value, row.measured[metric.name]), ([value], near), marks.kind(findings, row))
            axis.set_title(titles[place], loc="left", fontsize=SMALL)
    return True
