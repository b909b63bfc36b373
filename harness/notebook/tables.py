"""Runs, curves, effects and looks as tables of pandas, of which each row is one observation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from harness import given
from harness.analysis.results import Analysis
from harness.design.factors import Factor
from harness.errors import RecordError
from harness.report.data_files import runs_rows
from harness.runs.folders import RunFolder
from harness.runs.record import RunRecord

_log = logging.getLogger("harness")

_NUMBERS = (
    *("low", "high", "p", "p_holm", "p_equivalent", "own_low", "own_high", "sign_flip", "sign_flip_least"),
    "d_z",
)
"""Of an estimate; NaN where there is none."""
_ABOUT = ("n", "improved", "verdict", "uneven", "paired", "decided_after", "reason")
_EFFECT = (
    *("metric", "toggle", "effect", "unit", "role", *_NUMBERS, *_ABOUT),
    *("by_seed", "pairs", "aliases", "diverged_on", "diverged_off"),
)
_CURVE = ("run", "cell", "seed", "step", "kimg", "time", "name", "value")
_LOOK = ("seeds", "metric", "toggle", "decided")


def effect_table(analysis: Analysis) -> pd.DataFrame:
    """The effects of an analysis as a table: one row for each metric and toggle, headline metrics first.

    Args:
        analysis: From `analyse`, or the `analysis` of what `run_grid` returns.

    Returns:
        The numbers of "effects" in the JSON of `harness analyze --json`, whose pairs stand in two columns each: `low`
        and `high` for "ci", `own_low` and `own_high` for "own_ci", `sign_flip` and `sign_flip_least`, `diverged_on` and
        `diverged_off`. `effect` and all ends are in `unit`: % for distances, else the metric's own. `role` is
        "headline" for metrics that verdicts are given in. A number that there is not is NaN.

    Raises:
        Nothing: without a finished run the table is empty, and has its columns.

    Example:
        effects = harness.effect_table(harness.analyse("results.csv"))
        print(effects[effects.verdict == "better"][["metric", "toggle", "effect", "low", "high"]])
    """
    given.check("analysis", analysis, Analysis, "an analysis, from harness.analyse")
    frame = pd.DataFrame(_effects(analysis), columns=list(_EFFECT))
    return frame.astype({**dict.fromkeys(("effect", *_NUMBERS), "float64"), "decided_after": "Int64"})


def _effects(analysis: Analysis) -> Iterator[list[Any]]:
    for result in analysis.metrics:
        metric = result.metric
        for effect in result.effects:
            it = effect.estimate
            by_seed = dict(zip(it.seeds, it.by_seed, strict=True))
            yield [
                *(metric.name, effect.toggle, it.value, metric.change_unit, metric.role),
                *(getattr(it, name) for name in (*_NUMBERS, *_ABOUT)),
                *(by_seed, effect.pairs, effect.aliases, *effect.diverged),
            ]


def looks_table(analysis: Analysis) -> pd.DataFrame:
    """One row for each look, headline metric and effect, or cell where the design has no effects."""
    rows = [
        [look.seeds, result.metric.name, name, name not in look.undecided[result.metric.name]]
        for look in analysis.looks or ()
        for result in analysis.headlines
        for name, _ in result.compared
    ]
    # Also where there are no rows, of which pandas knows no types.
    return pd.DataFrame(rows, columns=list(_LOOK)).astype({"seeds": "int64", "decided": "bool"})


def runs_table(records: Sequence[RunRecord], toggles: Sequence[str], factors: Sequence[Factor]) -> pd.DataFrame:
    """One row for each run; the columns of the runs.csv of a report."""
    head, rows = runs_rows(records, toggles, factors)
    frame = pd.DataFrame(rows, columns=list(head))
    measured = head[len(head) - head[::-1].index("torch") :]
    return frame.astype(dict.fromkeys(measured, "float64")).fillna({"weights_sha256": ""})


def curves_table(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row for each number that a run has logged. Runs whose log is damaged are left out with a warning."""
    rows: list[tuple[Any, ...]] = []
    for record in records:
        run = record.run
        try:
            points = RunFolder(record.folder).points() if record.folder.name else ()
        except RecordError as error:
            _log.warning("left out of the curves: %s seed %d: %s", run.cell, run.seed, error)
            continue
        for point in points:
            about = (run.id, run.cell, run.seed, point.step, point.kimg, point.time)
            rows += [(*about, name, value) for name, value in point.values.items()]
    # As categories, of which each text is kept once: a grid logs millions of numbers under a few names.
    kinds = {**dict.fromkeys(("seed", "step"), "int64"), **dict.fromkeys(("kimg", "time", "value"), "float64")}
    kinds |= dict.fromkeys(("run", "cell", "name"), "category")
    return pd.DataFrame(rows, columns=list(_CURVE)).astype(kinds)
