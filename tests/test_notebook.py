"""docs/notebook.ipynb, run from its first cell to its last on a study that is trained already."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from conftest import trained_once
from oracle import TOGGLES
from test_grid import environment, train

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
RUN = """
import ast, json, sys

names = {}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        *lines, last = ast.parse("".join(cell["source"])).body
        exec(compile(ast.Module(lines, []), cell["id"], "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
            print(f"--- {cell['id']}", getattr(value, "_repr_html_", value.__repr__)(), sep="\\n")
        else:
            exec(compile(ast.Module([last], []), cell["id"], "exec"), names)
"""
"""As Jupyter does: all cells in one namespace, and what the last line of a cell is worth is shown."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Id of a cell -> what it shows."""
    study = trained_once("grid", train, tmp_path_factory.mktemp("grid")) / "study.yaml"
    settings = {**environment(), "STUDY": str(study), "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", RUN, str(NOTEBOOK)]
    done = subprocess.run(command, cwd=NOTEBOOK.parent, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts = [part.partition("\n") for part in done.stdout.split("--- ")[1:]]
    return {name.strip(): text for name, _, text in parts}


def test_its_cells_show_what_they_promise(shown: dict[str, str]) -> None:
    (effects,) = [text for text in shown.values() if "<th>verdict</th>" in text]
    shipped = pd.read_csv(NOTEBOOK.parent.parent / "reports" / "emoji-both" / "effects.csv")
    ideas = shipped[(shipped.metric == "fd_emoji") & shipped.toggle.isin(TOGGLES)]
    assert len(ideas) == 6 and "better" in set(ideas.verdict)
    for row in ideas.itertuples():
        shown_row = re.findall(r"<td>(.*?)</td>", effects.partition(f"<td>{row.toggle}</td>")[2])[:5]
        assert shown_row == [f"{row.value:.1f}", f"{row.low:.1f}", f"{row.high:.1f}", row.unit, row.verdict]
    assert any("<strong>tiny</strong>" in text and "too few seeds" in text for text in shown.values())
    assert any(text.count("data:image/png") == 16 for text in shown.values())
    measured = list(shown.values())[-1]
    assert {"fd_emoji", "clip_score"} <= set(json.loads(measured.replace("'", '"')))


def test_it_ships_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len({*names}) == len(names)
    for cell in notebook["cells"]:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
