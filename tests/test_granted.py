"""What a worker trains on: what its queue has granted to it, and nothing else of the machine."""

from __future__ import annotations

import os

import pytest

from harness.code.engine import Engine
from harness.executors.job import AskedStudy, Job
from harness.grid.work import GRANTED_GPUS, _slots
from harness.scheduler import slots
from harness.scheduler.gpus import Gpu
from harness.study.resources import Resources

TWO = (Gpu("GPU-aaaa"), Gpu("GPU-bbbb"))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 cores and two GPUs, outside of any queue."""
    monkeypatch.setattr(slots, "core_count", lambda: 8)
    monkeypatch.setattr(slots, "listed_gpus", lambda: TWO)
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", *GRANTED_GPUS):
        monkeypatch.setenv(name, "")  # so that what a worker sets is taken back, too
        monkeypatch.delenv(name)


def devices(monkeypatch: pytest.MonkeyPatch, cores: int | None = None, **told: str) -> list[tuple[str, int]]:
    """(device, threads) of each slot, for a worker that is told this by variables."""
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    job = Job(AskedStudy("s.yaml", None, (), ()), Resources(slots="auto"), 1, Engine("t", "m"))
    return [(slot.device, slot.threads) for slot in _slots(job, cores)]


def test_outside_of_a_queue_a_worker_has_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices(monkeypatch) == [("GPU-aaaa", 4), ("GPU-bbbb", 4)]


def test_a_job_of_slurm_without_gpus_trains_on_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm leaves CUDA_VISIBLE_DEVICES unset there, which means every GPU to CUDA."""
    assert devices(monkeypatch, SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="3") == [("cpu", 1)] * 3
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "", "nor does a run see one"


def test_cores_are_those_that_slurm_or_the_call_has_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3"}
    assert devices(monkeypatch, 2, **slurm) == [("cpu", 1)] * 2
    assert devices(monkeypatch, **{**slurm, "SLURM_CPUS_PER_TASK": "64"}) == [("cpu", 1)] * 8
    monkeypatch.delenv("SLURM_JOB_ID")
    assert len(devices(monkeypatch, SLURM_CPUS_PER_TASK="3")) == 8, "left over from a job that is no more"


@pytest.mark.parametrize("name", [*GRANTED_GPUS, "CUDA_VISIBLE_DEVICES"])
def test_granted_gpus_are_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    told = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "CUDA_VISIBLE_DEVICES": "1", name: "1"}
    assert devices(monkeypatch, **told) == [("1", 2)]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if name in GRANTED_GPUS:  # where Slurm does not set the other one, such as with cgroups alone
        assert [device for device, _ in devices(monkeypatch, SLURM_JOB_ID="7", **{name: "1"})] == [
            "GPU-aaaa",
            "GPU-bbbb",
        ]
