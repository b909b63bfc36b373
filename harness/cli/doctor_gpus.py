"""What the doctor says of each GPU: its memory and modes, how many runs of a study share it, and how."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec

from harness.errors import HarnessError
from harness.finding import Finding
from harness.scheduler.gpus import Card, Gpu, card_of, cards, is_index, visible_gpus
from harness.scheduler.memory import GpuMemory, held_before
from harness.scheduler.mps import running_daemon, unavailable
from harness.scheduler.slots import find_slots
from harness.study.plan import make_plan
from harness.study.resources import Resources
from harness.study.schema import Study


def gpu_findings(study: Study | None, listed: Sequence[Gpu]) -> Iterator[Finding]:
    """Of every GPU that nvidia-smi or the driver lists, whether runs may use it or not."""
    states = cards()
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible_gpus(inherited, listed)
    may_be_any = any(map(is_index, devices))
    for gpu in listed:
        for name in gpu.instances or (gpu.uuid,):
            if may_be_any or name in devices:
                yield _state(name, gpu, states)
            else:
                yield Finding(f"GPU {name}", f"{gpu.name}: left out, as CUDA_VISIBLE_DEVICES is {inherited!r}")
    if devices:
        yield _sharing(study)
        yield _kernels()


def _kernels() -> Finding:
    """Whether Triton can make kernels of our own, as far as that can be told without a GPU."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
    slower = "a step takes several times as long"
    if find_spec("triton") is None:
        return Finding("kernels", f"Triton is not installed, {slower}: pip install triton")
    if compiler is None:
        return Finding("kernels", f"Triton needs a C compiler, {slower} without: apt-get install gcc")
    return Finding("kernels", f"of our own, made by Triton {version('triton')} and {compiler}")


def _state(name: str, gpu: Gpu, states: Mapping[str, Card]) -> Finding:
    """Its memory, and the modes in which it takes no run."""
    card = card_of(name, states)
    if card is None:
        return Finding(f"GPU {name}", f"{gpu.name}, of whose memory nvidia-smi tells nothing")
    mode = card.compute_mode or "not told"
    part = "an instance of " if gpu.instances else ""
    text = f"{part}{gpu.name}, {card.free_mib / 1024:.1f} of {card.total_mib / 1024:.1f} GiB free, compute mode {mode}"
    fix = ""
    if card.compute_mode == "Prohibited":
        fix = f"its compute mode lets no process use it: nvidia-smi -i {gpu.uuid} -c DEFAULT, or leave it out by UUID"
    if card.mig == "Enabled" and not gpu.instances:
        fix = "MIG is on and no instance of it is made, so that no process can use it: nvidia-smi mig -cgi, or MIG off"
    return Finding(f"GPU {name}", f"{text}, MIG {card.mig.lower() if card.mig else 'not told'}", fix)


def _sharing(study: Study | None) -> Finding:
    """How many runs share a GPU and why, and whether by MPS or in turns."""
    resources = study.resources if study else Resources()
    try:
        written = study.places if study else {}
        slots = find_slots(resources.slots, resources.runs_per_gpu, resources.gpus_per_run, written=written)
    except HarnessError as error:  # a worker elsewhere may have room for them
        is_here = resources.executor == "local"
        return Finding("runs on a GPU", "none can be trained here as asked for", str(error) if is_here else "")
    counts = Counter(slot.device for slot in slots)
    devices, most = tuple(counts), max(counts.values())
    memory, cells = _needs(study) if study is not None else (GpuMemory(), [])
    states = cards()
    if resources.runs_per_gpu == "auto":
        text = memory.in_words(cells, ",".join(devices), most)
    else:
        fitting = memory.fitting(cells, card_of(",".join(devices), states))
        known = f"{fitting} of this study would fit" if fitting else "how many would fit shows once one has trained"
        text = f"{most} a GPU (resources.{'runs_per_gpu' if resources.slots == 'auto' else 'slots'}); {known}"
    if most == 1:
        return Finding("runs on a GPU", f"{text}; each has its GPU to itself")
    is_exclusive = any(card is not None and card.is_exclusive for card in (card_of(it, states) for it in devices))
    turns = "one at a time, as the compute mode lets one process use a GPU" if is_exclusive else "in turns"
    if resources.mps == "off":
        return Finding("runs on a GPU", f"{text}; {turns} (resources.mps is off)")
    how = running_daemon() or unavailable(devices) or "by MPS, which is started for them"
    return Finding("runs on a GPU", f"{text}; {how}{f'; {turns} without it' if is_exclusive else ''}")


def _needs(study: Study) -> tuple[GpuMemory, list[str]]:
    """What runs of the study are known to need, and its cells; nothing where no plan can be made, which others tell."""
    try:
        plan = make_plan(study)
    except HarnessError:
        return GpuMemory(), []
    return GpuMemory(held_before(study.root, plan.runs, study.resources.gpus_per_run)), [it.name for it in plan.cells]
