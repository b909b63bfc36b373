"""Whether runs fit a worker with what it is granted: otherwise each would wait in the queue and then find no room."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.finding import Finding
from harness.scheduler.slots import most_on_a_gpu, takes_auto
from harness.study.resources import Resources
from harness.text import at_place, quantity

OF_ROOM = ("--gres", "--gpus", "-G", "--cpus-per-", "-c")
"""Options of sbatch after which only Slurm knows what a worker has."""


def misfits(resources: Resources, places: Mapping[str, str]) -> Iterator[Finding]:
    """What no worker of this engine could train, and as caveats what each would leave unused.

    `places`: dotted setting -> where it is written.
    """
    name, slurm = resources.executor, resources.slurm
    if name not in ("slurm", "ray") or (name == "slurm" and any(word.startswith(OF_ROOM) for word in slurm.extra)):
        return
    granted = slurm if name == "slurm" else resources.ray
    gpus, together = granted.gpus, resources.gpus_per_run

    def place(path: str) -> str:
        return at_place(f"resources.{path}", places)

    asked = f"{place(f'{name}.gpus')} is {gpus}"
    if 0 < gpus < together:
        fix = f"ask for {together} or a multiple of it in resources.{name}.gpus, or for fewer GPUs a run"
        yield Finding(
            place("gpus_per_run"), f"a run needs {together} GPUs, and a worker is granted {gpus}: {asked}", fix
        )
        return
    if gpus % together:
        detail = f"{gpus % together} of a worker's {gpus} GPUs would get no run: {asked}, no multiple of {together}"
        yield Finding(place("gpus_per_run"), detail, caveat=True)
    if together > 1 and not gpus:
        detail = f"{together} processes train each run on the processor, as workers are granted no GPU: {asked}"
        yield Finding(place("gpus_per_run"), detail, caveat=True)
    groups = gpus // together
    each_gpu = most_on_a_gpu(resources.runs_per_gpu, groups * together, granted.cpus)
    most = groups * each_gpu if gpus else max(1, granted.cpus // together)
    if resources.slots != "auto" and resources.slots > most:
        each = f" for runs of {together} each" if together > 1 else ""
        what = quantity(gpus, "GPU") if gpus else f"{quantity(granted.cpus, 'core')} and no GPU"
        detail = f"resources.slots = {resources.slots} does not fit a worker of {what}{each}"
        allowed = f"at most {most}{', auto' * takes_auto(places)}"
        yield Finding(place("slots"), detail, f"{allowed}, or ask for more in resources.{name}")
