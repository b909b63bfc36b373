"""`harness ls`: what is shown of what lies on disk, and which runs a user means."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.select import choose, find_run
from harness.errors import SpecError
from harness.storage.folders import StoredRun, stored_runs
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from kept import KIB, STUDY, disk, earlier, harness, hold, lay, plan, prepared

__all__ = ["harness", "hold", "plan"]


def test_runs_come_in_the_plans_order_with_what_they_hold(plan: Plan) -> None:
    old = earlier(plan.runs[0])
    lay(plan.study.root, old, "diverged")
    found = stored_runs(plan)
    assert [(kept.run.id, kept.state, kept.planned) for kept in found.runs] == [
        *((run.id, state, True) for run, state in zip(plan.runs[:3], ("done", "done", "failed"), strict=True)),
        (old.id, "diverged", False),
    ]
    for kept in found.runs:
        folder = plan.study.root / kept.run.id
        assert kept.bytes == disk(folder)
        assert kept.parts["checkpoints"] == disk(folder / "checkpoint") >= 40 * KIB
        assert kept.parts["samples"] == disk(folder / "samples") >= 9 * KIB
        assert kept.parts["generator"] == (20 * KIB if kept.state == "done" else 0)
    assert found.rest + sum(kept.bytes for kept in found.runs) == disk(plan.study.root)


def test_a_run_that_nobody_executes_is_not_shown_as_running(plan: Plan, hold: Any) -> None:
    root = plan.study.root
    lay(root, plan.runs[3], "running")
    assert stored_runs(plan).runs[3].state == "interrupted"
    hold(root / plan.runs[3].id)
    assert stored_runs(plan).runs[3].state == "running"


def test_before_the_first_run_there_is_nothing(tmp_path: Path, harness: Any) -> None:
    (tmp_path / "other.yaml").write_text(STUDY.replace("tiny", "other"))
    code, out, _ = harness("ls", "other.yaml")
    assert code == 0 and "0 runs: 0 bytes in runs/other" in out
    assert harness("rm", "other.yaml", "--unplanned")[1] == "nothing to delete\n"
    assert harness("gc", "other.yaml")[1] == "nothing to delete\n"


def test_json_adds_up(plan: Plan, harness: Any, tmp_path: Path) -> None:
    (tmp_path / "reports" / "tiny").mkdir(parents=True)
    (tmp_path / "reports" / "tiny" / "report.md").write_text("x" * 10 * KIB)
    (tmp_path / "mlflow.db").write_text("x" * 50 * KIB)
    prepared(tmp_path / "cache", "data")
    prepared(tmp_path / "cache", "data of another study")
    code, out, _ = harness("ls", "--json")
    told = json.loads(out)
    assert code == 0 and told["study"] == "tiny" and told["bytes"] == disk(plan.study.root)
    assert [(run["cell"], run["seed"], run["state"]) for run in told["runs"]] == [
        ("origin", 0, "done"),
        ("origin", 1, "done"),
        ("mix_logits", 0, "failed"),
    ]
    assert all(run["bytes"] == sum(run["parts"].values()) == disk(Path(run["folder"])) for run in told["runs"])
    assert {place["what"]: place["bytes"] for place in told["places"]} == {
        "report": disk(tmp_path / "reports" / "tiny"),
        "MLflow database": disk(tmp_path / "mlflow.db"),
        "prepared data": disk(next((tmp_path / "cache" / "data").iterdir())),
    }


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_the_terminal(plan: Plan, harness: Any, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "full-minus-separate_features_and_more"
    lay(plan.study.root, earlier(plan.runs[0], cell=name), "interrupted", states=120 * 1000 * 1000)
    code, out, _ = harness("ls")
    table = out[: out.index("4 runs")].splitlines()
    assert code == 0 and max(map(len, table)) <= columns and "…" not in out
    assert "4 runs, 1 of them with earlier settings: 120" in out
    (row,) = [line for line in table if "interrupted" in line]
    assert "earlier" in row and len(re.findall(r"120\.\d MB", row)) == 2
    assert ("samples" in out) == (columns == 120)


def test_many_runs_are_told_cell_by_cell(plan: Plan, harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(plan.study.root, earlier(plan.runs[0]), "failed")
    assert plan.runs[0].id in harness("ls")[1]
    monkeypatch.setattr("harness.cli.tables.MOST_ROWS", 3)
    out = harness("ls")[1]
    rows = [line.split() for line in out.splitlines() if line.startswith((" origin", " mix"))]
    assert plan.runs[0].id not in out
    assert [row[:4] for row in rows[:2]] == [["origin", "2", "2", "done"], ["mix_logits", "1", "1", "failed"]]
    assert rows[2][:5] == ["origin", "1", "1", "failed", "earlier"]
    sizes = [kept.bytes for kept in stored_runs(plan).runs[:2]]
    assert rows[0][-2:] == [f"{sum(sizes) / 1000:.1f}", "kB"]


def test_hostile_names_are_spelt_out(plan: Plan, harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lay(plan.study.root, earlier(plan.runs[0], cell="\x1b]0;gone\x07[red]x"))
    (plan.study.root / "\x1b[2Jcleared").mkdir()
    _, out, err = harness("ls")
    assert "\x1b" not in out + err and "\x07" not in out + err
    assert "[red]x" in out and r"\x1b[2Jcleared" in err


WORDS = [
    ("origin/1", [1]),
    ("origin", [0, 1]),
    ("mix_logits", [2]),
]


@pytest.mark.parametrize(("word", "meant"), WORDS)
def test_a_word_means_the_runs_of_the_plan(plan: Plan, word: str, meant: list[int]) -> None:
    old = earlier(plan.runs[1])
    lay(plan.study.root, old)
    runs = stored_runs(plan).runs

    def chosen(*words: str, **more: Any) -> list[str]:
        return [kept.run.id for kept in choose(plan, runs, words, **more)]

    ids = [run.id for run in plan.runs]
    assert chosen(word) == [ids[at] for at in meant]
    assert chosen(old.id[:8], ids[0]) == [ids[0], old.id]
    assert chosen(unplanned=True) == [old.id]
    assert chosen(states=("failed",)) == [ids[2]]
    assert chosen("origin", states=("failed",)) == []
    assert chosen(word, unplanned=True, states=("done",)) == [*(ids[at] for at in meant if at != 2), old.id]


def test_a_run_is_called_as_the_plan_calls_it_today(plan: Plan) -> None:
    """Where the reference level has changed, what was the origin's run is another cell's, and one word is one run."""
    first, second = plan.runs[1:3]
    for one, other in ((first, second), (second, first)):
        path = plan.study.root / one.id / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"cell": other.cell, "seed": other.seed}))
    runs = stored_runs(plan).runs
    assert [kept.label for kept in runs[1:3]] == [f"{run.cell}/{run.seed}" for run in (first, second)]
    assert [kept.run.id for kept in choose(plan, runs, (runs[1].label,))] == [first.id]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("orign/1", "names no run in .*did you mean 'origin/1'"),
        ("origin/7", "names no run"),
        ("full", "has no folder in .*nothing to delete"),
        ("", "names no run"),
        ("0", "names no run in .*, as a seed goes with its cell; did you mean 'origin/0'?"),
        ("../../etc", "names no run"),
        ("*", "names no run"),
    ],
)
def test_a_word_that_means_nothing_is_refused(plan: Plan, word: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        choose(plan, stored_runs(plan).runs, (word,))


def test_a_word_that_means_several_things_is_refused(plan: Plan) -> None:
    runs = [StoredRun(replace(plan.runs[0], id=name), "done", False, {}) for name in ("2024abc1", "2024abc2", "feed")]
    with pytest.raises(SpecError, match="'2024' can be 2024abc1, 2024abc2; write more of it"):
        choose(plan, runs, ("2024",))
    named = replace(plan, runs=tuple(replace(run, cell="feed") for run in plan.runs))
    with pytest.raises(SpecError, match="'feed' can be feed, a cell"):
        choose(named, runs, ("feed",))
    with pytest.raises(SpecError, match=r"no state .faild.; did you mean .failed.. allowed: done, "):
        choose(plan, runs, states=("faild",))
    with pytest.raises(SpecError, match="which runs"):
        choose(plan, runs)


def test_a_seed_or_a_few_characters_are_no_beginning_of_an_id(plan: Plan, tmp_path: Path) -> None:
    """A blank in place of the slash of CELL/SEED deleted runs of other cells."""
    (tmp_path / "seeds.yaml").write_text(STUDY.replace("seeds: 2", "seeds: [0, 2024]"))
    plan = make_plan(load_study(tmp_path / "seeds.yaml"))
    runs = [StoredRun(replace(plan.runs[0], id=name), "done", True, {}) for name in ("0f2a9c41d07b", "2024deadbeef")]
    a_seed = "names no run in .*, as a seed goes with its cell; did you mean 'mix_logits/{}'?".format
    for words, told in (
        (("mix_logits", "0"), a_seed(0)),
        (("mix_logits", "2024"), a_seed(2024)),
        (("0f2",), "names no run in .*; the beginning of an id has 4 characters or more; `harness ls`"),
    ):
        with pytest.raises(SpecError, match=f"'{words[-1]}' {told}"):
            choose(plan, runs, words[::-1])
    assert [kept.run.id for kept in choose(plan, runs, ("0f2a", "2024d"))] == ["0f2a9c41d07b", "2024deadbeef"]
    with pytest.raises(SpecError, match=r"'0' names no runs of .*, as a seed goes with its cell; .*'origin/0'"):
        find_run(plan.study, "0")


def test_runs_of_earlier_settings_are_named_by_id(plan: Plan) -> None:
    old = earlier(plan.runs[4])
    lay(plan.study.root, old)
    with pytest.raises(SpecError, match=f"of earlier settings; name the id: {old.id}"):
        choose(plan, stored_runs(plan).runs, (f"{old.cell}/{old.seed}",))
