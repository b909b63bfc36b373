"""How runs are executed: on this machine, or by an engine that starts workers elsewhere. No part of a run's id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge

from harness.models.objective import Count

ExecutorName = Literal["local", "folder", "slurm", "ray"]


@dataclass(frozen=True, kw_only=True)
class SlurmResources:
    """What `sbatch` is asked for, for each worker; null leaves a choice to Slurm."""

    partition: str | None = None
    """Where workers wait; `sinfo` lists the names."""
    account: str | None = None
    """Who pays for the time."""
    time: str | None = None
    """The longest time of one worker, as Slurm writes it: "04:00:00". At its end the worker is queued again."""
    gpus: Annotated[int, Ge(0)] = 0
    """GPUs of a worker; 0: it trains on the processor."""
    cpus: Count = 1
    """Cores of a worker."""
    mem: str | None = None
    """Memory of a worker, such as 32G."""
    constraint: str | None = None
    """Features that a node must have, such as a100."""
    qos: str | None = None
    """Quality of service."""
    signal_s: Count = 120
    """Seconds before the end of `time` at which a worker writes checkpoints and ends."""
    setup: tuple[str, ...] = ()
    """Lines of shell that a worker runs first, such as "module load cuda"."""
    extra: tuple[str, ...] = ()
    """More options for `sbatch`, such as --exclude=node7; not those that the harness sets, such as --output."""


@dataclass(frozen=True, kw_only=True)
class RayResources:
    """What a worker asks of a running Ray cluster, which is neither started nor stopped."""

    address: str | None = None
    """HOST:PORT of the cluster; null: RAY_ADDRESS."""
    cpus: Count = 1
    """Cores of a worker."""
    gpus: Annotated[int, Ge(0)] = 0
    """GPUs of a worker; 0: it trains on the processor."""
    resources: dict[str, float] = field(default_factory=dict)
    """Name -> amount of the cluster's own resources that a worker takes: a whole number, or a part of 1."""
    retries: Annotated[int, Ge(0)] = 2
    """How often a worker that was lost, alone or with its node, is started again."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How runs are executed. A site file may hold these values for all studies of a machine."""

    executor: ExecutorName = "local"
    """Where runs train: on this machine (local); in workers that Slurm or Ray starts (slurm, ray); or in workers that
    you start on any machine that sees the study's folder (folder)."""
    workers: Count = 1
    """How many workers an executor other than local is asked for."""
    slots: Literal["auto"] | Count = "auto"
    """Runs at the same time, of each worker; auto: one for each GPU (times runs_per_gpu), else as many as the cores
    carry."""
    runs_per_gpu: Literal["auto"] | Count = 1
    """Runs that share a GPU; auto: as many as its memory holds, by what runs have shown that they need, 8 at most. They
    slow each other down, so that times of runs cannot be compared any more; results are the same."""
    mps: Literal["auto", "off"] = "auto"
    """How runs share a GPU; auto: at the same time, by a daemon of NVIDIA's MPS that is started for them where that can
    be done; else, and with off, in turns."""
    gpus_per_run: Count = 1
    """GPUs that train one run together; its result is the same as on one."""
    retries: Annotated[int, Ge(0)] = 1
    """How often a run that failed is started again, from its last checkpoint."""
    slurm: SlurmResources = field(default_factory=SlurmResources)
    """For the executor slurm."""
    ray: RayResources = field(default_factory=RayResources)
    """For the executor ray."""

    @property
    def least_per_gpu(self) -> int:
        """Runs that share a GPU for certain, by which a plan counts: for how many there is memory shows in training."""
        return 1 if self.runs_per_gpu == "auto" else self.runs_per_gpu
