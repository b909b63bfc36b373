"""Where reports go: what a command line changes stands apart, and no report that tells of results is lost."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from harness.cli import main
from harness.files import alone, write_json
from harness.grid import run as grid
from harness.grid.outcome import Outcome, gather, is_reported, write_grid
from harness.report.write import ReportIsKept, set_aside
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result, Run, Status
from harness.study.load import load_study
from harness.study.looks import note_looks
from harness.study.plan import Plan, make_plan
from harness.study.variant import changes, folder_ending
from hostile import SMALL, write_images

STUDY = SMALL + "toggles: [mix_logits, transform_w]\ndesign: {include: [full], seeds: 2}\n"


def finish(root: Path, run: Run, value: float) -> None:
    folder = RunFolder(root / run.id)
    folder.create(run)
    folder.append(Point(10, 0.16, 1.7e9, {"metrics/fd_emoji": value}))
    card = {"n": 32, "n_real": 8, "d": 16, "role": "headline", "extractor": "resnet", "metric": "fd_emoji"}
    folder.finish(Result({"fd_emoji": value}, {"fd_emoji": card}, {"seconds": 1.0}))
    folder.put(Status("done", 10, 10, 5.0, attempt=1, started=1.7e9, updated=1.7e9, seconds=12.0))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def plan_of(home: Path, *overrides: str) -> Plan:
    return make_plan(load_study(home / "study.yaml", None, overrides))


def train(home: Path, *overrides: str, cells: tuple[str, ...] = ()) -> Plan:
    plan = plan_of(home, *overrides)
    for place, run in enumerate(plan.select(cells)):
        finish(plan.study.root, run, 9.0 + place)
    return plan


def write(home: Path, *words: str) -> Path:
    """The folder that `harness report` with these words writes."""
    overrides = [word for flag, word in pairwise(words) if flag == "--set"]
    only = [word for flag, word in pairwise(words) if flag == "--only"]
    return grid.report(load_study(home / "study.yaml", None, overrides), only).parent


def runs_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_variant_has_a_report_of_its_own(home: Path) -> None:
    for kimg in ("1", "2"):
        train(home, f"train.kimg={kimg}", cells=("origin",))
    one = write(home, "--set", "train.kimg=1", "--only", "origin")
    two = write(home, "--set", "train.kimg=2", "--only", "origin")
    plain = write(home)
    assert len({one, two, plain}) == 3 and plain == home / "reports" / "tiny"
    for folder, kimg in ((one, 1), (two, 2)):
        text = (folder / "report.md").read_text()
        assert f"# tiny, train.kimg={kimg}, only origin" in text
        assert f"tiny, train.kimg={kimg}, only origin" in (folder / "report.html").read_text()
        assert {row["state"] for row in runs_of(folder)} == {"done"}


def test_no_report_is_written_while_a_grid_that_ends_writes_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are read once it is this call's turn: else what it has read before would replace the newer report."""
    plan = train(home)
    held = []

    def read(made: Plan) -> Outcome:
        with pytest.raises(Timeout), alone(plan.study.root, "report", 0):
            raise AssertionError("another call may write")
        held.append(made)
        return gather(made)

    monkeypatch.setattr(grid, "gather", read)
    monkeypatch.setattr(grid, "write", lambda outcome: outcome.plan.study.reports / "report.md")
    assert write(home) == plan.study.reports and held


def test_only_tells_of_what_was_asked_for(home: Path) -> None:
    train(home, cells=("origin", "full"))
    folder = write(home, "--only", "full")
    assert {row["cell"] for row in runs_of(folder)} == {"origin", "full"}
    text = (folder / "report.md").read_text()
    assert "pending" not in text and "2 cells under 2 seeds; 4 runs: 4 done" in text
    assert "full lowers" in text or "full raises" in text or "Inconclusive**: full" in text


def test_what_is_asked_for_twice_or_wholly_is_one_report(home: Path) -> None:
    train(home)
    assert write(home, "--only", "full", "--only", "origin") == write(home, "--only", "origin", "--only", "full")
    every = [word for cell in plan_of(home).cells for word in ("--only", cell.name)]
    assert write(home, *every) == write(home)


def test_an_empty_report_replaces_no_good_one(home: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = train(home)
    folder = write(home)
    before = (folder / "report.md").read_bytes()
    for run in plan.runs:
        (plan.study.root / run.id / "status.json").unlink()
        (plan.study.root / run.id / "result.json").unlink()
    monkeypatch.setattr("sys.argv", ["harness", "report", "study.yaml"])
    with pytest.raises(SystemExit) as end:
        main.main()
    told = capsys.readouterr().err
    assert end.value.code == 2 and "8 runs with results, and now there is none" in told and "left as it is" in told
    assert (folder / "report.md").read_bytes() == before


def test_a_report_of_a_search_is_called_that_where_it_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ReportIsKept, match="the report there is of 1 search with results, and now there is none; it "):
        set_aside(tmp_path, "search", {"a search"}, {"a search"}, set())


def test_a_report_of_other_runs_is_kept_beside(home: Path) -> None:
    train(home)
    folder = write(home)
    before = (folder / "report.md").read_bytes()
    (home / "study.yaml").write_text(STUDY + "train: {lr: 0.004}\n")
    train(home)
    assert write(home) == folder
    kept = home / "reports" / "tiny.earlier"
    assert (kept / "report.md").read_bytes() == before != (folder / "report.md").read_bytes()
    (home / "study.yaml").write_text(STUDY + "train: {lr: 0.005}\n")
    train(home)
    write(home)
    assert (home / "reports" / "tiny.earlier-2").is_dir() and (kept / "report.md").read_bytes() == before


def test_more_of_the_same_runs_replace_the_report(home: Path) -> None:
    train(home, cells=("origin",))
    folder = write(home)
    train(home)
    (home / "study.yaml").write_text(STUDY.replace("seeds: 2", "seeds: 3"))
    train(home)
    assert write(home) == folder and [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert len(runs_of(folder)) == 12


OWN = (
    SMALL
    + """
loss: {weights: {generator: {iiv_r: 0.5}}}
toggles: [{soft: {loss.tau: 0.3}}, {slow: {train.lr: 0.001}}]
design: {kind: full, seeds: 2}
tuned: {full: {trials: 9, objective: fd}}
"""
)


def test_a_report_is_current_until_something_that_it_tells_is_another(home: Path) -> None:
    """None of these edits makes a new run."""
    place = home / "study.yaml"
    place.write_text(OWN)
    plan = train(home)
    plan.study.reports.mkdir(parents=True)
    for name in ("report.md", "report.html"):
        (plan.study.reports / name).touch()

    def is_current() -> bool:
        made = plan_of(home)
        assert {run.id for run in made.runs} == {run.id for run in plan.runs}
        return is_reported(gather(made))

    write_grid(gather(plan))
    assert is_current()
    for edited in (
        OWN.replace(
            "{soft: {loss.tau: 0.3}}, {slow: {train.lr: 0.001}}", "{slow: {train.lr: 0.001}}, {soft: {loss.tau: 0.3}}"
        ),
        OWN.replace("soft", "other").replace("slow", "soft").replace("other", "slow"),
        OWN.replace("soft", "smooth"),
        OWN.replace("full, seeds", "both, seeds"),
        OWN.replace("trials: 9", "trials: 8"),
        OWN.replace("iiv_r: 0.5", "iiv_r: 0.4"),
        OWN + "margins: {fd: 5}\n",
        OWN + "baseline: full\n",
    ):
        place.write_text(edited)
        assert not is_current(), edited
        place.write_text(OWN)
        assert is_current()
    write_json(plan.study.root / "grid.json", {"asked": {"margins": {}, "baseline": "origin"}})
    assert not is_current(), "an earlier version did not note the names"
    write_grid(gather(plan))
    with_margins = load_study(place, None, ["margins.fd=5"])
    note_looks(with_margins, plan.runs, [(3, [])])
    assert not is_current(), "the rule of looks is told"
    write_grid(gather(plan))
    RunFolder(plan.study.root / plan.runs[0].id).update(state="done")
    assert not is_current(), "a run was trained anew"
    write_grid(gather(plan))
    assert is_current() and not is_reported(gather(make_plan(load_study(place.rename(home / "b.yaml"), None, ()))))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["resources.slots=2", "tracking.uri=sqlite:///x.db", "study=other"], ()),
        (["tune.trials=3", "tune.cell=full"], ()),
        (["loss.tau=0.1", "train.kimg=1", "loss.tau=0.2"], ("loss.tau=0.2", "train.kimg=1")),
        (["design.seeds=5"], ("design.seeds=5",)),
        (["train.kimg=3", "train={kimg: 2}"], ("train.kimg=3", "train={kimg: 2}")),
        (["train={kimg: 2}", "train.kimg=3"], ("train={kimg: 2}", "train.kimg=3")),
        (["train.lr=1", "train={kimg: 2}", "train.batch=4"], ("train.lr=1", "train={kimg: 2}", "train.batch=4")),
        (["train={kimg: 2}", "train.lr=1", "train.batch=4"], ("train={kimg: 2}", "train.batch=4", "train.lr=1")),
        (["train={kimg: 2}", "train={batch: 4}"], ("train={kimg: 2}", "train={batch: 4}")),
        (["train={kimg: 2}", "train={kimg: 2}"], ("train={kimg: 2}",)),
        (["train.kimg=3", "train={kimg: 2}", "train.kimg=4"], ("train={kimg: 2}", "train.kimg=4")),
        (["loss.taus=1", "train=null", "loss.tau=2"], ("loss.tau=2", "loss.taus=1", "train=null")),
    ],
)
def test_what_a_report_tells_makes_a_variant(overrides: list[str], told: tuple[str, ...]) -> None:
    assert changes(overrides, is_search=False) == told


def test_a_search_stays_in_place_however_far_it_goes() -> None:
    far = ["tune.trials=3", "tune.cell=full", "tune.storage=sqlite:///x.db"]
    assert changes(far, is_search=True) == ()
    assert changes([*far, "tune.seeds=2"], is_search=True) == ("tune.seeds=2",)


def test_no_two_variants_share_a_folder() -> None:
    variants = [("a=0.1",), ("a=01",), ("a=0-1",), ("a=0.1", "only b"), ("a=0.1,only b",), ("x" * 200,), ("x" * 201,)]
    assert len({folder_ending(variant) for variant in variants}) == len(variants)
    assert all(len(folder_ending(variant)) < 64 and "/" not in folder_ending(variant) for variant in variants)
    assert folder_ending(()) == ""
