"""`harness ls` and `harness rm`: what is shown, which runs are meant, and that only those go."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.claims import Claim
from harness.errors import HarnessError, SpecError
from harness.running.custody import Custody
from harness.storage import folders
from harness.storage.choice import Wanted, choose
from harness.storage.folders import Holding, Kept, holding, identify
from harness.study.plan import Plan
from kept import KIB, STUDY, content, earlier, lay, plan_in, prepared

CODE = Path(cli.__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from harness.claims import Claim
claim = Claim(Path(sys.argv[1]))
print(claim.take(), flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of six runs, whose data set and encoders need not be read: two have run, one has failed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_PROFILE", raising=False)
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda source, resolution: "data")
    monkeypatch.setattr("models.encoders.fingerprint", lambda name: name)
    plan = plan_in(tmp_path)
    for run, state in zip(plan.runs[:3], ("done", "done", "failed"), strict=True):
        lay(plan.study.root, run, state)  # type: ignore[arg-type]
    return plan


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `harness ...` in this process: (exit code, standard output, standard error)."""

    def harness(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return harness


@pytest.fixture
def hold() -> Iterator[Any]:
    """Lets another process take the claim of a run folder, and returns the process."""
    started = []

    def hold(folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(folder)]
        started.append(subprocess.Popen(command, cwd=CODE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout and started[-1].stdout.readline() == "True\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def ids(found: Holding) -> list[str]:
    return [kept.run.id for kept in found.runs]


def disk(path: Path) -> int:
    os.sync()
    return int(subprocess.run(["du", "-s", "-B1", str(path)], capture_output=True, text=True).stdout.split()[0])


def test_runs_come_in_the_plans_order_with_what_they_hold(plan: Plan) -> None:
    old = earlier(plan.runs[0])
    lay(plan.study.root, old, "diverged")
    found = holding(plan)
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
    assert holding(plan).runs[3].state == "interrupted"
    hold(root / plan.runs[3].id)
    assert holding(plan).runs[3].state == "running"


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
    monkeypatch.setattr("harness.show.MOST_ROWS", 3)
    out = harness("ls")[1]
    rows = [line.split() for line in out.splitlines() if line.startswith((" origin", " mix"))]
    assert plan.runs[0].id not in out
    assert [row[:4] for row in rows[:2]] == [["origin", "2", "2", "done"], ["mix_logits", "1", "1", "failed"]]
    assert rows[2][:5] == ["origin", "1", "1", "failed", "earlier"]
    sizes = [kept.bytes for kept in holding(plan).runs[:2]]
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
    runs = holding(plan).runs

    def chosen(*words: str, **more: Any) -> list[str]:
        return [kept.run.id for kept in choose(plan, runs, Wanted(words, **more))]

    ids = [run.id for run in plan.runs]
    assert chosen(word) == [ids[at] for at in meant]
    assert chosen(old.id[:8], ids[0]) == [ids[0], old.id]
    assert chosen(unplanned=True) == [old.id]
    assert chosen(states=("failed",)) == [ids[2]]
    assert chosen("origin", states=("failed",)) == []
    assert chosen(word, unplanned=True, states=("done",)) == [*(ids[at] for at in meant if at != 2), old.id]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("orign/1", "means no run in .*did you mean 'origin/1'"),
        ("origin/7", "means no run"),
        ("full", "has no folder in .*nothing to delete"),
        ("", "means no run"),
        ("../../etc", "means no run"),
        ("*", "means no run"),
    ],
)
def test_a_word_that_means_nothing_is_refused(plan: Plan, word: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        choose(plan, holding(plan).runs, Wanted((word,)))


def test_a_word_that_means_several_things_is_refused(plan: Plan) -> None:
    runs = [Kept(replace(plan.runs[0], id=name), "done", False, {}) for name in ("abc1", "abc2", "feed")]
    with pytest.raises(SpecError, match="'abc' means abc1, abc2; write more of it"):
        choose(plan, runs, Wanted(("abc",)))
    named = replace(plan, runs=tuple(replace(run, cell="feed") for run in plan.runs))
    with pytest.raises(SpecError, match="'feed' means feed, a cell"):
        choose(named, runs, Wanted(("feed",)))
    with pytest.raises(SpecError, match=r"no state .faild.; did you mean .failed.. allowed: done, "):
        choose(plan, runs, Wanted(states=("faild",)))
    with pytest.raises(SpecError, match="which runs"):
        choose(plan, runs, Wanted())


def test_runs_of_earlier_settings_are_named_by_id(plan: Plan) -> None:
    old = earlier(plan.runs[4])
    lay(plan.study.root, old)
    with pytest.raises(SpecError, match=f"earlier settings alone; name the id: {old.id}"):
        choose(plan, holding(plan).runs, Wanted((f"{old.cell}/{old.seed}",)))


def test_a_dry_run_changes_nothing_and_yes_deletes_what_it_said(plan: Plan, harness: Any) -> None:
    root, gone = plan.study.root, plan.runs[1].id
    before = content(root)
    code, out, err = harness("rm", "ablations.yaml", "origin/1")
    assert code == 0 and gone in out and "1 run, " in out and "nothing is deleted without --yes" in out
    assert content(root) == before and "report" not in out
    code, out, err = harness("rm", "ablations.yaml", "origin/1", "--yes", "--set", "train.batch=64")
    assert code == 2 and "earlier settings alone" in err and content(root) == before
    code, out, err = harness("rm", "ablations.yaml", "origin/1", "--yes")
    assert code == 0 and "deleted 1 run, " in out
    assert content(root) == {path: data for path, data in before.items() if not path.startswith(gone)}
    assert sorted(path.name for path in root.iterdir()) == sorted(run.id for run in (plan.runs[0], plan.runs[2]))
    assert "`harness report ablations.yaml`" in out and "`harness run-grid ablations.yaml`" in out


def test_what_to_run_next_is_about_the_same_study(plan: Plan, harness: Any) -> None:
    _, out, _ = harness("rm", "ablations.yaml", "origin/1", "--yes", "--set", "resources.slots=3")
    assert "`harness report ablations.yaml --set resources.slots=3`" in out
    lay(plan.study.root, earlier(plan.runs[1]))
    assert "report" not in harness("rm", "ablations.yaml", "--unplanned", "--yes")[1], "it told of no such run"


def test_a_run_that_a_living_scheduler_holds_is_refused_by_name(plan: Plan, harness: Any, hold: Any) -> None:
    root, before = plan.study.root, content(plan.study.root)
    process = hold(root / plan.runs[1].id)
    for words in (("origin",), ("origin", "--yes"), ("--state", "done", "--yes")):
        code, out, err = harness("rm", "ablations.yaml", *words)
        assert (code, out) == (2, "") and f"origin/1 ({plan.runs[1].id}): held by " in err
        assert f":{process.pid}" in err
    left = content(root)
    assert left.pop(f"{plan.runs[1].id}/claim") and left == before
    process.kill()
    process.wait()
    assert harness("rm", "ablations.yaml", "origin/1", "--yes")[0] == 0, "its holder is dead"
    assert not (root / plan.runs[1].id).exists()


def test_while_a_run_is_deleted_nobody_can_begin_it(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    root, run = plan.study.root, plan.runs[0].id
    taken = []

    def watched(root: Path, name: str) -> str:
        taken.append(Claim(root / name).take())
        return original(root, name)

    original = folders.set_aside
    monkeypatch.setattr(folders, "set_aside", watched)
    folders.delete(root, run)
    assert taken == [False] and not (root / run).exists()


def test_one_that_is_taken_meanwhile_is_left_alone(plan: Plan, hold: Any) -> None:
    root, run = plan.study.root, plan.runs[0].id
    hold(root / run)
    before = content(root)
    with pytest.raises(HarnessError, match=f"{run}: held by .*stop that run-grid first"):
        folders.delete(root, run)
    assert content(root) == before


def test_an_interrupted_deletion_leaves_no_run(plan: Plan) -> None:
    root, run = plan.study.root, plan.runs[0].id
    program = f"""
import os, shutil, signal
from pathlib import Path
from harness.storage import folders
shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
folders.delete(Path({str(root)!r}), {run!r})
"""
    before = disk(root)
    assert subprocess.run([sys.executable, "-c", program], cwd=CODE).returncode == -9
    found = holding(plan)
    assert ids(found) == [each.id for each in plan.runs[1:3]] and found.strange == {}
    assert found.rest + sum(kept.bytes for kept in found.runs) == disk(root) >= before
    assert plan.states()[run] == "pending"


def test_a_run_that_is_deleted_while_it_is_queued_begins_anew(plan: Plan) -> None:
    root, run = plan.study.root, plan.runs[2]
    custody = Custody(root, 1.0)
    assert custody.enter(run)
    folders.delete(root, run.id)
    assert custody.take(run.id)
    try:
        assert identify(root, run.id).seed == run.seed and custody.statuses[run.id].state == "pending"
    finally:
        custody.drop_all()


def strangers(root: Path, outside: Path, plan: Plan) -> dict[str, str]:
    """Puts beside the runs what looks like some, and returns what each is."""
    (root / "notes").mkdir()
    (root / "notes" / "mine.txt").write_text("mine")
    moved = lay(root, earlier(plan.runs[0], seed=40)).rename(root / "0123456789ab")
    lay(outside, earlier(plan.runs[0], seed=41))
    linked = earlier(plan.runs[0], seed=41).id
    (root / linked).symlink_to(outside / linked)
    lay(root, earlier(plan.runs[0], seed=42)).joinpath("run.json").write_text('{"id": ')
    lay(root, earlier(plan.runs[0], seed=43)).joinpath("run.json").write_text("[]")
    half = lay(root, earlier(plan.runs[0], seed=44))
    told = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps({**told, "fingerprints": None}))
    return {
        "notes": "no run.json",
        moved.name: f"is that of {earlier(plan.runs[0], seed=40).id!r}",
        linked: "a link",
        earlier(plan.runs[0], seed=42).id: "cannot be read",
        earlier(plan.runs[0], seed=43).id: "",
        half.name: "not a run",
    }


def test_what_is_not_ours_is_shown_and_left_alone(plan: Plan, harness: Any, tmp_path: Path) -> None:
    root = plan.study.root
    told = strangers(root, tmp_path / "outside", plan)
    names = {path for path in content(tmp_path) if set(path.split("/")) & told.keys() or path.startswith("outside")}
    before = content(tmp_path)
    found = holding(plan)
    assert found.strange.keys() == told.keys() and ids(found) == [run.id for run in plan.runs[:3]]
    assert all(told[name] in why for name, why in found.strange.items())
    _, _, err = harness("ls")
    assert all(f"runs/tiny/{name}: " in err.replace("\n", "") for name in told)
    for name in told:
        assert harness("rm", "ablations.yaml", name, "--yes")[0] == 2
        with pytest.raises(HarnessError):
            folders.delete(root, name)
    assert content(tmp_path) == before
    harness("rm", "ablations.yaml", "--unplanned", "--yes")
    for state in ("done", "failed", "damaged"):
        harness("rm", "ablations.yaml", "--state", state, "--yes")
    after = content(tmp_path)
    assert ids(holding(plan)) == [] and len(names) > 20
    assert all(after[path] == before[path] for path in names)


def test_a_run_whose_status_is_damaged_can_be_deleted(plan: Plan, harness: Any) -> None:
    (plan.study.root / plan.runs[0].id / "status.json").write_text("{")
    assert holding(plan).runs[0].state == "damaged"
    assert harness("rm", "ablations.yaml", "--state", "damaged", "--yes")[0] == 0
    assert ids(holding(plan)) == [run.id for run in plan.runs[1:3]]
