"""The table of a paper's ablation: a check mark for each idea that is on, mean ± sd, and what the verdicts are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.results import Analysis, CellResult, MetricResult
from harness.report import wording
from harness.report.document.latex import tex
from harness.text import quantity

NAME = "paper.tex"
_TABLE = r"""%% \usepackage{amssymb,booktabs,graphicx}
\begin{table}[t]
\centering
\caption{%(caption)s}
\footnotesize\setlength{\tabcolsep}{3pt}
\sbox0{%%
\begin{tabular}{%(columns)s}
\toprule
%(head)s \\
\midrule
%(body)s
\bottomrule
\end{tabular}}
%% No wider than the column.
\ifdim\wd0>\columnwidth\resizebox{\columnwidth}{!}{\usebox0}\else\usebox0\fi
\end{table}
"""
_SIGNS = {"better": r"\dagger", "worse": r"\ddagger"}
_DIVERGED = r"\S"


def paper(analysis: Analysis) -> str:
    """A float for one column of a paper. Empty without a headline metric, or where no cell has a result."""
    results = [result for result in analysis.headlines if any(cell.mean is not None for cell in result.cells)]
    if not results:
        return ""
    ideas, cells = _ideas(analysis), results[0].cells
    named = len({cell.toggles for cell in cells}) < len(cells)  # else the check marks say which cell a row is
    columns = ["l"] * named + ["c"] * len(ideas) + ["r"] * len(results)
    head = [*(["cell"] if named else []), *map(_turned, ideas), *map(_head, results)]
    rows = sorted(cells, key=lambda cell: cell.cell != analysis.baseline)
    body = (
        [
            *([tex(cell.cell)] if named else []),
            *_marks(ideas, cell),
            *(_value(result, cell.cell, len(analysis.seeds)) for result in results),
        ]
        for cell in rows
    )
    return _TABLE % {
        "caption": _caption(analysis, results),
        "columns": "@{}" + "".join(columns) + "@{}",
        "head": " & ".join(head),
        "body": "\n".join(" & ".join(row) + r" \\" for row in body),
    }


def _ideas(analysis: Analysis) -> list[str]:
    """Toggles, then levels, in the study's order."""
    on = {idea for cell in analysis.cells for idea in cell.toggles}
    levels = [idea for factor in analysis.factors for idea in factor.ideas]
    return [idea for idea in dict.fromkeys([*analysis.toggles, *levels]) if idea in on]


def _turned(name: str) -> str:
    return rf"\rotatebox{{90}}{{{tex(name)}}}"


def _head(result: MetricResult) -> str:
    arrow = r"$\downarrow$" if result.metric.better == "lower" else r"$\uparrow$"
    # A title in two lines, as it is wider than its numbers.
    first, bracket, rest = result.metric.title.partition(" (")
    title = r" \\ ".join([tex(first), tex(f"({rest}")] if bracket else [tex(first)])
    return rf"\shortstack[r]{{{title} {arrow}}}"


def _marks(ideas: Sequence[str], cell: CellResult) -> Iterator[str]:
    for idea in ideas:
        yield r"$\checkmark$" if idea in cell.toggles else ""


def _value(result: MetricResult, name: str, seeds: int) -> str:
    cell = result.cell(name)
    text = tex(wording.mean_sd(result.metric, cell))
    if cell.mean is not None and cell.mean == _best(result):
        text = rf"\textbf{{{text}}}"
    text += f" ({len(cell.seeds)})" if cell.seeds and len(cell.seeds) != seeds else ""
    signs = _SIGNS.get(cell.estimate.verdict, "") if cell.estimate else ""
    return text + _raised(signs + (_DIVERGED if cell.states.get("diverged") else ""))


def _raised(signs: str) -> str:
    return f"$^{{{signs}}}$" if signs else ""


def _best(result: MetricResult) -> float:
    means = [cell.mean for cell in result.cells if cell.mean is not None]
    return min(means) if result.metric.better == "lower" else max(means)


def _caption(analysis: Analysis, results: Sequence[MetricResult]) -> str:
    count, cells = len(analysis.seeds), [cell for result in results for cell in result.cells]
    text = rf"Mean $\pm$ sd over {quantity(count, 'seed')}" if count > 1 else "One seed"
    if any(cell.seeds and len(cell.seeds) != count for cell in cells):
        text += ", or as many as stand in brackets"
    text += "; best in bold."
    verdicts = {cell.estimate.verdict for cell in cells if cell.estimate}
    if signs := [f"{_raised(sign)}~{verdict}" for verdict, sign in _SIGNS.items() if verdict in verdicts]:
        text += f" {', '.join(signs)} than {tex(analysis.baseline)} ($p < 0.05$ after Holm's correction)."
    if any(cell.states.get("diverged") for cell in cells):
        text += f" {_raised(_DIVERGED)}~Some runs diverged, and are not part of the mean."
    return text
