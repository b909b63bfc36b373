"""What a study asks of the comparison of its runs, carried along by the table of them in `DataFrame.attrs`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from harness.analysis.csv_columns import CsvColumns
from harness.analysis.results import Analysis
from harness.analysis.table import RunTable
from harness.design.kinds import ORIGIN
from harness.metrics.definitions import metrics_of
from harness.text import listed

_PLACE = "harness.analyse"


@dataclass(frozen=True)
class Asked:
    """Plain JSON, as Parquet writes what a table carries; the defaults are of tables that carry nothing."""

    baseline: str = ORIGIN
    margins: Mapping[str, float] = field(default_factory=dict)
    toggles: Collection[str] = ()
    levels: Collection[str] = ()
    """The reference level of each factor: `tau=0.5`."""
    looks: Collection[int] = ()
    """The first and the most seeds of the rule by which they were added; or nothing."""
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Metric -> how it was measured, which tells its part in the verdicts."""

    def columns(self, said: CsvColumns, table: pd.DataFrame) -> CsvColumns:
        """What the columns mean where the caller does not say it, as far as they are in the table."""
        levels = [level for level in self.levels if table.get(level.partition("=")[0], pd.Series()).nunique() > 1]
        toggles = [name for name in self.toggles if name in table]
        return replace(said, toggles=said.toggles or tuple(toggles), levels=said.levels or tuple(levels))

    def measured(self, table: RunTable, said: CsvColumns) -> RunTable:
        """The metrics as the study reads them, but for those of which the caller says which way is better."""
        columns = {column.metric.name: column for column in table.columns}
        known = {name: self.cards[name] for name in columns if name in self.cards and not said.better(name)}
        own = [replace(columns.pop(it.name), metric=it, card=known[it.name]) for it in metrics_of(known)]
        return replace(table, columns=(*own, *columns.values()))

    def __str__(self) -> str:
        margins = [f"{name}={margin:g}" for name, margin in self.margins.items()]
        parts = [f"baseline {self.baseline}", f"margins {listed(margins)}" if margins else "no margins"]
        return "; ".join([*parts, *(["looks {}..{}".format(*self.looks)] if self.looks else [])])


def carry(table: pd.DataFrame, analysis: Analysis, margins: Mapping[str, float]) -> pd.DataFrame:
    """The table of a study's runs, which from here on carries what the study asks of the comparison."""
    rule = analysis.rule
    asked = Asked(
        baseline=analysis.baseline,
        margins=dict(margins),
        toggles=list(analysis.full),
        levels=[factor.reference for factor in analysis.factors],
        looks=[rule.first, rule.most] if rule else [],
        cards={result.metric.name: dict(result.card) for result in analysis.metrics},
    )
    table.attrs[_PLACE] = asdict(asked)
    return table


def asked_of(table: pd.DataFrame) -> Asked:
    """What the table carries; a merge loses it."""
    return Asked(**table.attrs.get(_PLACE, {}))
