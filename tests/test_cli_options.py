"""Options of the command line that cannot be meant: refused with the fix, and none is ignored without a word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.cli.options import RequestElsewhere, RequestOfSeveral
from harness.grid.tune import TuneResult
from kept import harness

__all__ = ["harness"]
STUDY = "study: tiny\ntoggles: [mix_logits, transform_w]\ndesign: {include: [full], seeds: 2}\n"


@pytest.fixture(autouse=True)
def folder(without_content: Path) -> Path:
    """A working folder with a study, whose data set and encoders need not be read."""
    (without_content / "ablations.yaml").write_text(STUDY)
    return without_content


MISTAKEN_OPTIONS = {
    "workers that nobody starts": (
        ("run-grid", "--workers", "3"),
        "--workers 3: runs train in this call, as resources.executor is local (the default); add --executor",
    ),
    "workers of a search": (("tune", "--workers", "3"), "--workers 3: runs train in this call"),
    "seeds twice": (
        ("run-grid", "--until-decided", "--set", "design.seeds=5"),
        "--until-decided sets design.seeds, and so does --set design.seeds=5: leave one of the two out",
    ),
    "most seeds twice": (
        ("run-grid", "--max-seeds", "6", "--set", "design={seeds: auto, max_seeds: 5}"),
        "--max-seeds sets design.max_seeds, and so does --set design={seeds: auto, max_seeds: 5}: leave one",
    ),
    "an executor twice": (
        ("tune", "--executor", "ray", "--set", "resources.executor=slurm"),
        "--executor sets resources.executor, and so does --set resources.executor=slurm",
    ),
    "trials twice": (
        ("tune", "--trials", "3", "--set", "tune.trials=4"),
        "--trials sets tune.trials, and so does --set",
    ),
    "no budget": (("plan", "--budget", ""), "--budget '': must be a time such as 12h, 90m, 2d or 3600 (seconds)"),
    "an endless budget": (("plan", "--budget", "9" * 400), "at most 100000d"),
    "no timeout": (("tune", "--timeout", ""), "--timeout '': must be a time"),
    "no profile": (("plan", "--profile", ""), "--profile '': no profile ''; the file has no profiles"),
    "no cell": (("tune", "--cell", ""), "error: unknown cell ''; allowed: origin, full, full-minus-TOGGLE"),
    "no other cell": (("tune", "--also", "null"), "error: unknown cell 'null'; did you mean 'full'?"),
    "a huge spread": (("plan", "--sd", "1e308"), "--sd 1e+308: must be greater than 0, and at most 10"),
    "an endless pace": (("plan", "--seconds-per-kimg", "1e308"), "must be greater than 0, and at most 1,000,000,000"),
    "a share that is no number": (("plan", "--sd", "5x%"), "Invalid value for '--sd'"),
    "a number too low": (("run-grid", "--slots", "0"), "greater than or equal to 1, not '0'"),
    "an option of others": (("status", "--yes"), "No such option: --yes, which is one of rm, gc"),
    "an option in capitals": (("plan", "--JSON"), "No such option: --JSON; write --json"),
    "no such command": (("run",), "No such command 'run'. The commands are init, plan, "),
    "a misspelt cell of a run": (
        ("sample", "full/x", "a"),
        "did you mean 'full/1'? name a run folder, a run id or CELL/SEED",
    ),
}


@pytest.mark.parametrize("case", MISTAKEN_OPTIONS.values(), ids=MISTAKEN_OPTIONS)
def test_an_option_that_cannot_be_meant_is_refused(harness: Any, case: tuple[tuple[str, ...], str]) -> None:
    code, out, err = harness(*case[0])
    assert (code, out) == (2, "") and case[1] in " ".join(err.split())
    assert "?;" not in err


def test_a_spread_in_per_cent_is_a_share_and_one_that_may_be_meant_so_is_told(harness: Any) -> None:
    share, percent = (harness("plan", "--no-timing", "--sd", sd)[1] for sd in ("0.05", "5%"))
    assert share == percent and "(spread 5 %, as given)" in " ".join(share.split())
    assert "as given; if 5 % is meant: --sd 5%)" in " ".join(harness("plan", "--no-timing", "--sd", "5")[1].split())


def test_a_profile_of_the_environment_is_said_to_come_from_there(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_PROFILE", "bogus")
    code, _, err = harness("plan")
    assert code == 2 and "--profile bogus, or HARNESS_PROFILE in the environment: no profile 'bogus'" in err
    assert "HARNESS_PROFILE" not in harness("plan", "--profile", "other")[2]


@pytest.mark.parametrize("option", [("--study", "ablations.yaml"), ("--profile", "x"), ("--set", "train.kimg=1")])
def test_what_is_said_of_a_study_is_not_dropped_beside_a_runs_folder(
    harness: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    monkeypatch.setenv("HARNESS_PROFILE", "short")  # of other studies
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text("{")
    code, _, err = harness("sample", "run", "a cat", *option)
    assert code == 2 and "error: run: is the folder of a run, which has settings of its own; leave --study" in err
    assert "run.json" in harness("sample", "run", "a cat")[2]


def test_a_cell_is_searched_once_however_it_is_spelt(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, overrides = list[list[str]](), list[list[tuple[str, ...]]]()

    def tune_cells(studies: Any, **_: Any) -> TuneResult:
        asked.append([study.tune.cell for study in studies])
        overrides.append([study.overrides for study in studies])
        return TuneResult(0)

    monkeypatch.setattr("harness.grid.tune.tune_cells", tune_cells)
    spelt = (
        "mix_logits+transform_w",
        "full",
        "transform_w+mix_logits",
        "origin",
        "full-minus-transform_w",
        "mix_logits",
    )
    assert harness("tune", *(word for cell in spelt for word in ("--also", cell)))[0] == 0
    assert asked == [["full", "origin", "full-minus-transform_w"]]
    assert harness("tune", "--set", "tune.cell=origin")[0] == 0
    assert overrides[1] == [("tune.cell=origin",)], "the line that goes on would grow with each call"


def test_workers_of_an_engine_are_asked_for_as_before(folder: Path) -> None:
    asked = RequestElsewhere(folder / "ablations.yaml", None, None, executor="folder", workers=3).load()
    assert (asked.resources.executor, asked.resources.workers) == ("folder", 3)


def test_a_study_that_is_named_twice_is_watched_once(folder: Path) -> None:
    (folder / "other.yaml").write_text(STUDY.replace("tiny", "other"))
    named = ["ablations.yaml", "other.yaml", folder / "ablations.yaml"]
    assert [study.name for study in RequestOfSeveral([*map(Path, named)]).load()] == ["tiny", "other"]


def test_what_is_sent_is_counted_in_words(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {"report": 2, "tables": 1, "summary": 2, "runs": 1, "points": 1200, "renamed runs": 3}
    monkeypatch.setattr("harness.tracking.mirror.sync", lambda *_: Counter(sent))
    monkeypatch.setattr("harness.tracking.mirror.unsent", lambda *_: ())
    told = "1,200 points, 3 renamed runs, 2 reports, 1 run, 2 summary updates, 1 table\n"
    assert harness("sync")[:2] == (0, told)
