"""Short names for cells that combine many toggles, as in books on designs: a letter a toggle. No torch here."""

from __future__ import annotations

import string
from collections.abc import Sequence

from harness.analysis.results import CellResult
from harness.report.figures import style


def short_names(cells: Sequence[CellResult], toggles: Sequence[str], inches: float) -> dict[str, str]:
    """Cell -> a name no wider. One joined of toggles that would be cut, and so look like others, becomes letters."""
    known = letters(toggles)
    found = {}
    for cell in cells:
        joined = cell.cell == "+".join(cell.toggles) and len(cell.toggles) > 1
        cut = joined and style.fitted(cell.cell, inches) != style.plain(cell.cell)
        found[cell.cell] = style.fitted("+".join(known[t] for t in cell.toggles) if cut else cell.cell, inches)
    return found


def key(names: dict[str, str], cells: Sequence[CellResult], toggles: Sequence[str]) -> str:
    """What the letters stand for: ` A: first; B: second.`; nothing where no cell is named by letters."""
    known = letters(toggles)
    coded = [cell for cell in cells if names[cell.cell] == "+".join(known[t] for t in cell.toggles) != cell.cell]
    used = {toggle for cell in coded for toggle in cell.toggles}
    told = "; ".join(f"{known[t]}: {style.fitted(t, 2)}" for t in toggles if t in used)
    return f" {told}." if told else ""


def letters(toggles: Sequence[str]) -> dict[str, str]:
    """Toggle -> A, B, ... or t1, t2, ... beyond the alphabet."""
    few = len(toggles) <= len(string.ascii_uppercase)
    return {t: string.ascii_uppercase[i] if few else f"t{i + 1}" for i, t in enumerate(toggles)}
