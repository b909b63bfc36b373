"""Workers on a real Ray cluster: what is refused before anything is submitted, and what becomes of a worker.

A small program stands in for `harness work`, so that a worker takes no time to start; test_ray_grid has the real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from fakes import make_run
from harness.code.engine import Engine
from harness.errors import HarnessError
from harness.executors.executor import GONE, WorkerState
from harness.executors.job import AskedStudy, Job, JobRuns, make_job
from harness.executors.ray import Node, Ray, fits, too_much
from harness.study.resources import RayResources, Resources
from ray_cluster import ADDRESS, RayCluster
from waiting import until

NODES = (
    Node("1", "head", {"CPU": 4, "node:10.0.0.1": 1}),
    Node("2", "a", {"CPU": 8, "GPU": 2, "large": 1}),
)


def problems(nodes: tuple[Node, ...] = NODES, **wanted: object) -> dict[str, str]:
    return dict(too_much(nodes, RayResources(**wanted)))


def test_a_worker_that_fits_on_no_node_is_named_with_the_most_that_there_is() -> None:
    assert problems(cpus=8, gpus=2) == problems(cpus=1, resources={"large": 0.5}) == {}
    assert problems(gpus=4) == {"resources.ray.gpus": "no node has 4 GPUs; the most that one has is 2"}
    assert problems(cpus=9) == {"resources.ray.cpus": "no node has 9 CPUs; the most that one has is 8"}
    wrong = problems(cpus=9, resources={"larg": 1})
    assert wrong["resources.ray.resources"] == "no node has 1 larg; the most that one has is 0; did you mean 'large'?"
    assert len(wrong) == 2
    apart = (Node("1", "a", {"CPU": 4, "GPU": 1}), Node("2", "b", {"CPU": 8}))
    assert not any(fits(node, RayResources(cpus=8, gpus=1)) for node in apart)
    assert problems(apart, cpus=8, gpus=1) == {
        "resources.ray": "no node has all of 8 CPU, 1 GPU, though some node has each"
    }
    assert "no node has 1 CPU;" in problems((), cpus=1)["resources.ray.cpus"]


def refusal(resources: RayResources, places: Mapping[str, str] | None = None) -> str:
    return "\n".join(f"{it.subject}: {it.detail}; {it.fix}" for it in Ray(resources, places or {}).check() if it.fix)


def test_without_ray_this_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("harness.executors.ray.version", version)
    assert refusal(RayResources()) == "ray: is not installed; pip install '.[ray]' in the checkout of the harness"


@pytest.mark.ray
@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:10001", "head", "head:", ":6379", "1.2.3.4:6379/x"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    text = refusal(RayResources(address=address), {"resources.ray.address": "s.yaml:7"})
    assert text.startswith(f"s.yaml:7: resources.ray.address: {address!r} is no address; write HOST:PORT of the head")


@pytest.mark.ray
def test_a_cluster_has_to_be_named_and_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert refusal(RayResources()).startswith("resources.ray.address: no cluster is named; set it, or RAY_ADDRESS")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert refusal(RayResources()).startswith("RAY_ADDRESS: nobody listens at 127.0.0.1:1 (")
    text = refusal(RayResources(address="[::1]:99999"), {"resources.ray.address": "--set"})
    assert text.startswith("--set: resources.ray.address: nobody listens at [::1]:99999 (")


@pytest.fixture
def cluster(ray_of_all: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    for name, value in ray_of_all.environment.items():
        monkeypatch.setenv(name, value)
    return ray_of_all


@pytest.mark.ray
def test_a_cluster_that_answers_and_has_room(cluster: RayCluster) -> None:
    findings = Ray(RayResources(address=ADDRESS, cpus=2, gpus=2, resources={"second": 1}), {}).check()
    assert [it.detail for it in findings] == [
        f"version {metadata.version('ray')}",
        f"{ADDRESS}, a cluster of 2 nodes",
    ]
    assert not any(it.fix for it in findings)


@pytest.mark.ray
def test_more_gpus_than_a_node_has_are_refused(cluster: RayCluster) -> None:
    text = refusal(RayResources(address=ADDRESS, gpus=4), {"resources.ray.gpus": "s.yaml:9"})
    most = "no node has 4 GPUs; the most that one has is 2; ask for what one node has"
    assert text == f"s.yaml:9: resources.ray.gpus: {most}"


@pytest.mark.ray
@pytest.mark.parametrize(
    ("token", "mode"),
    [
        ("f" * 64, "token"),
        (None, None),
        pytest.param(None, "token", marks=pytest.mark.slow),
        pytest.param("f" * 64, None, marks=pytest.mark.slow),
    ],
)
def test_a_cluster_that_wants_a_token(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str | None, mode: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("RAY_AUTH_TOKEN", token), ("RAY_AUTH_MODE", mode)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    assert refusal(RayResources(address=ADDRESS)) == (
        f"resources.ray.address: the cluster at {ADDRESS} wants a token, and refuses the one it got or got none; put "
        "the cluster's token into ~/.ray/auth_token or RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token"
    )


STAND_IN = """\
#!/bin/bash
# As `python -P -m harness work JOB --worker K ...`: notes each start, and ends with a SIGTERM or as the job says.
job=$5 number=$7
given="CUDA=${CUDA_VISIBLE_DEVICES-unset} OMP=${OMP_NUM_THREADS-unset} $HARNESS_CACHE $PYTHONPATH"
echo "start $$ $* $given" >>$job/events-$number
trap 'echo term >>$job/events-$number; sleep 0.5; echo saved >>$job/events-$number; exit 143' TERM
until [ -e $job/end-$number ]; do sleep 0.1; done
exit $(cat $job/end-$number)
"""


class Submitted:
    """A job whose workers are stand-ins, and its engine."""

    def __init__(self, root: Path, workers: int = 1, **wanted: object) -> None:
        self.root = root
        stand_in = root / "python"
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        (root / "s.yaml").write_text("")
        self.wanted = RayResources(address=ADDRESS, **wanted)
        asked = AskedStudy(str(root / "s.yaml"), None, (), ())
        job = Job(asked, Resources(executor="ray", ray=self.wanted), workers, Engine("t" * 12, "m" * 12), str(stand_in))
        self.folder = make_job(root, job, JobRuns((make_run("origin"),), {}), {})
        self.engine = Ray(self.wanted, {})
        self.ids: tuple[str, ...] = ()

    def submit(self) -> None:
        self.ids = self.engine.submit(self.folder, self.folder.read().workers)

    def end(self, number: int, code: int) -> None:
        (self.folder.path / f"end-{number}").write_text(str(code))

    def events(self, number: int = 0) -> list[str]:
        path = self.folder.path / f"events-{number}"
        return path.read_text().splitlines() if path.exists() else []

    def starts(self, number: int = 0) -> list[str]:
        return [line for line in self.events(number) if line.startswith("start")]

    def pid(self, number: int = 0) -> int:
        return int(self.starts(number)[-1].split()[1])

    def states(self) -> list[WorkerState]:
        return [self.engine.look(self.ids)[each] for each in self.ids]

    def cancel(self) -> None:
        self.engine.cancel(self.ids)
        until(lambda: all(state.phase == "gone" for state in self.states()), "all are gone", 60)

    def until_start(self, count: int = 1, number: int = 0) -> None:
        until(lambda: len(self.starts(number)) >= count, f"start {count} of worker {number}")

    def until_state(self, phase: str, number: int = 0) -> WorkerState:
        until(lambda: self.states()[number].phase == phase, f"worker {number} is {phase}")
        return self.states()[number]


@pytest.fixture
def submitted(cluster: RayCluster, tmp_path: Path) -> Iterator[Submitted]:
    it = Submitted(tmp_path)
    yield it
    it.cancel()


@pytest.mark.ray
def test_a_worker_runs_on_what_it_was_granted_until_its_own_end(
    submitted: Submitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    submitted.submit()
    submitted.until_start()
    (start,) = submitted.starts()
    job, token = submitted.folder, submitted.folder.read().token
    assert f"-P -m harness work {job.path} --worker 0 --token {token} --cores 1 CUDA= OMP=unset" in start
    assert start.split()[-1].split(":")[0] == str(job.code)
    assert submitted.until_state("running").node in ("head", "second")
    submitted.end(0, 3)
    assert submitted.until_state("gone") == GONE
    until(lambda: submitted.engine._driver and submitted.engine._driver.poll() == 0, "the driver ends with its workers")
    assert len(submitted.starts()) == 1


@pytest.mark.ray
def test_gpus_are_those_that_ray_grants_and_others_wait(cluster: RayCluster, tmp_path: Path) -> None:
    it = Submitted(tmp_path, 3, gpus=1, cpus=1)
    it.submit()
    try:
        until(lambda: [state.phase for state in it.states()].count("running") == 2, "two of three run")
        # Ray calls a task running a little before the worker has said what it was granted.
        until(lambda: sum(bool(it.starts(k)) for k in range(3)) == 2, "two of three have started")
        devices = {line.split("CUDA=")[1].split()[0] for k in range(3) for line in it.starts(k)}
        assert devices == {"0", "1"}
        (waits,) = [state for state in it.states() if state.phase == "waiting"]
        assert waits.reason == "until cores and GPUs are free"
        free = next(k for k in range(3) if it.starts(k))
        it.end(free, 0)
        until(lambda: all(it.starts(k) for k in range(3)), "the third runs")
    finally:
        it.cancel()
    assert it.states() == [GONE] * 3
    assert [line for k in range(3) for line in it.events(k)].count("saved") == 2


@pytest.mark.ray
def test_cancel_is_a_sigterm_and_what_waits_never_starts(cluster: RayCluster, tmp_path: Path) -> None:
    it = Submitted(tmp_path, 2, resources={"second": 1})
    it.submit()
    until(lambda: any(state.phase == "running" for state in it.states()), "one runs")
    it.cancel()
    assert sorted(event.split()[0] for k in (0, 1) for event in it.events(k)) == ["saved", "start", "term"]
    assert it.states() == [GONE, GONE] and it.folder.is_cancelled


@pytest.mark.ray
def test_save_is_asked_for_in_the_folder(submitted: Submitted) -> None:
    submitted.submit()
    submitted.engine.save(submitted.ids)
    assert submitted.folder.save_asked_at() > 0


@pytest.mark.ray
def test_a_worker_that_is_killed_starts_again_but_not_for_ever(submitted: Submitted, cluster: RayCluster) -> None:
    submitted.submit()
    submitted.until_start()
    os.kill(submitted.pid(), signal.SIGKILL)  # such as by the system, for memory
    submitted.until_start(2)
    parent = psutil.Process(submitted.pid()).parent()
    assert parent is not None
    parent.kill()  # Ray's own process, in which the task runs
    submitted.until_start(3)
    assert "term" in submitted.events(), "what Ray's process had started heard of its death"
    os.kill(submitted.pid(), signal.SIGKILL)
    assert submitted.until_state("gone").reason == "lost 3 times, last as its process was ended by SIGKILL"


@pytest.mark.ray
@pytest.mark.parametrize("code", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_worker_that_ends_by_an_error_of_its_own_does_not_start_again(submitted: Submitted, code: int) -> None:
    submitted.submit()
    submitted.end(0, code)
    submitted.until_start()
    submitted.until_state("gone")
    assert len(submitted.starts()) == 1


CALLER = """
import sys, time
from pathlib import Path
from harness.executors.job import JobFolder
from harness.executors.ray import Ray
job = JobFolder(Path(sys.argv[1]))
engine = Ray(job.read().resources.ray, {})
ids = engine.submit(job, 1)
print(*ids, flush=True)
while True:
    engine.look(ids)
    time.sleep(0.2)
"""


@pytest.mark.ray
@pytest.mark.parametrize("who", ["caller", "driver"])
def test_workers_do_not_outlive_the_call_nor_its_connection(submitted: Submitted, who: str) -> None:
    words = [sys.executable, "-c", CALLER, str(submitted.folder.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout
        submitted.ids = (caller.stdout.readline().strip(),)
        submitted.until_start()
        assert submitted.until_state("running"), "whoever asks may know"
        (driver,) = psutil.Process(caller.pid).children()
        try:
            (driver if who == "driver" else caller).send_signal(signal.SIGKILL)
            until(lambda: not psutil.pid_exists(submitted.pid()), "the worker has ended", 20)
            state = submitted.until_state("gone")
        finally:
            caller.kill()
    assert not submitted.folder.is_cancelled, "what it leaves is done by the next call"
    if who == "driver":  # Ray kills the worker, whose runs notice that and write checkpoints by themselves
        assert state.reason == f"the connection to Ray has ended, see {submitted.folder.path / 'ray.log'}"
    else:
        assert "saved" in submitted.events()


@pytest.mark.ray
def test_nodes_that_do_not_see_the_folder_are_counted_and_named(cluster: RayCluster) -> None:
    it = Submitted(cluster.hidden)
    with pytest.raises(HarnessError) as refused:
        it.submit()
    assert str(refused.value) == (
        f"1 of 2 nodes does not see {cluster.hidden} (second); put the study on a disk that all nodes share, under the "
        "same path"
    )
    assert not it.starts() and not (it.folder.path / "claim").exists()


@pytest.mark.ray
def test_nodes_without_this_python_are_counted_and_named(submitted: Submitted) -> None:
    submitted.folder.write(replace(submitted.folder.read(), python="/no/python"))
    with pytest.raises(HarnessError, match=r"2 of 2 nodes do not have /no/python \(head and second\); inst"):
        submitted.submit()


@pytest.mark.ray
def test_a_worker_whose_node_is_lost_goes_on_on_another(cluster: RayCluster, tmp_path: Path) -> None:
    it = Submitted(tmp_path, 2)
    it.submit()
    try:
        until(lambda: all(state.phase == "running" for state in it.states()), "both run")
        lost = [number for number, state in enumerate(it.states()) if state.node == "second"]
        for number in {0, 1} - set(lost):
            it.end(number, 0)
        until(lambda: [state.phase for state in it.states()].count("gone") == 2 - len(lost), "the head is free")
        cluster.kill_node("second")
        for number in lost:
            until(lambda number=number: "NodeDied" in it.states()[number].reason or it.starts(number)[1:], "it is told")
        until(lambda: any(it.starts(number)[1:] for number in lost), "one starts again")
        until(lambda: "head" in {state.node for state in it.states()}, "it runs on the head")
    finally:
        it.cancel()
