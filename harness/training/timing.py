"""Steps on trial: what a step of each cell computes, and how long it takes here, beside other runs.

Networks and images are those of `stand_in`; nothing is kept but numbers. Code of a study's own is never run.
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from harness import limits
from harness.data.features import BATCH, batch_of
from harness.frozen_networks import encoders_read
from harness.metrics import formulas
from harness.metrics.measure import quantise
from harness.metrics.pairs import kid_precision_recall
from harness.metrics.real_side import real_side
from harness.models.encoders.frozen import Clip, Resnet
from harness.models.precision import rounded_products, same_every_time, set_products
from harness.runs.record import Run
from harness.scheduler.slots import Slot
from harness.settings import Settings
from harness.training.cost import convolution_ceiling
from harness.training.finite import Finite
from harness.training.graphs import Phase
from harness.training.ranks import Ranks, unit_of
from harness.training.stand_in import frozen_network, guides_of, random_corpus, random_features, trainer_of, width_of
from harness.training.trainer import Trainer
from harness.training.work import TEXTS, Counted, Steps, Timed, Trial, Work

MOST = 5
"""Steps that are timed of a cell; their median counts."""
GPU_BLOCK = 8
"""Steps between two waits for a GPU: a training run waits seldom too."""
GPU_WARM = 12
"""Steps by which a part of a step is recorded as a graph, where it gains by it."""
FEW = 2
"""Images that show about how long one takes."""
ROWS = 2048
"""Rows of features that the distances are timed with at most; from there on their time is known."""


def count_work(runs: Sequence[Run], slot: Slot, seconds: float) -> Counted:
    """The work of a step of the first run's cell, and of as many others as that time allows.

    Nothing is computed: torch passes the shapes alone through the networks, and is of no further use to this process.
    Raises MissingWeights as `stand_in` does.
    """
    os.environ.update(slot.environment)
    torch.set_num_threads(slot.threads)
    end = time.perf_counter() + seconds
    ceiling = convolution_ceiling(slot.torch_device, runs[0].settings.train.precision)
    free, work = free_mb(slot), dict[str, Work]()
    for run in runs:
        if work and time.perf_counter() > end:
            break
        work[run.cell] = _work(run.settings)
    return Counted(work, ceiling, free)


def free_mb(slot: Slot) -> float:
    """MiB that are free for this process on the slot's device."""
    if slot.torch_device == "cuda":
        return float(torch.cuda.mem_get_info()[0] / 2**20)
    return float(limits.memory().available / 2**20)


def _work(settings: Settings) -> Work:
    # Crops and shifts draw numbers, which shapes alone do not have; the guide gets images of one size either way.
    settings = settings.with_values({"encoders.view": "shift", "encoders.crop": 0.0})
    guides = guides_of(settings)
    corpus = random_corpus(settings, {kind: width_of(guide) for kind, guide in guides.items()})
    batch, kept, total = corpus.batch(settings.condition, 0, 0, settings.train.batch), [0.0], 0.0
    with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
        warnings.simplefilter("ignore")  # of torch, about its own
        trainer = trainer_of(settings, corpus, guides, "cpu")
        trainer.finite = Finite(trainer.optimizers.values(), trainer.device, deferred=True)  # there are no numbers
        for phase in trainer.phases:
            storages = dict[int, torch.UntypedStorage]()

            def keep(tensor: torch.Tensor, storages: dict[int, torch.UntypedStorage] = storages) -> torch.Tensor:
                storage = tensor.untyped_storage()
                storages[storage._cdata] = storage
                return tensor

            with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
                phase.take(batch, 0)
            total += counter.get_total_flops() / phase.interval / 1e9
            kept.append(sum(storage.nbytes() for storage in storages.values()) / 2**20)
        trained = vars(trainer.networks).values()
        weights = 4 * sum(each.nbytes for network in trained for each in network.parameters()) / 2**20
    return Work(total, max(kept), weights + sum(_megabytes(guide) for guide in guides.values()))


def _megabytes(network: torch.nn.Module) -> float:
    return sum(each.nbytes for each in network.parameters()) / 2**20


def time_steps(trial: Trial) -> Timed:
    """Take steps of each cell for its share of the time, at least one, and measure a few images of the first one."""
    os.environ.update(trial.slot.environment)
    torch.set_num_threads(trial.slot.threads)
    set_products("ieee")  # as where a run loads its encoders
    if trial.slot.torch_device == "cuda":
        same_every_time()
    first, device = trial.runs[0].settings, trial.slot.torch_device
    start = time.perf_counter()
    judges = {path: frozen_network(name) for path, name in encoders_read(first).items() if path.startswith("metrics.")}
    judges["encoders.clip"] = frozen_network(first.encoders.clip)
    trainer = _trainer(trial.runs[0], trial)
    began = time.perf_counter()
    cells, share = dict[str, Steps](), trial.seconds / len(trial.runs)
    generated, encoded = _images(trainer, first, {path: network.to(device) for path, network in judges.items()})
    wall = cpu = 0.0
    for run in trial.runs:
        trainer = _trainer(run, trial)
        started, busy = time.perf_counter(), time.process_time()
        cells[run.cell] = _steps(trainer, share)
        wall, cpu = wall + time.perf_counter() - started, cpu + time.process_time() - busy
    waited = max(0.0, 1 - cpu / wall / trial.slot.threads) if device == "cpu" else 0.0
    distances, side = _distances(width_of(judges["metrics.resnet"]), trial)
    return Timed(cells, began - start, generated, encoded, distances, side, waited)


def _trainer(run: Run, trial: Trial) -> Trainer:
    settings = run.settings.with_values({"train.batch": run.settings.train.batch // trial.divisor})
    guides = {kind: guide.to(trial.slot.torch_device) for kind, guide in guides_of(settings).items()}
    corpus = random_corpus(settings, {kind: width_of(guide) for kind, guide in guides.items()})
    trainer = trainer_of(settings, corpus, guides, trial.slot.torch_device)
    if trial.slot.ranks > 1:
        trainer.ranks = Ranks(0, trial.slot.ranks, unit_of(settings), is_rehearsal=True)
    return trainer


def _steps(trainer: Trainer, seconds: float) -> Steps:
    """Of a step: the part that every step has, and each lazy regulariser at its share."""
    phases, end = trainer.phases, time.perf_counter() + seconds
    parts = [([phase for phase in phases if phase.interval == 1], 1)]
    parts += [([phase], phase.interval) for phase in phases if phase.interval > 1]
    block, warm = (1, 1) if trainer.device.type == "cpu" else (GPU_BLOCK, GPU_WARM)
    rounds = [
        [_seconds(trainer, part, warm) for part, _ in parts]
    ]  # warms up: it counts if there is no time for another
    while len(rounds) <= MOST:
        left = end - time.perf_counter() if len(rounds) > 1 else seconds  # one more than the first is worth the time
        is_cold = block > 1 and len(rounds) == 1  # a GPU's first steps make and choose kernels: they tell nothing
        if block * min(map(sum, rounds)) > left and not is_cold:
            break
        rounds.append([_seconds(trainer, part, block) for part, _ in parts])
    medians = [statistics.median(each) for each in zip(*(rounds[1:] or rounds), strict=True)]
    of_step = sum(each / every for each, (_, every) in zip(medians, parts, strict=True))
    return Steps(of_step, block * (len(rounds) - 1))


def _seconds(trainer: Trainer, phases: Sequence[Phase], steps: int) -> float:
    """Of these parts of a step, with what belongs to each step beside them if they are of each."""
    start = time.perf_counter()
    for step in range(steps):
        batch = trainer.batch(step)
        trainer.finite.at(step)
        with rounded_products(trainer.settings.train.precision == "tf32"):
            for phase in phases:
                trainer.graphs.take(phase, trainer.with_own_noise(batch, step, phase.name), step)
            if phases[0].interval == 1:
                trainer.average(step)
    _wait(trainer.device.type)
    return (time.perf_counter() - start) / steps


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# Measuring.


def _images(
    trainer: Trainer, settings: Settings, judges: Mapping[str, Clip | Resnet]
) -> tuple[float, dict[str, float]]:
    """Seconds to generate one image; setting -> seconds of one image through that network, TEXTS -> of one caption."""
    device, most, side = trainer.device, batch_of(settings.data.resolution**2), settings.data.resolution
    generator, width = trainer.networks.averaged, trainer.corpus.text_dim

    def generate(count: int) -> torch.Tensor:
        latents = torch.randn(count, settings.generator.z_dim, device=device)
        return quantise(generator(latents, torch.randn(count, width, device=device)))

    def encode(network: Clip | Resnet, count: int) -> torch.Tensor:
        return network.image(torch.zeros(count, 3, side, side, device=device)).cpu()

    with torch.inference_mode():
        generated = _per_image(generate, most, device.type)
        encoded = {path: _per_image(partial(encode, network), most, device.type) for path, network in judges.items()}
        clip = judges["encoders.clip"]
        assert isinstance(clip, Clip)
        encoded[TEXTS] = _per_image(lambda count: clip.text([f"picture {n}" for n in range(count)]), BATCH, device.type)
        return generated, encoded


def _per_image(make: Callable[[int], object], most: int, device: str) -> float:
    """Seconds of one of a batch: of `most` images, or of as many as take half a second."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        make(count)
        _wait(device)
        return (time.perf_counter() - start) / count

    make(FEW)
    few = seconds(FEW)
    return seconds(max(FEW, min(most, int(0.5 / few))))


def _distances(width: int, trial: Trial) -> tuple[float, float]:
    """As `Timed.distances` and `Timed.real_side`: between fewer rows where there are many, by the number of pairs."""
    rows, device = max(ROWS, width + 1), trial.slot.torch_device
    real, fake = (random_features(min(count, rows), width) for count in (trial.real, trial.samples))
    start = time.perf_counter()
    side = real_side(real, device)
    of_side = time.perf_counter() - start
    start = time.perf_counter()
    kid_precision_recall(real, fake, side.pairs, device)
    of_pairs = time.perf_counter() - start
    start = time.perf_counter()
    formulas.frechet_distance(real, fake, side.gaussian)
    of_gaussians = time.perf_counter() - start

    def pairs(n: int, m: int) -> float:
        return m * n + m * m / 2

    more = pairs(trial.real, trial.samples) / pairs(len(real), len(fake))
    return of_gaussians + of_pairs * more, of_side * (trial.real / len(real)) ** 2
