"""Grids on a real Slurm and a real Ray on a bad day: workers, runs, calls, nodes and controllers are lost.

`python -m pytest -m slow -s tests/test_cluster_chaos.py`; CHAOS_SEED and CHAOS_FAULTS choose another day and a longer
one. One grid follows the other until there were enough faults, and each has to end as on a good day.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster_chaos import Faults, GridElsewhere, RayFaults, SlurmFaults, Watcher
from harness.runs.folders import RunFolder
from ray_cluster import ADDRESS, ray_cluster
from slurm_cluster import NODES, slurm_cluster
from test_chaos import STUDY, ended_as_undisturbed
from waiting import until

SIX_RUNS = STUDY.replace("kimg: 2.4", "kimg: 0.4").replace("slots: 2", "slots: 1")
ON_SLURM = 'executor: slurm, workers: 2, slurm: {partition: low, cpus: 1, extra: ["--exclusive"], time: "00:30:00"}'
ON_RAY = f'executor: ray, workers: 2, ray: {{address: "{ADDRESS}"}}'
FAULTS = int(os.environ.get("CHAOS_FAULTS", "50"))
SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))
TOGETHER_S = 2.0
"""An orphan may see only after a moment that its worker is dead and that another has its run; it writes nothing."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, RunFolder]:
    """The same grid on a good day, without an engine: its runs by id.

    Each run has one thread, as on the engines: sums are rounded otherwise where several share the work.
    """
    folder = place / "undisturbed"
    folder.mkdir()
    (folder / "study.yaml").write_text(SIX_RUNS.replace("slots: 1", "slots: auto"))
    grid = GridElsewhere(folder, place / "cache", place / "undisturbed.log", {})
    assert grid.ensure().wait(900) == 0, grid.log.read_text()[-2000:]
    return {run.path.name: run for run in grid.runs()}


@pytest.mark.slurm
def test_a_grid_on_slurm_ends_as_on_a_good_day(place: Path, undisturbed: dict[str, RunFolder]) -> None:
    with slurm_cluster(place / "slurm", requeue_s=5) as cluster:
        conf = {"SLURM_CONF": cluster.environment["SLURM_CONF"]}

        def faults(grid: GridElsewhere, rng: random.Random) -> Faults:
            return SlurmFaults(grid, rng, cluster)

        for grid in tormented(place, "slurm", ON_SLURM, conf, faults):
            until(lambda: not cluster.ask("squeue", "-h").strip(), "Slurm has no job", 60)
            cluster.ask("scontrol", "update", f"nodename={','.join(NODES)}", "state=resume")
            cluster.until_idle(*NODES)
            ended_as_undisturbed(grid, undisturbed)
            left_nothing(grid)


@pytest.mark.ray
def test_a_grid_on_ray_ends_as_on_a_good_day(place: Path, undisturbed: dict[str, RunFolder]) -> None:
    with ray_cluster(place / "ray") as cluster, cluster.entered():

        def faults(grid: GridElsewhere, rng: random.Random) -> Faults:
            return RayFaults(grid, rng, cluster)

        for grid in tormented(place, "ray", ON_RAY, {**cluster.environment}, faults):
            ended_as_undisturbed(grid, undisturbed)
            left_nothing(grid)


def tormented(
    place: Path,
    name: str,
    resources: str,
    variables: dict[str, str],
    draw: Callable[[GridElsewhere, random.Random], Faults],
) -> Iterator[GridElsewhere]:
    """Grids after their bad day, until there were FAULTS faults."""
    rng, total, number = random.Random(f"{SEED} {name}"), 0, 0
    print(f"\nCHAOS_SEED={SEED} CHAOS_FAULTS={FAULTS} {name}")
    while total < FAULTS:
        number += 1
        folder = place / f"{name}-{number}"
        folder.mkdir()
        (folder / "study.yaml").write_text(SIX_RUNS)
        (folder / "site.yaml").write_text(f"resources: {{{resources}}}\n")
        variables["HARNESS_SITE"] = str(folder / "site.yaml")
        grid = GridElsewhere(folder, place / "cache", place / f"{name}-{number}.log", variables)
        faults, watcher, began = draw(grid, rng), Watcher(folder), time.monotonic()
        watcher.start()
        try:
            torment(grid, faults, FAULTS - total)
            finish(grid)
        finally:
            faults.mend()
            watcher.ends.set()
            watcher.join()
        total += faults.done.total()
        jobs = len([*folder.glob("runs/*/.jobs/*")])
        tried = {run.path.name: len(attempts(run)) for run in grid.runs()}
        print(
            f"{name} grid {number}: {faults.done.total()} faults in {time.monotonic() - began:.0f} s, {jobs} jobs, "
            f"calls ended {dict(grid.codes)}, attempts {tried}\n  {dict(faults.done.most_common())}\n"
            f"  together {dict(watcher.together)}",
            flush=True,
        )
        once(grid, watcher)
        yield grid


def torment(grid: GridElsewhere, faults: Faults, most: int) -> None:
    """Faults, each a moment after the last, until there were enough or the grid has ended."""
    while faults.done.total() < most and not grid.is_done:
        grid.ensure()
        if faults.rng.random() < 0.8:  # else anything may strike while something starts
            deadline = time.monotonic() + 20
            while not grid.workers() and not grid.is_done and time.monotonic() < deadline:
                grid.ensure()
                faults.mend(time.monotonic())
                time.sleep(0.1)
        time.sleep(faults.rng.uniform(0.0, 3.0))
        faults.strike()
    faults.mend()


def finish(grid: GridElsewhere) -> None:
    """Asked for again until it is done, in quiet."""
    for _ in range(10):
        grid.ensure().wait(900)
        if grid.process and grid.process.returncode == 0:
            return
    raise AssertionError(f"it does not end: {grid.log.read_text()[-3000:]}")


def once(grid: GridElsewhere, watcher: Watcher) -> None:
    """Each run had a result once, and no two processes at a time; no process is left, and no call has crashed."""
    runs = grid.runs()
    assert {run.path.name: len(watcher.results[run.path.name]) for run in runs} == {run.path.name: 1 for run in runs}
    assert {key: seconds for key, seconds in watcher.together.items() if seconds > TOGETHER_S} == {}
    for run in runs:
        assert (counted := attempts(run)) == sorted({*counted}), run.path.name
    # -10: SIGUSR1 before Python had begun; 2: no answer from a controller that was away.
    assert grid.codes.keys() <= {0, 2, 3, 130, 143, -9, -2, -10, -15}, grid.codes
    until(lambda: not grid.left(), f"no process is left: {grid.left()}", 60)
    crashed = [path for path in grid.logs() if "Traceback" in path.read_text(errors="replace")]
    assert crashed == [], "\n".join(path.read_text(errors="replace")[-3000:] for path in crashed)


def attempts(run: RunFolder) -> list[int]:
    """The numbers of its attempts, as its log has them in order."""
    lines = (run.path / "log.txt").read_text(errors="replace").splitlines()
    return [int(line.split()[2]) for line in lines if line.startswith("--- attempt ")]


def left_nothing(grid: GridElsewhere) -> None:
    assert (grid.folder / "reports" / "tiny" / "report.md").exists()
    assert not [*grid.folder.glob("runs/*/*/claim")] and not [*grid.folder.glob("runs/*/*/.*.tmp")]
