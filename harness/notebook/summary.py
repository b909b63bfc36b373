"""A study's answer where a notebook shows it: one sentence, and what every idea does to every metric."""

from __future__ import annotations

import html
from collections import Counter

from harness.errors import HarnessError
from harness.grid.outcome import gather
from harness.masking import masked
from harness.report import wording
from harness.report.document.model import Table, Text, flow, plain, spans, unbroken
from harness.report.inputs import collect
from harness.report.matrix import matrix, subjects, verdict_sentence
from harness.runs.record import STATES, state_of
from harness.study.plan import make_plan
from harness.study.schema import Study
from harness.text import one_line, quantity

_LEFT = 'style="text-align: left"'
"""Notebooks set tables right, as they expect numbers."""


def summary(study: Study) -> str:
    """HTML without style or script of its own. What keeps the runs from being compared is told in the same place."""
    head = f"<strong>{_escaped(masked(study.title))}</strong>"
    try:
        outcome = gather(make_plan(study))
    except HarnessError as error:
        return f"<div>{head}<p>{_escaped(masked(str(error)))}</p></div>"
    analysis = outcome.analysis
    counts = Counter(map(state_of, outcome.records))
    states = wording.states({state: counts[state] for state in STATES})
    told = [f"{quantity(len(outcome.records), 'run')}: {states}. {wording.looks(analysis)}"]
    every = subjects(analysis)
    if not analysis.metrics:
        told.append("No run is finished, so there is nothing to compare yet.")
    parts = [f"<p>{_inline(verdict_sentence(analysis))}</p>" if every else ""]
    if every:
        inputs = collect(study, outcome.records, analysis)
        parts.append(_table(matrix(analysis, every, inputs.equal_time)))
    parts += [f"<p>{_escaped(line)}</p>" for line in told]
    return f"<div>{head}{''.join(parts)}</div>"


def _table(table: Table) -> str:
    head = "".join(f"<th {_LEFT}>{_escaped(column.title)}</th>" for column in table.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td {_LEFT}>{_inline(cell.text)}</td>' for cell in row.cells)}</tr>" for row in table.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _inline(text: Text) -> str:
    return "".join(html.escape(unbroken(flow(plain(span)))) for span in spans(text))


def _escaped(text: str) -> str:
    return html.escape(unbroken(one_line(text)))
