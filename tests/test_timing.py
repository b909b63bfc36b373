"""The pace of runs that nobody has trained: what is counted and timed, for how long, and what is made of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

import fakes
from harness import cache
from harness.models.encoders.load import untrained
from harness.models.precision import set_products
from harness.planning import timing
from harness.planning.budget import compare
from harness.planning.forecast import Given, forecast
from harness.planning.measured import CannotTime, Pace, wall_time
from harness.planning.timing import timed_pace
from harness.runs.folders import RunFolder
from harness.runs.machine import Machine
from harness.runs.record import Result
from harness.scheduler.forkserver import run_apart, run_beside, warm_up
from harness.scheduler.slots import Slot
from harness.storage.caches import entries, reads_of
from harness.storage.usage import Meter
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.training.cost import gflops_per_step
from harness.training.stand_in import guides_of, random_corpus, trainer_of
from harness.training.timing import time_steps
from harness.training.work import Counted, Steps, Timed, Trial, Work
from waiting import command_of

NETWORKS = {"clip": "embedded:clip-measure", "resnet": "embedded:resnet-measure"}
STUDY = f"""study: tiny
data: {{resolution: 8}}
encoders: {{clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}}
metrics: {{clip: "{NETWORKS["clip"]}", resnet: "{NETWORKS["resnet"]}", samples: 100}}
generator: {{z_dim: 16, w_dim: 16, mapping_layers: 2, channel_base: 128, channel_max: 8}}
discriminator: {{channel_base: 128, channel_max: 8}}
train: {{kimg: 10, batch: 8, snapshots: 2}}
toggles: [mix_logits, paired_contrast]
design: {{kind: full, seeds: 2}}
"""
GFLOPS = {"origin": 1.0, "mix_logits": 1.5, "paired_contrast": 2.0, "mix_logits+paired_contrast": 3.0, "full": 3.0}
SECONDS = {"origin": 0.1, "paired_contrast": 0.3, "full": 0.3}


class Processes:
    """In place of the processes: what they are asked, and what they answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.counted = set(GFLOPS)
        self.activations_mb, self.free_mb, self.speed = 10.0, 16000.0, 100.0
        self.error: BaseException | None = None

    def __call__(self, function: Any, calls: Any, seconds: float | None = None) -> list[Any]:
        assert seconds == timing.MOST_S
        self.asked.append((function.__name__, calls))
        if self.error:
            raise self.error
        return [self.count(*each) if function.__name__ == "_count" else self.time(*each) for each in calls]

    def count(self, runs: Any, slot: Slot, seconds: float) -> Counted:
        work = {run.cell: Work(GFLOPS[run.cell], self.activations_mb, 5.0) for run in runs if run.cell in self.counted}
        return Counted(work, self.speed, self.free_mb)

    def time(self, trial: Trial) -> Timed:
        cells = {run.cell: Steps(SECONDS[run.cell] / trial.divisor, 5) for run in trial.runs}
        encoded = {"metrics.clip": 0.01, "metrics.resnet": 0.02, "encoders.clip": 0.03, "texts": 0.5}
        return Timed(cells, 1.5, 0.001, encoded, 4.0, 6.0, 0.25)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    found = Processes()
    monkeypatch.setattr(timing, "run_beside", found)
    monkeypatch.setattr(timing, "warm_up", lambda *_: None)
    monkeypatch.setattr("harness.planning.forecast.find_slots", lambda *_: SLOTS)
    monkeypatch.setattr("os.getloadavg", lambda: (0.5, 0.5, 0.5))
    return found


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda config, cache: "data")
    path = tmp_path / "study.yaml"

    def planned(*overrides: str) -> Plan:
        path.write_text(STUDY)
        return make_plan(load_study(path, None, overrides))

    return planned


SLOTS = (Slot(0, "cpu", 1), Slot(1, "cpu", 1))


def trial(plan: Plan, slots: Sequence[Slot] = SLOTS) -> Pace:
    return timed_pace(plan, slots, ())


def test_two_cells_are_timed_and_the_others_lie_on_the_line_through_them(planned: Any, processes: Processes) -> None:
    plan = planned()
    pace = trial(plan)
    kinds = [(name, len(calls)) for name, calls in processes.asked]
    assert kinds == [("_count", 2), ("_time", 2)], "as many beside each other as there are slots"
    (asked,) = {tuple(run.cell for run in each.runs) for (each,) in processes.asked[1][1]}
    assert asked == ("origin", "full")
    steps = {"origin": 0.1, "mix_logits": 0.15, "paired_contrast": 0.2, "full": 0.3}
    assert pace.of_cell == pytest.approx({cell: seconds * 1000 / 8 for cell, seconds in steps.items()})
    assert pace.source == "timed" and pace.remarks[0].startswith("5 steps of origin and full, 2 runs beside each other")
    # Measured 3 times: 100 images for the distances and, with nothing known of the data, 25 for the captions.
    measuring = 125 * 0.001 + 100 * 0.02 + 4.0 + 25 * (0.01 + 0.03)
    assert pace.beside == pytest.approx(2 * 1.5 + 3 * measuring)
    assert pace.seconds("full", 10) == pytest.approx(0.3 * 10_000 / 8 + pace.beside)


def test_what_was_timed_is_kept_until_a_step_computes_something_else(planned: Any, processes: Processes) -> None:
    first = trial(planned())
    longer = trial(planned("train.kimg=2000", "train.lr=0.1", "loss.tau=0.1", "design.seeds=7"))
    assert len(processes.asked) == 2 and first.of_cell == longer.of_cell
    for change in ("train.batch=16", "generator.w_dim=32", "metrics.samples=50", "train.precision=bf16"):
        before = len(processes.asked)
        trial(planned(change))
        assert len(processes.asked) == before + 2, change


def test_what_was_timed_on_a_busy_machine_is_timed_again_on_an_idle_one(
    planned: Any, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0, 0))
    told = " ".join(trial(planned()).remarks)
    assert "other work kept the machine busy (load 1000.0" in told and "without it runs take about 75% of this" in told
    trial(planned())
    assert len(processes.asked) == 2, "it is as busy"
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0, 0))
    assert "busy" not in " ".join(trial(planned()).remarks) and len(processes.asked) == 4


def test_cells_that_there_is_no_time_to_count_are_the_sum_of_their_ideas(planned: Any, processes: Processes) -> None:
    processes.counted = {"origin", "full"}
    pace = trial(planned())
    assert pace.of_cell["mix_logits"] == pytest.approx(0.2 * 1000 / 8), "half of what both ideas add"
    assert "2 of 4 cells were not counted" in " ".join(pace.remarks)


def test_a_smaller_batch_stands_for_one_that_takes_too_long_or_too_much_memory(
    planned: Any, processes: Processes
) -> None:
    whole = trial(planned())
    processes.speed = 0.5  # the four GFLOP of both cells would take half a minute and more
    slow = trial(planned("train.ema_kimg=3", "train.batch=32"))
    (each,) = {each.divisor for (each,) in processes.asked[3][1]}
    assert each in (2, 4, 8) and f"steps of {32 // each} images were timed, for 32 in proportion" in slow.remarks
    assert slow.of_cell["full"] * 4 == pytest.approx(whole.of_cell["full"])
    processes.speed, processes.activations_mb = 100.0, 7000.0  # of two processes, each may have 6400
    trial(planned("train.batch=64", "discriminator.minibatch_std_group=8"))
    (each,) = {each.divisor for (each,) in processes.asked[5][1]}
    assert each == 2


def test_what_cannot_be_timed_is_estimated_from_its_arithmetic(planned: Any, processes: Processes) -> None:
    processes.activations_mb = 1e6
    pace = trial(planned())
    assert [name for name, _ in processes.asked] == ["_count"], "no step is tried that would fill the memory"
    assert pace.source == "estimated" and pace.of_cell["full"] == pytest.approx(3.0 / (0.4 * 100) * 1000 / 8)
    said = "a step of 4 images takes about 490.7 GiB, and each run has 7.8 GiB here; an estimate: 1 to 3 GFLOP a step"
    assert said in pace.remarks[0]
    processes.activations_mb = 10.0  # what had the memory has ended
    assert trial(planned()).source == "timed"


def test_distances_are_timed_again_once_it_is_known_against_how_many_images(
    planned: Any, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(planned())
    monkeypatch.setattr(timing, "find_prepared", lambda *_: (Path(), SimpleNamespace(images=5000, held_out=1000)))
    trial(planned())
    assert [each.real for name, calls in processes.asked if name == "_time" for (each,) in calls] == [100] * 2 + [
        4000
    ] * 2


def test_what_is_kept_is_known_to_the_commands_that_tidy_the_cache(planned: Any, processes: Processes) -> None:
    plan = planned()
    trial(plan)
    (kept,) = entries(cache.root(), Meter())
    assert kept.kind == "timings" and kept.keys == {"data"} and kept.is_read(reads_of(plan.runs))


@pytest.mark.parametrize("error", [TimeoutError("_time took too long"), RuntimeError("CUDA error"), OSError("full")])
def test_a_trial_that_fails_is_told_and_the_plan_answers(
    planned: Any, processes: Processes, error: BaseException
) -> None:
    processes.error = error
    found = forecast(planned(), Given(), trial)
    assert found.pace is None and found.why_untimed == f"{type(error).__name__}: {error}"
    assert found.as_dict()["cost"]["remarks"] == [found.why_untimed] and len(found.reasons) == 8


def test_what_trains_elsewhere_or_by_a_script_is_not_timed(planned: Any, processes: Processes) -> None:
    with pytest.raises(CannotTime, match="the runs train elsewhere"):
        trial(planned("resources.executor=ray"))
    with pytest.raises(CannotTime, match="not possible on this machine"):
        trial(planned(), ())
    assert processes.asked == []


def test_runs_that_have_finished_here_tell_more_than_a_trial(planned: Any, processes: Processes) -> None:
    def finish(plan: Plan, kind: Any = "cpu", device: str = "") -> None:
        run = plan.runs[0]
        made = RunFolder(plan.study.root / run.id)
        made.create(run)
        if device:
            made.made_by(run.engine, Machine("host", device, {}, kind), goes_on=False)
        made.update(state="done")
        made.finish(Result({"fd": 1.0}, {}, {"s_per_kimg": 6.0, "seconds": 60.0}))

    finish(planned("train.batch=16"))
    found = forecast(planned(), Given(), trial)
    assert found.pace is not None and found.pace.source == "timed", "steps of another size tell nothing"
    assert forecast(planned(), Given(seconds_per_kimg=3), trial).pace == Pace(3, {}, 0.0, 0, "given")
    untimed = forecast(planned(), Given()).pace
    assert untimed is not None and untimed.source == "other settings"
    finish(planned("train.kimg=1"))
    found = forecast(planned(), Given(), trial)
    assert found.pace is not None and (found.pace.source, found.pace.s_per_kimg) == ("other settings", 6)
    finish(planned(), "cuda", "NVIDIA H100")
    elsewhere = forecast(planned("metrics.seed=3", "design.seeds=1"), Given(), trial)
    assert elsewhere.pace is not None and elsewhere.pace.source == "other settings"


def test_cells_of_other_designs_take_what_their_ideas_add(
    planned: Any, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "find_prepared", lambda *_: (Path(), SimpleNamespace(images=5000, held_out=1000)))
    found = forecast(planned("design.kind=one-at-a-time", "design.include=[]", "train.kimg=8"), Given(), trial)
    told = compare(found, 3600.0)
    (both,) = [option for option in told.options if option.cells == 4]
    # Steps of 0.1, 0.3 and, in between by GFLOP, 0.2 s: both ideas together add 0.1 and 0.2 to the origin's 0.1.
    assert found.pace is not None and found.pace.once > 100
    each = [found.pace.beside + 1000 * step for step in (0.1, 0.2, 0.3, 0.4)]
    assert both.seconds in [
        pytest.approx(found.pace.once + wall_time(order * both.seeds, 2)) for order in permutations(each)
    ]


# With processes.


def test_steps_of_a_tiny_study_are_counted_and_timed_in_a_process(planned: Any) -> None:
    plan = planned("design.seeds=1", "data.resolution=32", "encoders.crop=0.125")  # which a run draws numbers for
    runs = [run for run in plan.runs if run.cell in ("origin", "paired_contrast")]
    slot = Slot(0, "cpu", 1)
    warm_up(("harness.training.timing",), 1)
    ((counted,), (timed,)) = (
        run_beside(timing._count, [(runs[1:], slot, 60)], 120),
        run_beside(timing._time, [(Trial(tuple(runs), slot, 2, 0.2, 100, 60),)], 120),
    )
    settings = runs[1].settings
    guides = guides_of(settings)
    taken = trainer_of(settings, random_corpus(settings, {"f_c": guides["f_c"].dim}), guides, "cpu")
    assert counted.work["paired_contrast"].gflops == pytest.approx(gflops_per_step(taken)), "as of steps that are taken"
    assert counted.gflops_per_s > 0 and counted.free_mb > 0 and counted.work["paired_contrast"].activations_mb > 0
    assert set(timed.cells) == {"origin", "paired_contrast"} and timed.cells["origin"].seconds > 0
    assert set(timed.encoded) == {"metrics.clip", "metrics.resnet", "encoders.clip", "texts"}
    assert 0 <= timed.waited < 1
    assert min(timed.start, timed.generated, timed.distances, timed.real_side, *timed.encoded.values()) > 0


def test_steps_on_trial_multiply_as_those_of_a_run_do(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own default, TF32 in convolutions, would take fp32 for faster than it is."""
    products = list[str]()

    def note(trainer: Any, seconds: float) -> Steps:
        products.append(torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]
        return Steps(1.0, 1)

    monkeypatch.setattr("os.environ", {**os.environ})  # which it changes for its process
    set_products("tf32")
    monkeypatch.setattr("harness.training.timing._steps", note)
    runs = planned("design.seeds=1").runs[:1]
    time_steps(Trial(tuple(runs), Slot(0, "cpu", torch.get_num_threads()), 1, 0.1, 10, 10))
    assert products == ["ieee"]


def test_an_error_that_cannot_be_sent_is_told_by_its_text() -> None:
    for function, text in (
        (fakes.raise_unsendable, "Unsendable: here"),
        (fakes.raise_unreadable, "Unreadable: lost there"),
    ):
        with pytest.raises(RuntimeError, match=text):
            run_apart(function)


def test_processes_that_take_too_long_are_ended() -> None:
    before = time.monotonic()
    with pytest.raises(TimeoutError, match="sleep took too long"):
        run_beside(time.sleep, [(60,), (60,)], 0.5)
    assert time.monotonic() - before < 30
    assert not [each for each in psutil.Process().children(recursive=True) if "spawn_main" in command_of(each)]


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    program = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import fakes
from harness.scheduler.forkserver import run_beside, warm_up
warm_up((), 1)
run_beside(fakes.linger, [(sys.argv[1],), (sys.argv[2],)], 60)
"""
    notes = [tmp_path / "a", tmp_path / "b"]
    command, here = [sys.executable, "-c", program, *map(str, notes)], str(Path(__file__).parent)
    caller = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": here})
    try:
        end = time.monotonic() + 60
        while not all(note.exists() and note.read_text() for note in notes) and time.monotonic() < end:
            time.sleep(0.05)
        found = [psutil.Process(int(note.read_text())) for note in notes]
        caller.send_signal(signal.SIGINT)
        assert caller.wait(30) != 0
        assert psutil.wait_procs(found, timeout=30)[1] == []
    finally:
        caller.kill()


@pytest.mark.parametrize("name", ["timm:resnet18.a1_in1k", "torchvision:resnet18", "open_clip:RN50/openai"])
def test_what_would_be_fetched_is_built_without_its_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a plan asks the network for nothing")

    monkeypatch.setattr("socket.socket.connect", refuse)
    network = untrained(name)
    assert network.image(torch.zeros(1, 3, 8, 8)).shape == (1, network.dim)
    with pytest.raises(ValueError, match="what network it is stands in org/name, which is not here"):
        untrained("timm:hf-hub:org/name")
