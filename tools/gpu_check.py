"""What is known of a GPU only by trying it: `python -m tools.gpu_check`, about 7 minutes on a large card.

Sections, each of which may be asked for alone: numbers, resume, filters, speed, graphs, measuring, grids. It needs no
downloads: guides have random weights. `--device cpu --small` tries the script itself on a machine without a GPU.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
import torch
import torch.nn.functional as F
import typer
from safetensors import safe_open
from torch.profiler import ProfilerActivity, profile

from harness.metrics.measure import against_real
from harness.metrics.real_side import real_side
from harness.models import convolution
from harness.models.precision import Products, set_products
from harness.models.resampling import blur, downsample, upsample
from harness.scheduler.failures import of_error
from harness.training import checkpoint
from harness.training.cost import gflops_per_step
from harness.training.graphs import TIMED, WARM
from harness.training.setup import prepare
from harness.training.trainer import Trainer
from tools.gpu_cases import (
    STUDY,
    apart,
    gradients,
    guides,
    in_two_passes,
    published,
    settings_of,
    train,
    unit,
    with_training,
)

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("bf16", "tf32", "fp32")
_START = time.monotonic()


@dataclass(frozen=True)
class Machine:
    """Where it is tried, and how much."""

    device: str
    small: bool

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def ms(self, work: Callable[[], object], repeats: int = 10) -> float:
        """Milliseconds of one call, the first aside."""
        work()
        self.wait()
        began, repeats = time.perf_counter(), 1 if self.small else repeats
        for _ in range(repeats):
            work()
        self.wait()
        return (time.perf_counter() - began) / repeats * 1e3

    def waits(self, work: Callable[[], object]) -> dict[str, int]:
        """File and line -> how often the host waited for the GPU there."""
        if self.device == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
        if self.device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        return dict(
            Counter(f"{Path(it.filename).name}:{it.lineno}" for it in caught if "synchroniz" in str(it.message))
        )


def say(*text: object) -> None:
    print(f"[{time.monotonic() - _START:4.0f} s]", *text, flush=True)


def main(
    sections: Annotated[list[str] | None, typer.Argument(help="all by default")] = None,
    device: str = "cuda",
    small: bool = False,
) -> None:
    """Try the `sections`, all by default."""
    machine = Machine(device, small)
    if device == "cuda":
        cudnn: Any = torch.backends.cudnn
        say(torch.__version__, "CUDA", torch.version.cuda, "cuDNN", cudnn.version(), torch.cuda.get_device_name())
    for name in sections or SECTIONS:
        say(f"{name}: {SECTIONS[name].__doc__}")
        try:
            SECTIONS[name](machine)
        except Exception as error:  # the other sections are tried all the same
            say("  failed:", of_error(error), repr(error)[:600])
    say("done")


# The sections


def numbers(machine: Machine) -> None:
    """relative error of gradients against the processor in float64, by precision"""
    exact = gradients("cpu", torch.float64)
    ways: list[tuple[str, torch.dtype, torch.dtype | None, Products]] = [
        ("fp64", torch.float64, None, "ieee"),
        ("fp32", torch.float32, None, "ieee"),
        ("tf32", torch.float32, None, "tf32"),
        ("bf16", torch.float32, torch.bfloat16, "ieee"),
    ]
    for name, dtype, compute, products in ways:
        set_products(products)
        found = gradients(machine.device, dtype, compute)
        set_products("ieee")
        errors = {part: ((found[part] - value).norm() / value.norm()).item() for part, value in exact.items()}
        say("  ", name, {part: f"{error:.1e}" for part, error in errors.items()})


def resume(machine: Machine) -> None:
    """weights after 12 steps, twice, and after 6 + 6 through a checkpoint: equal bytes?"""

    def digest(trainer: Trainer) -> str:
        weights = (p.detach().cpu().numpy().tobytes() for p in trainer.networks.generator.parameters())
        return hashlib.sha256(b"".join(weights)).hexdigest()[:8]

    for size, cell in itertools.product((16, 64), ("origin", "full")):
        prepared = prepare(settings_of(size, cell, "bf16" if size == 64 else "fp32", machine.small), machine.device)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(train(prepared.trainer(0), range(6)), Path(folder), 6, "run")
            again = prepared.trainer(0)
            checkpoint.restore(again, Path(folder), "run")
        whole = [digest(train(prepared.trainer(0), range(12))) for _ in range(2)]
        say(f"  {size} px {cell}: {whole}, resumed {digest(train(again, range(6, 12)))}")


def filters(machine: Machine) -> None:
    """resampling and second derivatives at 16 x 128 x 256 x 256 in bf16: ms, and GB/s of the bytes that must move"""
    shape = (2, 8, 256, 256) if machine.small else (16, 128, 256, 256)
    x = torch.randn(shape, device=machine.device, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    half = x[..., ::2, ::2].contiguous(memory_format=torch.channels_last)
    in_rows = x.contiguous()
    kinds: list[tuple[str, Callable[[], object], float]] = [
        ("blur", lambda: blur(x, 2), 2),
        ("down", lambda: downsample(x), 1.25),
        ("up", lambda: upsample(half), 1.25),
        ("blur in NCHW", lambda: blur(in_rows, 2), 2),
        ("blur in two passes", lambda: in_two_passes(x), 2),
        ("copy", x.clone, 2),
    ]
    for name, work, moved in kinds:
        took = machine.ms(work)
        say(f"  {name}: {took:.2f} ms, {moved * x.nbytes / took / 1e6:.0f} GB/s")
    weight = torch.randn(shape[1], shape[1], 3, 3, device=machine.device, dtype=torch.bfloat16, requires_grad=True)
    leaf = x.clone().requires_grad_(True)

    def second(convolve: Callable[..., torch.Tensor]) -> None:
        squares = convolve(leaf, weight, padding=1).square().sum()
        (gradient,) = torch.autograd.grad(squares, leaf, create_graph=True)
        torch.autograd.grad(gradient.float().square().sum(), weight)

    first = machine.ms(lambda: F.conv2d(x, weight, padding=1))
    for name, convolve in (("PyTorch's rule", F.conv2d), ("own rule", convolution.conv2d)):
        took = machine.ms(lambda convolve=convolve: second(convolve), 3)  # type: ignore[misc]
        say(f"  3x3: {first:.2f} ms; with second derivative by {name} {took:.2f} ms, right is six times it")


def speed(machine: Machine) -> None:
    """whole steps with data and regularisers: launches, time that the GPU is busy, memory, where the host waits"""
    networks = guides(machine.device)
    for size in (256, 64, 16):
        for cell in ("origin", "full"):
            for precision in PRECISIONS:
                try:
                    _speed(machine, networks, size, cell, precision)
                except Exception as error:
                    say(f"  {size} px {cell} {precision}: {of_error(error)}: {str(error)[:300]}")


def graphs(machine: Machine) -> None:
    """whole steps by their functions and replayed: ms, and how far weights are off after 20 steps"""
    timed = range(1024, 1025 if machine.small else 1040)
    for size, cell in itertools.product((64, 16), ("origin", "full")):
        settings = settings_of(size, cell, "bf16", machine.small)
        for way in ("off", "on", "auto"):
            trainer = prepare(with_training(settings, graphs=way), machine.device).trainer(0)
            first = 4 if way == "off" else 16 * (WARM + TIMED + 3)  # R1 comes every 16 steps
            train(trainer, range(2 if machine.small else first))
            ms = machine.ms(lambda trainer=trainer: train(trainer, timed), 4) / len(timed)  # type: ignore[misc]
            say(f"  {size} px {cell} bf16, graphs {way}: {ms:.1f} ms a step")
        every = with_training(settings, r1_interval=1, pl_interval=1)
        pair = [prepare(with_training(every, graphs=way), machine.device).trainer(0) for way in ("off", "on")]
        off = apart(pair[0], pair[1], 2 if machine.small else 20)
        say(f"  {size} px {cell}: weights off by {off:.1e}, right is 0")


def measuring(machine: Machine) -> None:
    """images/s of the guides at 256 px; seconds of the metrics against 20,000 real images, first and second call"""
    images = torch.rand(4 if machine.small else 128, 3, 256, 256, device=machine.device) * 2 - 1
    with torch.inference_mode():
        for kind, guide in guides(machine.device).items():
            took = machine.ms(lambda guide=guide: guide.image(images), 5)  # type: ignore[misc]
            say(f"  {kind}: {len(images) / took * 1e3:.0f} images/s")
    real, fake = (
        unit(count, 64 if machine.small else 2048) for count in ((500, 400) if machine.small else (20000, 10000))
    )
    began = time.perf_counter()
    side = real_side(real, machine.device)
    middle = time.perf_counter()
    against_real(real, fake, side, machine.device)
    say(f"  of the real side once {middle - began:.1f} s, then {time.perf_counter() - middle:.1f} s a measurement")


def grids(machine: Machine) -> None:
    """four runs of 1.6 kimg, alone, 2 and 4 a GPU, by MPS and in turns; one stopped and asked for again; no room"""
    ways: list[tuple[int | str, str]] = [(1, "off"), (2, "off"), (2, "auto"), (4, "off"), (4, "auto"), ("auto", "auto")]
    with tempfile.TemporaryDirectory() as folder:
        for per_gpu, mps in ways[:1] if machine.small else ways:
            _grid(machine, Path(folder) / f"n{per_gpu}-{mps}", per_gpu, mps)
        _grid(machine, Path(folder) / "stopped", 2, stop_after=2)
        _grid(machine, Path(folder) / "stopped", 2)
    try:
        torch.empty(2**50, dtype=torch.uint8, device=machine.device)
    except Exception as error:
        say("  a GPU without room is", of_error(error))


SECTIONS: dict[str, Callable[[Machine], None]] = {
    section.__name__: section for section in (numbers, resume, filters, speed, graphs, measuring, grids)
}


# What they are made of


def _speed(machine: Machine, networks: dict[str, Any], size: int, cell: str, precision: Precision) -> None:
    settings = settings_of(size, cell, precision, machine.small)
    if machine.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def make() -> Trainer:
        if size < 256:
            return prepare(settings, machine.device).trainer(0)
        return published(settings, networks, machine.device, 64 if machine.small else 1024)

    trainer, steps = train(make(), range(1 if machine.small else 5)), 1 if machine.small else 16
    machine.wait()
    began = time.perf_counter()
    train(trainer, range(16, 16 + steps))  # with one R1 and four of path length
    machine.wait()
    ms = (time.perf_counter() - began) / steps * 1e3
    peak = torch.cuda.max_memory_allocated() / 2**30 if machine.device == "cuda" else 0.0
    launches, busy = _launches(machine, trainer)
    tflops, batch = gflops_per_step(make()) / ms, settings.train.batch
    say(f"  {size} px {cell} {precision} batch {batch}: {ms:.1f} ms, {ms / batch:.2f} s/kimg, {tflops:.1f} TFLOP/s")
    say(f"     {launches:.0f} launches, GPU busy {busy:.1f} ms, {peak:.1f} GiB")
    if precision == "bf16":
        _parts(machine, trainer)


def _parts(machine: Machine, trainer: Trainer) -> None:
    given = trainer.batch(1)
    parts: dict[str, Callable[[], object]] = {"ema": lambda: trainer.average(1)}
    parts |= {phase.name: lambda take=phase.take: take(given, 1) for phase in trainer.phases}  # type: ignore[misc]
    ms = {name: machine.ms(part, 3) for name, part in parts.items()}
    say("     ms", {name: f"{each:.1f}" for name, each in ms.items()})
    players = {"R1": "discriminator", "path length": "generator"}
    shares = {name: ms[name] / ms[player] for name, player in players.items() if name in ms}
    say("     times its player's step", {name: f"{each:.1f}" for name, each in shares.items()}, "right is 2 and 1.5")
    host = []
    for step in range(40, 48):  # as in training, where the batch was read during the step before
        began = time.perf_counter()
        trainer.batch(step)
        host.append((time.perf_counter() - began) * 1e3)
        trainer.step(step)
    say(f"     the host's time for a batch {statistics.median(host):.2f} ms, right is 0.5")
    say("     host waits at", {name: machine.waits(part) for name, part in parts.items()})


def _launches(machine: Machine, trainer: Trainer) -> tuple[float, float]:
    """Kernels that a step launches, and milliseconds in which they run."""
    on_gpu = [ProfilerActivity.CUDA] if machine.device == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *on_gpu]) as measured:
        train(trainer, range(17, 21))
        machine.wait()
    rows = measured.key_averages()
    busy = sum(getattr(row, "self_device_time_total", 0) for row in rows if "CUDA" in str(row.device_type))
    return sum(row.count for row in rows if "LaunchKernel" in row.key) / 4, busy / 4 / 1e3


def _grid(
    machine: Machine, folder: Path, per_gpu: int | str, mps: str = "auto", stop_after: float | None = None
) -> None:
    """A grid in a process of its own, stopped so many seconds after its first points; hashes of what it left."""
    folder.mkdir(exist_ok=True)
    study = folder / "study.yaml"
    study.write_text(STUDY.read_text(encoding="utf-8"), encoding="utf-8")
    kimg = 0.16 if machine.small else 1.6
    chosen = [f"train.kimg={kimg}", "metrics.samples=64", "design.seeds=[0,1]", f"resources.mps={mps}"]
    chosen += [f"resources.runs_per_gpu={per_gpu}"]
    command = [sys.executable, "-m", "harness", "run-grid", str(study), "--only", "origin", "--only", "full"]
    command += [word for each in chosen for word in ("--set", each)]
    began = time.monotonic()
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if stop_after is not None:
        while run.poll() is None and not any(folder.glob("runs/*/*/metrics.jsonl")):
            time.sleep(0.2)
        time.sleep(stop_after)
        run.terminate()
    output, hashes = run.communicate()[0], {}
    for path in sorted(folder.glob("runs/*/*/generator.safetensors")):  # the files' headers are in no fixed order
        with safe_open(path, "pt") as file:
            hashes[path.parent.name[:4]] = file.metadata()["sha256"][:8]
    stopped = ", stopped" if stop_after else ""
    took = time.monotonic() - began
    say(f"  {per_gpu} a GPU, MPS {mps}{stopped}: exit {run.returncode}, {took:.0f} s, {hashes}")
    states = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("runs/*/*/status.json"))]
    say("     MiB held:", [round(it.get("memory_mib", 0)) for it in states], "; left behind:", _mps_processes())
    for line in output.splitlines() if run.returncode in (0, 143) else [output[-800:]]:
        if run.returncode not in (0, 143) or any(word in line for word in ("runs to do", "MPS", "holds", "memory")):
            say("    ", line)


def _mps_processes() -> list[str]:
    """The daemons and servers of MPS that run; none should once a grid has ended, unless they ran before."""
    found = ((it.info["name"] or "", it.pid) for it in psutil.process_iter(["name"]))
    return [f"{name} {pid}" for name, pid in found if name.startswith("nvidia-cuda-mps")]


if __name__ == "__main__":
    typer.run(main)
