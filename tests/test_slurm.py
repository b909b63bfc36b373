"""Workers on a real Slurm of two nodes: each thing that can happen to a job there. The workers are stand-ins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.executors.slurm_script import NO_FOLDER, SETUP_FAILED
from harness.study.resources import Resources, SlurmResources
from slurm_cluster import NODES, SlurmCluster
from slurm_jobs import Submitted, calls, counting_programs, environment, events, make_folder, slurm, until_events
from waiting import until

pytestmark = pytest.mark.slurm


@pytest.fixture
def cluster(slurm_of_all: SlurmCluster) -> SlurmCluster:
    return slurm_of_all


@pytest.fixture(autouse=True)
def programs(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of programs that count their calls; the cluster is empty before and after."""
    counted = counting_programs(tmp_path / "programs")
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setenv("PATH", str(counted), prepend=os.pathsep)
    yield counted
    if "slurmctld" in cluster.processes:
        cluster.cancel_all()


def test_a_worker_gets_what_the_study_asks_for(cluster: SlurmCluster, tmp_path: Path, programs: Path) -> None:
    folder = make_folder(tmp_path / "a b%a'c")
    own = ("--nice=7", "--job-name=mine")
    asked = slurm(cpus=2, gpus=1, partition="low", mem="100M", setup=("export NOTED='a b'",), extra=own)
    jobs = Submitted(cluster, folder, asked, 2)
    for worker in range(2):
        until_events(folder, worker, "begin")
    array = jobs.ids[0].partition("_")[0]
    assert jobs.ids == (f"{array}_0", f"{array}_1")
    here = environment(folder, 1)
    assert here["words"] == folder.command("1")[1:] and here["PWD"] == str(folder.path)
    assert here["PYTHONPATH"] == folder.environment["PYTHONPATH"] and here["NOTED"] == "a b"
    assert here["SLURM_CPUS_PER_TASK"] == "2" and here["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    shown = cluster.ask("squeue", "-hrj", array, "-o%i|%j|%k|%P|%m|%y").splitlines()
    study, text = tmp_path / "a b%a'c" / "demo.yaml", "job 1; the index is the worker's number"
    assert sorted(shown)[1] == f"{jobs.ids[1]}|demo.1|harness: study {study}, {text}|low|100M|7"
    states = jobs.executor.look(jobs.ids)
    assert {state.node for state in states.values()} <= {*NODES} and len(calls(programs, "sbatch")) == 1
    # Without B: the script does not get the signal; Slurm takes half a minute to show it, see the slow test below.
    assert " --signal=B:USR2@120 " in (folder.path / "job.sh").read_text()
    assert folder.log(1).read_text().startswith(f"harness: worker 1 on {os.uname().nodename}")
    before = len(calls(programs, "squeue"))
    jobs.executor.look(jobs.ids)
    assert len(calls(programs, "squeue")) == before + 1  # one call for all workers
    jobs.end()
    assert events(folder, 0) == ["begin", "end"]


def test_a_worker_without_gpus_is_granted_none(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    Submitted(cluster, folder, slurm(), 1)
    until_events(folder, 0, "begin")
    assert not {"CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"} & environment(folder, 0).keys()


def test_cancel_asks_for_checkpoints_and_nothing_is_queued_again(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    jobs = Submitted(cluster, folder, slurm(cpus=4), 3)  # the third has to wait
    for worker in range(2):
        until_events(folder, worker, "begin")
    assert [jobs.phase(worker) for worker in range(3)] == ["running", "running", "waiting"]
    until(lambda: jobs.executor.look(jobs.ids)[jobs.ids[2]].reason.startswith("Resources: "), "it waits for nodes")
    jobs.executor.cancel(jobs.ids)
    until(lambda: {jobs.phase(worker) for worker in range(3)} == {"gone"}, "all are gone")
    assert [events(folder, worker) for worker in range(3)] == [["begin", "TERM", "saved"]] * 2 + [[]]
    ends = jobs.executor.look(jobs.ids).values()
    assert {state.reason for state in ends} == {"CANCELLED: it was cancelled"}
    jobs.executor.cancel(jobs.ids)  # once more, and of jobs that Slurm has forgotten: no error
    jobs.executor.cancel(["77777_0"])
    jobs.executor.save(["77777_0"])
    assert jobs.executor.look(["77777_0"]) == {}


def test_asked_for_checkpoints_workers_go_on(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    jobs = Submitted(cluster, folder, slurm(cpus=4), 3)
    for worker in range(2):
        until_events(folder, worker, "begin")
    jobs.executor.save(jobs.ids)
    for worker in range(2):
        until_events(folder, worker, "begin", "USR1")
    jobs.executor.save(jobs.ids)
    until_events(folder, 0, "begin", "USR1", "USR1")
    assert [jobs.phase(worker) for worker in range(3)] == ["running", "running", "waiting"]
    jobs.end()
    assert events(folder, 2) == ["begin", "end"]


def test_the_end_of_its_time_queues_that_worker_alone_again(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    jobs = Submitted(cluster, folder, slurm(), 3)
    for worker in range(3):
        until_events(folder, worker, "begin")
    last = jobs.ids[2]  # of which Slurm's own number is that of the whole array
    cluster.ask("scancel", "--batch", "--signal=USR2", last)  # as --signal=B:USR2 does
    until_events(folder, 2, "begin", "USR2", "saved")
    until(lambda: jobs.phase(2) == "waiting", "it is queued again")
    assert jobs.executor.look(jobs.ids)[last].reason.startswith("BeginTime: for the time of its start, 20")
    until_events(folder, 2, "begin", "USR2", "saved", "begin")
    assert [events(folder, worker) for worker in range(2)] == [["begin"], ["begin"]]
    assert environment(folder, 2)["SLURM_RESTART_COUNT"] == "1"
    log = folder.log(2).read_text()
    assert ", start 1, " in log and "is over, it is queued again" in log and ", start 2, " in log


@pytest.mark.slow
def test_slurm_says_before_the_end_of_its_time(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Slurm looks at times twice a minute, so this takes as long."""
    folder = make_folder(tmp_path)
    Submitted(cluster, folder, slurm(time="1", signal_s=58), 1)
    until(lambda: events(folder, 0) == ["begin", "USR2", "saved", "begin"], "it is asked, and queued again", 100)
    assert "its time was over" not in folder.log(0).read_text()


def test_a_better_job_takes_the_place_and_the_worker_comes_back(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    Submitted(cluster, folder, slurm(cpus=4, partition="low"), 2)
    for worker in range(2):
        until_events(folder, worker, "begin")
    better = cluster.ask("sbatch", "--parsable", "-N1", "-c4", "-o/dev/null", "--wrap=sleep 100").strip()
    until(lambda: "TERM" in events(folder, 0) + events(folder, 1), "one is asked to end")
    worker = 0 if "TERM" in events(folder, 0) else 1
    cluster.ask("scancel", better)
    until_events(folder, worker, "begin", "TERM", "saved", "begin")
    assert events(folder, 1 - worker) == ["begin"]


def test_a_lost_node_costs_no_worker(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    jobs = Submitted(cluster, folder, slurm(), 1)
    until_events(folder, 0, "begin")
    node = jobs.executor.look(jobs.ids)[jobs.ids[0]].node
    cluster.kill_node(node)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        until_events(folder, 0, "begin", "begin")
        assert jobs.executor.look(jobs.ids)[jobs.ids[0]].node == next(name for name in NODES if name != node)
    finally:
        cluster.begin_node(node)
        cluster.until_idle(node)


def test_a_node_that_is_only_out_of_reach_has_a_ghost(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Slurm starts the worker a second time while the first still works: only a lease keeps them apart."""
    folder = make_folder(tmp_path)
    jobs = Submitted(cluster, folder, slurm(), 1)
    until_events(folder, 0, "begin")
    ghost, node = environment(folder, 0)["pid"], jobs.executor.look(jobs.ids)[jobs.ids[0]].node
    cluster.end(node, signal.SIGKILL)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        until_events(folder, 0, "begin", "begin")
        os.kill(ghost, 0)  # it lives
        assert environment(folder, 0)["pid"] != ghost
    finally:
        cluster.kill_jobs(node)
        cluster.begin_node(node)
        cluster.until_idle(node)


def test_a_node_that_does_not_see_the_folder_is_told(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "study")
    jobs = Submitted(cluster, folder, slurm(extra=("--hold",)), 1)
    (tmp_path / "study").rename(tmp_path / "elsewhere")
    cluster.ask("scontrol", "release", jobs.ids[0])
    until(lambda: jobs.phase(0) == "gone", "it ends")
    state = jobs.executor.look(jobs.ids)[jobs.ids[0]]
    assert "it ended before it began" in state.reason and state.reason.startswith("FAILED: ") and state.node in NODES
    assert state.fix == "put the study's folder where every node sees it under the same path"
    script = tmp_path / "elsewhere" / "runs" / "demo" / ".jobs" / "1" / "job.sh"
    alone = subprocess.run(["bash", script], capture_output=True, text=True)  # where only the log can be opened
    assert alone.returncode == NO_FOLDER and "does not see this job's folder" in alone.stderr
    assert not [*(tmp_path / "elsewhere").rglob("events-*")]


def test_a_line_of_setup_that_fails_starts_no_worker(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    jobs = Submitted(cluster, folder, slurm(setup=("[ -d /none ] && echo yes", "no-such-module load", "echo no")), 1)
    until(lambda: jobs.phase(0) == "gone", "it ends")
    assert "a line of resources.slurm.setup has ended with 127" in folder.log(0).read_text()
    assert events(folder, 0) == [] and SETUP_FAILED == 78


def test_what_slurm_tells_a_job_does_not_reach_a_job_submitted_inside(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    script = f"""
import sys
sys.path[:0] = {[*sys.path]}
from pathlib import Path
from slurm_jobs import JobFolder, slurm
folder = JobFolder(Path({str(folder.path)!r}))
folder.note_ids(slurm().submit(folder, 2))
"""
    (tmp_path / "submit.py").write_text(script)
    outer = (
        "--array=5-5",
        "--gres=gpu:1",
        "--ntasks=2",
        "--cpus-per-task=2",
        "--job-name=outer",
        f"--output={tmp_path}/outer.log",
    )
    cluster.ask("sbatch", *outer, f"--wrap=export SLURM_TOLD=1; {sys.executable} {tmp_path}/submit.py")
    for worker in range(2):
        until_events(folder, worker, "begin")
    here = environment(folder, 0)
    assert (here["SLURM_JOB_NAME"], here["SLURM_ARRAY_TASK_ID"], here["SLURM_NTASKS"]) == ("demo.1", "0", "1")
    assert here["SLURM_CPUS_PER_TASK"] == "1" and here["SLURM_ARRAY_TASK_MAX"] == "1"
    assert f"{here['SLURM_ARRAY_JOB_ID']}_0" == folder.read().ids[0]
    assert not {"SLURM_TOLD", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"} & here.keys(), "GPUs of the outer job alone"


def test_a_job_whose_dependency_has_failed_does_not_wait_for_ever(cluster: SlurmCluster, tmp_path: Path) -> None:
    failing = cluster.ask("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 1").strip()
    until(lambda: cluster.ask("squeue", "-htall", "-j", failing, "-o%T").strip() == "FAILED", "it fails")
    jobs = Submitted(cluster, make_folder(tmp_path), slurm(extra=(f"--dependency=afterok:{failing}",)), 1)
    until(lambda: jobs.phase(0) == "gone", "it is gone")


@pytest.mark.parametrize(
    ("asked", "reason", "fix"),
    [
        ({"time": "61"}, "PartitionTimeLimit: it asks for more time", "will wait for ever .*; shorten resources"),
        ({"partition": "closed"}, "PartitionDown: for the partition to be opened again", ""),
        ({"extra": ("--hold",)}, "JobHeldUser: it is held", "`scontrol release` lets it go on"),
        ({"extra": ("--begin=now+100",)}, "BeginTime: ", ""),
    ],
)
def test_why_a_worker_waits(
    cluster: SlurmCluster, tmp_path: Path, asked: dict[str, object], reason: str, fix: str
) -> None:
    jobs = Submitted(cluster, make_folder(tmp_path), slurm(**asked), 1)
    until(lambda: jobs.executor.look(jobs.ids)[jobs.ids[0]].reason.startswith(reason), reason)
    told = jobs.executor.look(jobs.ids)[jobs.ids[0]].fix
    assert bool(told) == bool(fix) and (not fix or fix.split(".*")[-1] in told)


def findings(**asked: object) -> list[str]:
    return [f"{each.subject}: {each.detail}; {each.fix}" for each in slurm(**asked).check() if each.fix]


def test_what_can_be_had_is_examined_before_anything_is_submitted(cluster: SlurmCluster, programs: Path) -> None:
    (whole,) = slurm().check()
    assert whole.detail.endswith("up to 1,001 workers in one job, partitions main (default), low, closed")
    assert findings(partition="lo") == [
        "resources.slurm.partition: no partition 'lo' here; did you mean 'low'? allowed: main, low, closed;"
        " `sinfo` lists them"
    ]
    (placed,) = slurm({"resources.slurm.partition": "site.yaml:3"}, partition="lo").check()[1:]
    assert placed.subject == "site.yaml:3: resources.slurm.partition"
    assert "closed is closed" in findings(partition="closed")[0]
    assert "02:00:00 is more than low gives, 60 min" in findings(partition="low", time="02:00:00")[0]
    assert "1-00:00:00 is more than main gives" in findings(time="1-00:00:00")[0]
    assert "1-00:00:00 is more than main and low give" in findings(partition="low,main", time="1-00:00:00")[0]
    assert "'soon' is no time" in findings(time="soon")[0]
    assert "stopped as soon as it begins" in findings(time="3")[0] and findings(time="3:01") == []
    assert calls(programs, "sbatch") == calls(programs, "squeue") == calls(programs, "sacct") == []


def test_more_workers_than_fit_into_an_array(cluster: SlurmCluster) -> None:
    def told(resources: Resources) -> list[str]:
        slurm_ = slurm()
        slurm_.resources = resources
        return [f"{each.subject}: {each.detail}; {each.fix}" for each in slurm_.check() if each.fix]

    (many,) = told(Resources(workers=1002))
    assert many.startswith(
        "resources.workers: 1,002 workers are more than this Slurm's MaxArraySize allows; ask for at most"
    )
    assert told(Resources(workers=1001, slots=4, slurm=SlurmResources(cpus=4))) == []


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"constraint": "a100"}, "Invalid feature specification\nsite.yaml:7: resources.slurm.constraint: a100"),
        ({"gpus": 9}, "node configuration is not available\nresources.slurm.gpus: 9"),
        ({"extra": ("--no-such",)}, "unrecognized option '--no-such'"),
        ({"partition": "none"}, "resources.slurm.partition: none"),
    ],
)
def test_a_refusal_names_the_setting_and_what_there_is(tmp_path: Path, asked: dict[str, object], wanted: str) -> None:
    folder = make_folder(tmp_path)
    with pytest.raises(HarnessError, match="sbatch refused the workers") as raised:
        slurm({"resources.slurm.constraint": "site.yaml:7"}, **asked).submit(folder, 1)
    assert wanted in str(raised.value)
    assert "main (nodes of up to 4 cores, 2 GPUs, 4,000 MB), low" in str(raised.value)


def test_no_slurm_and_no_controller(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path)
    jobs = Submitted(cluster, folder, slurm(), 1)
    until_events(folder, 0, "begin")
    cluster.end("slurmctld")
    began = time.monotonic()
    (finding,) = slurm().check()
    assert "Slurm's controller does not answer: Slurmctld(primary) at" in finding.detail and finding.fix
    for ask in (jobs.executor.look, jobs.executor.cancel, jobs.executor.save):
        with pytest.raises(HarnessError, match="controller does not answer"):
            ask(jobs.ids)
    assert time.monotonic() - began < 5  # each other program would take 9 s or longer
    cluster.begin_controller()
    until(lambda: "UP" in cluster.ask("scontrol", "ping"), "the controller is back")
    until(lambda: jobs.phase(0) == "running", "the worker has gone on")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(Path(shutil.which("env") or "").parent / "none"))
        (finding,) = slurm().check()
        assert finding.detail == "this machine has no sbatch" and "--executor local" in finding.fix
        with pytest.raises(HarnessError, match="sbatch: not on this machine"):
            slurm().submit(folder, 1)
    jobs.end()
