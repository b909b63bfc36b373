"""A grid on a bad day: processes killed, the server cut, the disk full, bits turned. Nothing is lost, doubled or left.

`python -m pytest -m slow tests/test_chaos.py`; CHAOS_SEED and CHAOS_FAULTS choose another day and a longer one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import Chaos, Grid, small_disk
from harness.runs.folders import RunFolder
from harness.runs.lease import holder
from mirrored import connect, empty_store
from mlflow_process import Server

STUDY = """
study: tiny
data: {resolution: 8}
generator: {z_dim: 16, w_dim: 16, mapping_layers: 2, channel_base: 64, channel_max: 8}
discriminator: {channel_base: 64, channel_max: 8}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide", crop: 0.125, pixel_noise: 0.05}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 32}
train: {batch: 8, kimg: 2.4, lr: 0.005, snapshots: 3}
toggles: [paired_contrast, resnet_guided]
design: {kind: one-at-a-time, include: [origin], seeds: 2}
resources: {slots: 2, retries: 10000}
"""
FAULTS = int(os.environ.get("CHAOS_FAULTS", "200"))
SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000), pytest.mark.filterwarnings("ignore:The ``noload``")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    shutil.copy(empty_store(), place / "server.db")
    made = Server(place)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, RunFolder]:
    """The same grid on a good day: its runs by id."""
    folder = place / "undisturbed"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    grid = Grid(folder, place / "cache", f"sqlite:///{folder}/mlflow.db", place / "undisturbed.log")
    assert grid.ensure().wait(900) == 0, grid.log.read_text()[-2000:]
    return {run.path.name: run for run in grid.runs()}


@pytest.fixture(scope="module")
def disturbed(place: Path, undisturbed: dict[str, RunFolder], server: Server) -> Iterator[Grid]:
    """The grid after its bad day, ended by a last, quiet call."""
    try:
        with small_disk(place / "disk", 256) as disk:
            (disk / "study.yaml").write_text(STUDY)
            grid = Grid(disk, place / "cache", server.uri, place / "disturbed.log")
            chaos = Chaos(grid, server, random.Random(SEED))
            began = time.monotonic()
            torment(grid, chaos)
            assert grid.ensure().wait(900) == 0, grid.log.read_text()[-2000:]
            hits = ", ".join(f"{count} {name}" for name, count in chaos.done.most_common())
            took = f"{time.monotonic() - began:.0f} s, {sum(grid.codes.values()) + 1} calls {dict(grid.codes)}"
            print(f"\nseed {SEED}: {chaos.done.total()} faults in {took}: {hits}")
            yield grid
    except OSError as error:
        pytest.skip(str(error))


def torment(grid: Grid, chaos: Chaos) -> None:
    """Faults, each half a second or so after the last, until there were enough of them.

    Between them the grid is asked for training states, so that it gets further; ended before its time, it begins anew.
    """
    print(f"\nCHAOS_SEED={SEED}")
    while chaos.done.total() < FAULTS:
        process = grid.ensure()
        if chaos.rng.random() < 0.85:  # else anything may strike while it starts
            wait_for_workers(grid)
        time.sleep(chaos.rng.uniform(0.0, 1.0))
        if process.poll() is None and any(is_had_by(run, process.pid) for run in grid.runs()):
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.3)
        if grid.runs() and all((run.path / "result.json").exists() for run in grid.runs()):
            process.wait(120)
            again = chaos.rng.choice(grid.runs()).path
            for name in ("result.json", "status.json", "metrics.jsonl"):
                (again / name).unlink(missing_ok=True)
            shutil.rmtree(again / "checkpoint")
        chaos.strike()


def is_had_by(run: RunFolder, pid: int) -> bool:
    """Whether that scheduler has the run: then it knows what SIGUSR1 means."""
    found = holder(run.path)
    return found is not None and found.pid == pid


def wait_for_workers(grid: Grid) -> None:
    deadline = time.monotonic() + 30
    while not grid.workers() and grid.process and grid.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def last_state(run: RunFolder) -> bytes:
    return max(run.path.glob("checkpoint/[0-9]*.safetensors")).read_bytes()


def points(run: RunFolder) -> list[tuple[int, dict[str, float]]]:
    """Everything logged but times and machine load."""
    machine = ("training/", "system/")
    return [(p.step, {k: v for k, v in p.values.items() if not k.startswith(machine)}) for p in run.points()]


def ended_as_undisturbed(grid: Grid, undisturbed: dict[str, RunFolder]) -> None:
    """Every run is done with the tensors, points and metrics of a good day, in bytes."""
    runs = {run.path.name: run for run in grid.runs()}
    assert runs.keys() == undisturbed.keys()
    for name, run in runs.items():
        good = undisturbed[name]
        assert run.status().state == "done"
        assert last_state(run) == last_state(good)
        assert (run.path / "generator.safetensors").read_bytes() == (good.path / "generator.safetensors").read_bytes()
        assert points(run) == points(good)
        mine, theirs = run.result(), good.result()
        assert mine and theirs and mine.metrics == theirs.metrics


def test_every_run_is_final_with_the_weights_and_points_of_a_good_day(
    disturbed: Grid, undisturbed: dict[str, RunFolder]
) -> None:
    ended_as_undisturbed(disturbed, undisturbed)


def test_mlflow_holds_every_point_once(disturbed: Grid, server: Server) -> None:
    client = connect(server.uri)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    found = {run.data.tags.get("fingerprint"): run for run in client.search_runs([experiment])}
    runs = {run.path.name: run for run in disturbed.runs()}
    assert len(found) == len(client.search_runs([experiment])) == len(runs) + 1
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    for name, run in runs.items():
        expected: Counter[tuple[str, int]] = Counter()
        for point in run.points():
            expected.update((key.removeprefix("metrics/"), round(point.kimg * 1000)) for key in point.values)
        held: Counter[tuple[str, int]] = Counter()
        for key in found[name].data.metrics:
            history = client.get_metric_history(found[name].info.run_id, key)
            held.update((key, metric.step) for metric in history)
        assert held == expected


def test_no_process_and_no_temporary_file_is_left(disturbed: Grid) -> None:
    deadline = time.monotonic() + 60
    while disturbed.left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert disturbed.left() == []
    assert not list(disturbed.folder.glob("runs/*/*/claim"))
    planted = ".status.json.4242-abcdef.tmp"
    assert [path for path in disturbed.folder.rglob(".*.tmp") if path.name != planted] == []
