"""What a run costs: time, memory, parameters and arithmetic, and the room that its files will take."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.data import features
from harness.data.features import load_image
from harness.frozen_networks import FrozenNetwork, frozen_networks
from harness.ideas.load import OwnIdeas, load_ideas
from harness.models.build import Networks, OwnModules, Shapes, construct
from harness.models.objective import Kind
from harness.models.precision import rounded_products, set_products
from harness.runs.machine import Machine, this_machine
from harness.runs.record import Point, Run
from harness.training.checkpoint import layout, projection_shapes
from harness.training.stand_in import width_of

if TYPE_CHECKING:
    from harness.training.trainer import Trainer

SECONDS_PER_KIMG = "training/s_per_kimg"
TRAINING_PEAK = "system/training_peak_megabytes"
MEASURING_PEAK = "system/measuring_peak_megabytes"
_HEADER = len('"":{"dtype":"F32","shape":,"data_offsets":[1000000,1000000]},')
"""Bytes in a safetensors header for one tensor, beside its name and its shape."""


def hardware(device: str, count: int) -> Machine:
    """This machine, with the device that a run has here, `cpu` or `cuda`, so many of it."""
    here = this_machine(torch.cuda.get_device_name() if device == "cuda" else "", count)
    threads = 0 if device == "cuda" else torch.get_num_threads()
    built = str(torch.__version__)  # with what it was built for
    return replace(here, versions={**here.versions, "torch": built}, threads=threads)


def gflops_per_step(trainer: Trainer) -> float:
    """GFLOP of one training step, each regulariser at its share. Trains `trainer`: give it one to throw away."""
    batch, total = trainer.batch(0), 0.0
    for phase in trainer.phases:
        with FlopCounterMode(display=False) as counter:
            phase.take(batch, 0)
        total += counter.get_total_flops() / phase.interval
    return total / 1e9


def convolution_ceiling(device: str, precision: str) -> float:
    """GFLOP/s of a large 3x3 convolution, forward, in this `train.precision`: the best of several sizes and repeats.

    On a GPU a repeat is many launches, and the sizes are such that they fill it.
    """
    sizes = ((512, 64), (256, 128), (512, 32)) if device == "cuda" else ((128, 32), (256, 16))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    set_products("ieee")  # as in a run; PyTorch's own default would round the factors of fp32 too
    with torch.no_grad(), rounded_products(precision == "tf32"):
        return max(_convolution(device, dtype, channels, size) for channels, size in sizes)


def _convolution(device: str, dtype: torch.dtype, channels: int, size: int) -> float:
    x = torch.randn(16, channels, size, size, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    launches, times = 10 if device == "cuda" else 1, []
    for _ in range(6):  # the first time chooses a kernel
        start = time.perf_counter()
        for _ in range(launches):
            nn.functional.conv2d(x, weight, padding=1)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / launches)
    return 2 * 16 * size**2 * channels**2 * 9 / min(times) / 1e9


def peak_memory_mb() -> float:
    """Largest memory of this process since `forget_peak`, in MiB: of the GPU if one is in use, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):  # no Linux: the peak of the process's whole life
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def held_memory_mib() -> float:
    """The most that torch has held of this process's GPU, in MiB, free blocks among it; 0 on the processor."""
    return torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_available() else 0.0


def forget_peak() -> None:
    """From here on `peak_memory_mb` is of what follows; where the system does not allow it, of all since the start."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5 resets VmHWM (man 5 proc)


def million_parameters(network: nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def largest(points: Sequence[Point], name: str) -> float:
    """Of a value over all points, those of earlier attempts too; 0 when it was never logged."""
    return max((point.values.get(name, 0.0) for point in points), default=0.0)


def seconds_per_kimg(points: Sequence[Point]) -> float:
    """Median over the logged intervals but the first, which warms up. NaN-free: 0 when nothing was logged."""
    values = [point.values[SECONDS_PER_KIMG] for point in points if SECONDS_PER_KIMG in point.values]
    return statistics.median(values[1:] or values or [0.0])


def state_mb(run: Run) -> float:
    """One checkpoint and generator.safetensors together, in MiB, to about 1 %.

    Takes neither data nor a device. Encoders are loaded for the width of their features only while none are cached.
    Of a script it is what the images take that it is asked for, as they would without compression: what else it writes
    nobody knows.
    """
    if run.settings.command.run:
        return 1.25 * run.settings.metrics.samples * 3 * run.settings.data.resolution**2 / 2**20
    networks, shapes = empty_networks(run, load_ideas(run)), projection_shapes(_widths(run))
    state = layout(networks)
    state |= {name: torch.empty(shape, dtype=torch.float64, device="meta") for name, shape in shapes.items()}
    files: list[dict[str, Tensor]] = [state, networks.averaged.state_dict()]
    return (
        sum(
            _HEADER + len(name) + len(str(list(tensor.shape))) + tensor.nbytes
            for tensors in files
            for name, tensor in tensors.items()
        )
        / 2**20
    )


def empty_networks(run: Run, own: OwnIdeas | None = None) -> Networks:
    """Networks of the run's shapes, on the device "meta", which takes no memory, if they are without own code."""
    settings, text = run.settings, _widths(run)["f_c"]
    shapes = Shapes(settings.data.resolution, text)
    if own:
        with own.explained("building the networks"), torch.random.fork_rng(devices=[]):
            return construct(settings, shapes, own.modules())  # which may draw or load weights, not on "meta"
    with torch.device("meta"):
        return construct(settings, shapes, OwnModules())


def _widths(run: Run) -> dict[Kind, int]:
    """Of the features by each frozen network that guides the run."""

    def width(kind: Kind, network: FrozenNetwork) -> int:
        of = "clip-text" if kind == "f_c" else features.kind_of(network)
        cached = features.width(of, run.fingerprints["data"], run.fingerprints[network.setting])
        return cached or width_of(load_image(network.name, "cpu", network.size))  # not on "meta", which has no weights

    return {kind: width(kind, network) for kind, network in frozen_networks(run.settings).items()}
