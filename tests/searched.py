"""Searches on a cheap objective in place of training: its optimum, noise and failures are known."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.files import write_text
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck
from harness.runs.record import Point, Result, Run, Status
from harness.scheduler.slots import Slot
from harness.settings import DataConfig
from harness.study.load import load_study
from harness.tuning.loop import Loop
from harness.tuning.search import Search, make_search
from harness.tuning.trials import Trials

STUDY = """
study: tiny
data: {resolution: 8}
metrics: {clip: "open_clip:judge", resnet: "timm:judge"}
encoders: {clip: "open_clip:guide", resnet: "timm:guide"}
train: {kimg: 4, batch: 100, snapshots: 4}
toggles: [paired_contrast]
design: {seeds: 3}
"""
FD, SCORE = "fd_judge", "clip_score"
TAU, GAMMA = "loss.tau", "train.r1_gamma"
TWO = f"tune.parameters=[{TAU}, {GAMMA}]"
BEST = {TAU: 0.25, GAMMA: 20.0}
PAUSE_S = float(os.environ.get("SEARCH_PAUSE_S", "0.05"))
Ending = Callable[[Run], str]


def name_for_content(patch: pytest.MonkeyPatch) -> None:
    """Data and encoders have their names for content."""

    def data(config: DataConfig, cache: Path) -> str:
        return f"{config.source} at {config.resolution}"

    patch.setattr("harness.data.dataset.fingerprint", data)
    patch.setattr("harness.models.encoders.fingerprint", lambda name: name)
    patch.setattr("harness.models.encoders.check", lambda name, kind=None: None)


@pytest.fixture(autouse=True)
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    name_for_content(monkeypatch)


def search_in(folder: Path, *overrides: str, text: str = STUDY) -> Search:
    write_text(folder / "study.yaml", text)  # at once: another process may read it now
    return make_search(load_study(folder / "study.yaml", None, [*overrides]))


def setting(run: Run, path: str) -> float:
    return float(run.settings.flat[path])


def distance(run: Run) -> float:
    """Squared, on the logarithmic scale, from the weights that are best."""
    return sum(math.log(setting(run, path) / value) ** 2 for path, value in BEST.items())


def metrics(run: Run) -> dict[str, float]:
    """fd is least at BEST; clip_score rises with tau and falls with gamma, so the two do not agree."""
    score = 50 + 4 * math.log(setting(run, TAU)) - math.log(setting(run, GAMMA))
    return {FD: 10 * math.exp(distance(run)) * (1 + 0.001 * (run.seed % 7) * (1 + distance(run))), SCORE: score}


def train(folder: Path, slot: Slot, claim: ClaimCheck) -> None:
    """What a training leaves: a measurement at each of five snapshots, ever nearer to the final one."""
    own = RunFolder(folder)
    with (folder / "calls").open("a") as file:
        file.write("one\n")
    own.rewind(-1)
    own.update(total_steps=40)
    for step in range(5):
        time.sleep(PAUSE_S)
        snapshot(own, step)
    finish(own)


def snapshot(own: RunFolder, step: int) -> None:
    values = {f"metrics/{FD}": metrics(own.run())[FD] * (5 - step), f"metrics/{SCORE}": metrics(own.run())[SCORE]}
    own.append(Point(step * 10, float(step), 1.7e9 + step, values))


def finish(own: RunFolder) -> None:
    cards = {FD: {"role": "headline", "n": 9}, SCORE: {"role": "headline", "n": 9}}
    own.finish(Result(metrics(own.run()), cards, {"seconds": 1.0}))


class Inline:
    """Executes the runs of a loop one after the other in this process, as a scheduler with one slot does."""

    def __init__(self, search: Search, ending: Ending = lambda run: "done") -> None:
        self.search, self.trials, self.ending = search, Trials(search), ending
        self.loop = Loop(search, self.trials, [])

    def go(self, most: int = 1000) -> Inline:
        """Until there is nothing more, or `most` runs have been executed."""
        while most > 0 and self.loop.open:
            runs = self.loop.more()
            assert runs or not self.loop.open, "nothing to do while the search is open"
            for run in runs:
                if run.id not in self.loop.unwanted() and most > 0:
                    self.execute(run)
                    most -= 1
        self.loop.settle()
        return self

    def execute(self, run: Run) -> None:
        own = RunFolder(self.search.study.root / run.id)
        own.create(run)
        status = own.status()
        if status.state in ("done", "diverged"):
            return
        own.put(Status("running", attempt=status.attempt + 1, started=1.0, total_steps=40))
        state = self.ending(run)
        for step in range(1, 5):
            snapshot(own, step - 1)
            self.loop.settle()
            if run.id in self.loop.unwanted():
                own.update(state="pruned")
                return
        snapshot(own, 4)
        if state == "done":
            finish(own)
        own.update(state=state, seconds=1.0)
        self.loop.settle()


def states(trials: Trials) -> Sequence[str]:
    return [trial.state.name for trial in trials.all()]
