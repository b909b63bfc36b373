"""Seeds that are added until every effect is decided: what commands say of them before, between and afterwards."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from adding import (
    CLEAR,
    MIDDLING,
    STUDY,
    Trained,
    looks_at,
    one_line,
    planned,
    trained,
)
from harness.analysis.analyse import analyse
from harness.analysis.from_records import table_of
from harness.analysis.looks import Looks
from harness.design.design import Design
from harness.design.kinds import CONTROL_AFTER_AUTO, DesignConfig
from harness.errors import RecordError
from harness.grid import whole_seeds
from harness.planning.added_seeds import decided_after, ideas_that_count
from harness.planning.forecast import Given, forecast
from harness.report.caveats import of_looks
from harness.report.so_far import shown_so_far
from harness.runs.folders import RunFolder
from harness.runs.record import Status
from harness.scheduler.live import LiveView
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from harness.study import looks
from harness.terminal.table import TextTable
from kept import harness, plan
from synthetic import record

__all__ = ["harness", "plan", "trained"]


# What commands say.


def test_seeds_that_were_not_asked_for_are_nowhere_pending(
    tmp_path: Path, harness: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(tmp_path)
    _, out, _ = harness("status", "added.yaml")
    assert "12 pending" in out and "3 of at most 6 seeds: the first comparison" in one_line(out)
    trained(CLEAR)
    harness("run-grid", "added.yaml")
    for command in ("status", "plan"):
        _, out, _ = harness(command, "added.yaml")
        assert "3 of at most 6 seeds: decided" in one_line(out) and "12 done" in out
        assert "pending" not in out and " new" not in out
    told = json.loads(harness("status", "added.yaml", "--json")[1])
    look = {"seeds": 3, "undecided": [], "no_seed_decides": []}
    assert told["seeds"] == {"asked_for": 3, "most": 6, "decided": True, "looks": [look]}
    assert {row["state"] for row in told["runs"]} == {"done"}
    # A seed of which somebody has begun a run was asked for.
    RunFolder(made.study.root / made.of_seeds(5).runs[4].id).create(made.of_seeds(5).runs[4])
    assert planned(tmp_path).study.design.seeds == (0, 1, 2, 3, 4)


def test_a_study_that_is_asked_for_otherwise_says_how_it_was_trained(
    tmp_path: Path, harness: Any, trained: Any
) -> None:
    fixed = STUDY.replace("seeds: auto, max_seeds: 6", "seeds: 3")
    planned(tmp_path, text=fixed)
    train = trained(MIDDLING)
    assert harness("run-grid", "added.yaml", "--until-decided", "--max-seeds", "5")[0] == 0
    assert len(train.seeds) > 3
    (place,) = (tmp_path / "reports").iterdir()
    assert place.name.startswith("added.design-max_seeds-5-design-seeds-auto-"), (
        "the options' report has its own folder"
    )
    for command in ("status", "plan", "report"):
        said = one_line("".join(harness(command, "added.yaml")[1:]))
        assert "add --set design.seeds=auto --set design.max_seeds=5" in said, command
        more = ("--set", "design.seeds=auto", "--set", "design.max_seeds=5")
        said = one_line("".join(harness(command, "added.yaml", *more)[1:]))
        assert "seeds were added" not in said and "of at most 5 seeds" in said, command
    study = planned(tmp_path, text=fixed).study
    taken = looks_at(planned(tmp_path, text=fixed))
    (caveat,) = of_looks(study, (), taken)
    assert "as if their number had been fixed" in caveat
    assert not list(of_looks(planned(tmp_path, "design.seeds=2", text=fixed).study, (), taken))


def test_a_pack_takes_the_looks_along(
    tmp_path: Path, harness: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(tmp_path)
    trained(MIDDLING)
    assert harness("run-grid", "added.yaml")[0] == 0
    assert harness("pack", "added.yaml", "-o", "added.zip")[0] == 0
    assert harness("unpack", "added.zip", "elsewhere")[0] == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    for command in ("status", "ls"):
        code, out, _ = harness(command, "added.yaml")
        assert code == 0 and "pending" not in out
    assert "5 of at most 6 seeds: decided" in one_line(harness("status", "added.yaml")[1])


def test_notes_of_looks_that_are_damaged_are_the_users_to_mend(tmp_path: Path) -> None:
    root = planned(tmp_path).study.root
    root.mkdir(parents=True, exist_ok=True)
    for text in ("{", '{"looks": [{"seeds": -1}]}', '{"looks": 3}', "[]"):
        (root / looks.NAME).write_text(text)
        with pytest.raises(RecordError, match=r"looks.json: cannot be used .*; delete it"):
            planned(tmp_path)


def test_a_look_is_noted_once_and_anew_where_the_runs_say_another_thing(tmp_path: Path) -> None:
    made = planned(tmp_path)
    study, runs = made.study, made.runs
    for run in runs:
        RunFolder(study.root / run.id).create(run)
    for undecided in ([], [("fd", "a")], [("fd", "a")], []):
        looks.note_looks(study, runs, [(3, undecided)])
    assert [look.undecided for look in looks_at(made)] == [(), (("fd", "a"),), ()]
    assert looks.in_words(study, runs) == "3 of at most 6 seeds: decided" and not looks.changed_rules(looks_at(made))
    other = replace(study, margins={"fd": 6.0}, baseline="full")
    looks.note_looks(other, runs, [(3, []), (4, [("fd", "a")])])
    baseline, margins = looks.changed_rules(looks_at(made))
    assert baseline == "the baseline from origin to full, after 3 seeds" and margins == "the margins, after 3 seeds"
    assert looks.in_words(study, runs) == "3 of at most 6 seeds: decided", "by its own rule"
    longer = planned(tmp_path, "train.kimg=9")
    assert not looks_at(longer) and "first comparison" in looks.in_words(longer.study, longer.runs), "another grid"


def test_a_look_holds_for_the_rule_and_the_runs_that_were_compared(tmp_path: Path) -> None:
    text = STUDY.replace("transform_w]", "{slow: {train.lr: 0.001}}]")
    made = planned(tmp_path, text=text)
    for run in made.runs:
        RunFolder(made.study.root / run.id).create(run)
    looks.note_looks(made.study, made.runs, [(3, [])])

    def told(*overrides: str, text: str = text) -> tuple[str, str, bool]:
        """What commands say, what the caveat of a report says was changed, and whether all is decided."""
        now = planned(tmp_path, *overrides, text=text)
        words, told = looks.in_words(now.study, now.runs), looks.as_json(now.study, now.runs)
        caveats = "".join(of_looks(now.study, now.runs, looks_at(now)))
        changed = re.sub(r".*beforehand: (.*)\. So .*", r"\1", caveats)
        return words.partition("seeds: ")[2], changed, bool(told and told["decided"] and told["looks"])

    def again(how: str) -> str:
        return f"compared before {how}; run-grid compares again"

    assert told() == ("decided", "", True)
    margins, most = "the margins", "the most seeds from 6 to 4"
    another = again(f"by another rule ({most} and {margins})")
    assert told("margins.fd=6", "design.max_seeds=4") == (
        another,
        f"{most}, after 3 seeds and {margins}, after 3 seeds",
        False,
    )
    edited = told(text=text.replace("0.001", "0.002"))
    assert edited == (again("by another rule (the cells)"), "the cells, after 3 seeds", False)
    assert told(text=text.replace("slow", "late")) == (again("under other names of the cells"), "", False)
    noted = made.study.root / looks.NAME
    written = noted.read_text()
    noted.write_text(re.sub(r',\s*"runs": "\w+"|"runs": "\w+",', "", written))
    assert noted.read_text() != written and told() == ("decided", "", True), "a look of an earlier version"
    shutil.rmtree(made.study.root / made.runs[-1].id)
    assert told() == (again("with other runs"), "", False)


# What is to be expected.


def slow_seeds(design: Design, effect: float, margin: float | None, most: int, studies: int) -> list[int]:
    """Seeds of studies with a spread of 1, through the real analysis."""
    rng, found = np.random.default_rng(7), []
    for _ in range(studies):
        records = []
        for seed in range(most):
            block = rng.normal(0, 3)
            for cell in design.layout.cells:
                value = 50 + block + effect * len(cell.toggles) + rng.normal()
                done = record(cell.name, seed, {"clip_score": float(value)})
                records.append(replace(done, run=replace(done.run, id=f"{cell.name} {seed}", toggles=cell.toggles)))
        margins = {} if margin is None else {"clip_score": margin}
        analysis = analyse(table_of(records, design.toggles), "origin", margins, Looks(3, most))
        assert analysis.looks
        ends = (look.seeds for look in analysis.looks if not any(look.undecided.values()))
        found.append(next(ends, most))
    return found


@pytest.mark.parametrize(("effect", "margin"), [(2.0, None), (0.0, 1.7)])
def test_expected_seeds_are_those_of_the_real_analysis(effect: float, margin: float | None) -> None:
    design = Design(DesignConfig(kind="both"), ("a", "b", "c"))
    bounds = [None if margin is None else (-margin, margin)]
    fast, undecided = decided_after(design.estimable, design.cells, {}, bounds, 6, effect)
    slow = slow_seeds(design, effect, margin, 6, 120)
    assert 3 < np.mean(fast) < 6 and undecided < 0.5
    assert np.mean(slow) == pytest.approx(np.mean(fast), abs=3 * np.std(slow) / math.sqrt(len(slow)))


def test_plan_says_the_least_and_the_most_and_what_to_expect(tmp_path: Path, harness: Any) -> None:
    made = planned(tmp_path, "design.control=2", "resources.slots=3")
    found = forecast(made, Given(seconds_per_kimg=10.0, sd=0.02))
    added, length = found.added, made.study.settings.train.kimg * 10
    assert added and (added.first, added.most, added.runs) == (3, 6, (4 * 3 + 2, 4 * 6 + 2))
    # Three slots: 14 runs are 5 rounds, and of four cells of a seed one trains alone.
    assert added.seconds == pytest.approx((5 * length, 11 * length))
    assert added.effects and added.none and added.effects.seeds > added.none.seeds > 3
    assert 14 <= added.effects.runs <= 26 and added.effects.seconds and 5 * length <= added.effects.seconds
    _, out, _ = harness("plan", "added.yaml", "--sd", "0.02", "--seconds-per-kimg", "10")
    text = one_line(out)
    assert "seeds: 3 (12 runs" in text and "at most 6 (24 runs" in text
    assert "expected if every idea changes fd_" in text and "expected if no idea changes fd_" in text
    _, out, _ = harness("plan", "added.yaml", "--sd", "0.02", "--seconds-per-kimg", "10", "--budget", "900d")
    assert "auto" not in out and "max_seeds" not in out and "seeds:" in out, "a proposal has so many seeds"
    document = json.loads(harness("plan", "added.yaml", "--sd", "0.02", "--json")[1])["added_seeds"]
    assert document["most"] == 6 and document["seconds"] is None and document["without_margin"] == []


# What whole seeds say in between.


def test_a_seed_is_whole_once_each_of_its_runs_has_ended(tmp_path: Path) -> None:
    made = planned(tmp_path, "design.control=1")
    seeds = whole_seeds.WholeSeeds(made, {made.runs[0].id: 1})
    done, failed = Status("done"), Status("failed", attempt=1)
    statuses = {run.id: Status() for run in made.runs}
    assert seeds.tick(statuses) == 0
    for run in made.runs:
        if run.seed == 0:
            assert seeds.tick(statuses) == 0
            statuses[run.id] = failed
    assert seeds.tick(statuses) == 0, "what failed before the call is tried again"
    statuses[made.runs[0].id] = replace(failed, attempt=2)
    assert seeds.tick(statuses) == 1 and seeds.tick(statuses) == 0
    statuses = {run.id: done if run.seed < CONTROL_AFTER_AUTO else Status() for run in made.runs}
    assert seeds.tick(statuses) == 0, "the end of the grid is told by others"
    again = whole_seeds.WholeSeeds(made, {})
    assert again.tick({**statuses, made.runs[2].id: Status()}) == 0, "nor what was whole before"


# How that is shown.


def shown_by(tmp_path: Path, width: int, terminal: bool, count: int = 1) -> str:
    """What a view of the runs shows of so many whole seeds."""
    made = planned(tmp_path)
    Trained(CLEAR)(made, made.runs, Scheduler(made.study.root, (), print, 0), None)
    seen = whole_seeds.WholeSeeds(made, {})
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, legacy_windows=False, color_system=None)
    with LiveView(made.runs, made.study.root, (Slot(0, "cpu", 1),), console) as view:
        tick = whole_seeds.showing(seen, whole_seeds.ReportInBetween())(view)
        tick({run.id: Status() for run in made.runs})
        tick({run.id: Status("done" if run.seed < count else "pending") for run in made.runs})
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_the_first_comparison_stands_whole_above_what_is_redrawn(tmp_path: Path, width: int) -> None:
    text = shown_by(tmp_path, width, terminal=True)
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", line).rstrip() for line in text.splitlines()]
    (head,) = (
        place for place, line in enumerate(lines) if line.startswith("seed 0 is whole, the first of 3. One seed:")
    )
    assert lines[head + 1 + (width == 80)].split() == ["cell", "fd", "change"]
    rows = [line.split() for line in lines if re.match(r" (origin|mix_logits|transform_w|full) ", line)]
    assert [row[0] for row in rows] == ["origin", "mix_logits", "transform_w", "full"], "each once"
    assert (
        rows[0][1:] == [f"{CLEAR(planned(tmp_path).runs[0]):.2f}"]
        and rows[1][2].startswith("−")
        and rows[2][2].startswith("+")
    )
    assert "95 %" not in text and "better" not in text and max(map(len, lines)) <= width
    assert text.count("\x1b[2K") <= 2 * 40, "the table below is drawn anew once for all of it"


def test_in_a_pipe_each_record_is_one_line(tmp_path: Path) -> None:
    lines = shown_by(tmp_path, 1_000_000, terminal=False).splitlines()
    (head,) = (place for place, line in enumerate(lines) if "seed 0 is whole" in line)
    assert [line.split()[0] for line in lines[head + 3 : head + 7]] == ["origin", "mix_logits", "transform_w", "full"]
    (tmp_path / "two").mkdir()
    lines = shown_by(tmp_path / "two", 1_000_000, terminal=False, count=2).splitlines()
    (head,) = (place for place, line in enumerate(lines) if line.startswith("2 of 3 seeds are whole"))
    assert lines[head + 4].split()[-1] == "2/2" and lines[head + 5].split()[-1] == "0/2", "improved"


def test_of_very_many_cells_those_that_differ_most_are_shown(tmp_path: Path) -> None:
    records = [record(f"c{place:03d}" if place else "origin", 0, {"fd": 1 + place / 100}) for place in range(60)]
    records = [replace(each, run=replace(each.run, id=each.run.cell)) for each in records]
    ideas = tuple(each.run.cell for each in records[1:])
    head, table, more = shown_so_far(analyse(table_of(records, ideas), "origin"), 4)
    assert isinstance(table, TextTable) and "first of 4" in str(head) and "not shown here: 40 cells" in str(more)
    names = [row[0].plain for row in table.rows if row]
    assert names == ["origin", *(f"c{place:03d}" for place in range(59, 40, -1))]


@pytest.mark.parametrize("kind", ["one-at-a-time", "leave-one-out", "both", "full"])
def test_every_idea_that_changes_something_is_expected_to_change_it_by_as_much(kind: Any) -> None:
    """Also in designs whose cells have one more that changes nothing."""
    design = Design(DesignConfig(kind=kind, include=("origin",)), ("a", "b", "idle"))
    first: dict[tuple[str, ...], tuple[str, ...]] = {}
    twins = {}
    for cell in design.cells:
        if (twin := first.setdefault(tuple(each for each in cell if each != "idle"), cell)) != cell:
            twins[cell] = twin
    counts = ideas_that_count(design.cells, twins)
    assert twins and counts.keys() == {cell for cell in design.cells if cell not in twins}
    effects = {each.toggle: each.weights for each in design.estimable.effects}
    found = {t: sum(w * counts[twins.get(cell, cell)] for cell, w in of.items()) for t, of in effects.items()}
    assert found == pytest.approx({"a": 1, "b": 1, "idle": 0})


def test_an_idea_that_changes_nothing_alone_may_do_so_with_others() -> None:
    cells = ((), ("a",), ("b",), ("a", "b"), ("idle",), ("a", "b", "idle"))
    counts = ideas_that_count(cells, {("idle",): ()})
    assert counts == {(): 0, ("a",): 1, ("b",): 1, ("a", "b"): 2, ("a", "b", "idle"): 3}


def test_toggles_that_change_nothing_are_decided_by_the_first_look() -> None:
    """They make nothing else later; where all are such, or one cell is trained, there is nothing to wait for."""
    design = Design(DesignConfig(), ("idle", "b")).estimable
    cells = ((), ("idle",), ("b",))
    with np.errstate(all="raise"):
        seeds, undecided = decided_after(design, cells, {("idle",): ()}, [(-1.0, 1.0)], 6, 4.0)
        alone = decided_after(Design(DesignConfig(), ("b",)).estimable, cells[::2], {}, [(-1.0, 1.0)], 6, 4.0)
        assert (seeds.tolist(), undecided) == (alone[0].tolist(), alone[1]) and 3 < seeds.mean() < 5.5
        seeds, undecided = decided_after(design, cells, {("idle",): (), ("b",): ()}, [(-1.0, 1.0)], 6, 4.0)
    assert seeds.tolist() == [3] and undecided == 0
