"""No idea is called like a column that a table of runs has anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.report.data_files import runs_rows
from harness.settings import Settings
from harness.study.load import load_text
from harness.study.names import is_taken


def study_with(toggle: str, metrics: str = "") -> None:
    load_text(f"study: tiny\ntoggles: [{{{toggle}: {{loss.tau: 1}}}}]\n{metrics}", Path("study.yaml"))


def test_every_column_beside_the_ideas_is_taken() -> None:
    head, _ = runs_rows([], ())
    assert head[:3] == ["run", "cell", "seed"] and head[-1] == "torch" and len(head) == 13
    assert all(is_taken(name, Settings()) for name in head)


@pytest.mark.parametrize(
    "name", ["seed", "cell", "state", "fid", "kid_seen", "cost_s_per_kimg", "fd_resnet101_a1_in1k"]
)
def test_a_toggle_cannot_have_it(name: str) -> None:
    with pytest.raises(SpecError, match=rf"toggles\[0\]: '{name}' is another column .* taken: run, cell, seed, state"):
        study_with(name)


@pytest.mark.parametrize("name", ["seeds", "kid_loss", "fd_emoji", "costly", "seed_seen", "early_seen"])
def test_other_names_are_free(name: str) -> None:
    study_with(name)


def test_which_metrics_there_are_depends_on_the_networks() -> None:
    with pytest.raises(SpecError, match="'fd_emoji' is another column"):
        study_with("fd_emoji", "metrics: {more: [embedded:resnet-measure]}\n")


def test_an_idea_of_code_cannot_have_it_either(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        'from harness.ideas import term\n\n\n@term("generator")\ndef state(step):\n    return 0\n'
    )
    text = "study: tiny\ncode: mine.py\ntoggles: [state]\n"
    with pytest.raises(SpecError, match=r"toggles\[0\]: 'state' is another column"):
        load_text(text, tmp_path / "study.yaml")
