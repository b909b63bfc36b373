"""What only a machine with a GPU can show: `python -m pytest -m gpu`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as torch_f

from harness.errors import Diverged
from harness.models import convolution
from harness.models.build import Shapes, build
from harness.models.kernels import kernels
from harness.models.precision import Products, same_every_time, set_products
from harness.models.toggles import TOGGLES
from harness.rng import torch_generator, torch_seed
from harness.scheduler.failures import of_error
from harness.scheduler.gpus import free_memory, listed_gpus
from harness.scheduler.slots import described, find_slots
from harness.training import checkpoint, cost
from harness.training.graphs import WARM
from harness.training.recorder import CudaRecorder
from harness.training.trainer import Trainer
from harness.training.views import _windows
from kernel_cases import PRECISE, channels_off, filters_off
from runs import F, R, settings, trainer, weights
from tools.gpu_cases import gradients

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]


def apart(code: str, **environment: str) -> str:
    """What a process of its own prints: a device that met a fault is of no use to this one any more."""
    program = "import torch\nfrom harness.scheduler.failures import of_error\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    return done.stdout.strip()


def failure_of(statement: str, **environment: str) -> str:
    code = (
        f"try:\n    {statement}\n    torch.cuda.synchronize()\nexcept Exception as error:\n    print(of_error(error))"
    )
    return apart(code, **environment)


def test_no_room_on_the_card_is_out_of_memory() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    assert of_error(caught.value) == "out_of_memory"


@pytest.mark.parametrize(
    ("statement", "failure"),
    [
        ("torch.zeros(4, device='cuda')[torch.tensor([9], device='cuda')]", "code"),
        ("torch.zeros(1, device='cuda:99')", "device"),
    ],
)
def test_what_the_device_says_is_understood(statement: str, failure: str) -> None:
    assert failure_of(statement) == failure


def test_a_process_that_sees_no_gpu_lacks_a_device() -> None:
    assert failure_of("torch.zeros(1, device='cuda')", CUDA_VISIBLE_DEVICES="") == "device"


def test_each_slot_sees_its_own_gpu_and_no_other() -> None:
    slots = find_slots("auto", 1)
    assert {slot.torch_device for slot in slots} == {"cuda"} and len(slots) == torch.cuda.device_count()
    for slot in slots:
        told = apart("print(torch.cuda.device_count(), torch.cuda.get_device_name(0))", **slot.environment)
        count, name = told.split(" ", 1)
        assert count == "1" and name in described([slot])


def test_the_tool_tells_of_every_gpu_and_its_room() -> None:
    free = free_memory()
    assert listed_gpus() and all(free[gpu.uuid] > 0 for gpu in listed_gpus() if not gpu.instances)


def test_the_peak_is_the_cards_since_it_was_forgotten() -> None:
    cost.forget_peak()
    before = cost.peak_memory_mb()
    held = torch.empty(2**26, dtype=torch.uint8, device="cuda")
    assert cost.peak_memory_mb() >= before + 64
    del held
    cost.forget_peak()
    assert cost.peak_memory_mb() <= before + 1


def test_images_do_not_depend_on_how_many_are_generated_at_a_time() -> None:
    generator = build(settings(), Shapes(R, F), lambda name: torch_generator(0, f"init {name}")).averaged.cuda()
    z = torch.randn(16, settings().generator.z_dim, generator=torch.Generator().manual_seed(0)).cuda()
    h = torch.randn(16, F, generator=torch.Generator().manual_seed(1)).cuda()
    with torch.inference_mode():
        whole = generator(z, h)
        single = torch.cat([generator(z[i : i + 1], h[i : i + 1]) for i in range(16)])
    assert (whole - single).abs().max() < 1e-4 * whole.abs().max()


def on_the_card(*toggles: str, **train: Any) -> Trainer:
    """Every part of a step at each step, with guides that are moved about."""
    chosen = settings(*toggles, r1_interval=1, pl_interval=1, style_mixing=0.9, **train)
    chosen = replace(chosen, encoders=replace(chosen.encoders, crop=0.125, pixel_noise=0.02))
    cpu = trainer(chosen)
    for network in vars(cpu.networks).values():
        network.cuda()
    guides: dict[str, Any] = dict(cpu.guides)
    for guide in guides.values():
        guide.weight = guide.weight.cuda()
    return Trainer(chosen, cpu.networks, cpu.corpus, cpu.guides, cpu.seed)


@pytest.fixture
def repeatable() -> Iterator[None]:
    """As `prepare` has a run compute on a GPU."""
    same_every_time()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("toggles", [(), TOGGLES], ids=["origin", "full"])
@pytest.mark.parametrize("graphs", ["off", "on"])
def test_a_step_never_waits_for_the_card(
    toggles: tuple[str, ...], graphs: str, repeatable: None, no_waiting: None
) -> None:
    subject = on_the_card(*toggles, graphs=graphs)
    first = 1 if graphs == "off" else WARM + 3  # constants and kernels are made, parts recorded and compared, once
    for step in range(first):
        subject.step(step)
    torch.cuda.set_sync_debug_mode("error")
    for step in range(first, first + 4):
        subject.step(step)


@pytest.mark.parametrize("toggles", [(), TOGGLES], ids=["origin", "full"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replayed_steps_are_those_of_the_functions(
    toggles: tuple[str, ...], precision: str, capsys: pytest.CaptureFixture[str], repeatable: None
) -> None:
    ways = [on_the_card(*toggles, graphs=graphs, precision=precision) for graphs in ("off", "on")]
    for step in range(20):
        one, other = (subject.step(step) for subject in ways)
        assert one.keys() == other.keys() and all(other[name].equal(loss) for name, loss in one.items()), step
    for name in ("generator", "discriminator", "averaged"):
        mine, theirs = (weights(getattr(subject.networks, name)).double() for subject in ways)
        assert mine.equal(theirs), name
    told = capsys.readouterr().out.splitlines()
    assert sorted(told) == sorted(f"graphs: {phase.name}: replayed" for phase in ways[0].phases)


def test_a_recorded_stream_draws_what_a_fresh_one_of_its_seed_does() -> None:
    recorder, drawn = CudaRecorder(measures=True), list[torch.Tensor]()
    rng = recorder.generator()

    def work() -> None:
        drawn[:] = [torch.randn(1000, generator=rng, device="cuda"), torch.rand(7, generator=rng, device="cuda")]

    replay = recorder.record(work, [rng])
    for step in (3, 4, 3):
        rng.manual_seed(torch_seed(0, "latents", step))
        replay()
        fresh = torch_generator(0, "latents", step, "cuda")
        assert drawn[0].equal(torch.randn(1000, generator=fresh, device="cuda"))
        assert drawn[1].equal(torch.rand(7, generator=fresh, device="cuda"))


def test_a_part_that_cannot_be_recorded_goes_on_by_its_function(capsys: pytest.CaptureFixture[str]) -> None:
    subject = on_the_card(graphs="on")
    path = subject.path_step

    def waits(batch: Any, step: int) -> Any:
        float(batch.h.sum())
        return path(batch, step)

    subject.path_step = waits  # type: ignore[method-assign]
    for step in range(WARM + 4):
        assert all(loss.isfinite() for loss in subject.step(step).values())
    told = capsys.readouterr().out
    assert "graphs: path length: taken by its function: it cannot be recorded" in told
    assert told.count("replayed") == 3


def test_memory_of_recorded_parts_is_given_back_and_they_go_on() -> None:
    subject = on_the_card(graphs="on")
    for step in range(WARM + 3):
        subject.step(step)
    before = torch.cuda.memory_reserved()
    subject.graphs.release()
    assert torch.cuda.memory_reserved() < before
    assert all(loss.isfinite() for loss in subject.step(WARM + 3).values())


@pytest.mark.parametrize("toggles", [(), TOGGLES], ids=["origin", "full"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_same_steps_twice_give_the_same_bytes(toggles: tuple[str, ...], precision: str, repeatable: None) -> None:
    once, twice = (on_the_card(*toggles, graphs="off", precision=precision) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch warns where it has no kernel that does the same each time
        for step in range(4):
            one, other = (subject.step(step) for subject in (once, twice))
            assert all(other[name].equal(loss) for name, loss in one.items()), step
    for name in ("generator", "discriminator", "averaged"):
        assert weights(getattr(once.networks, name)).equal(weights(getattr(twice.networks, name))), name


@pytest.mark.parametrize("toggles", [(), TOGGLES], ids=["origin", "full"])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(
    toggles: tuple[str, ...], repeatable: None, tmp_path: Path
) -> None:
    whole, half, again = (on_the_card(*toggles, graphs="on") for _ in range(3))
    for step in range(9):  # parts are recorded in step 3 of a process
        whole.step(step)
    for step in range(5):
        half.step(step)
    checkpoint.save(half, tmp_path, 5, "run")
    for step in range(checkpoint.restore(again, tmp_path, "run"), 9):
        again.step(step)
    for name in ("generator", "discriminator", "averaged"):
        assert weights(getattr(whole.networks, name)).equal(weights(getattr(again.networks, name))), name


def test_kernels_of_our_own_are_made_here() -> None:
    assert kernels().module, kernels().why


@pytest.mark.parametrize("dtype", [*PRECISE], ids=str)
@pytest.mark.parametrize("shape", [(2, 64, 33, 32), (5, 3, 16, 16), (1, 8, 7, 250), (2, 200, 4, 4)], ids=str)
def test_kernels_make_what_the_processor_does(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    for name, far in (*filters_off("cuda", dtype, shape), *channels_off("cuda", dtype, shape)):
        assert far <= PRECISE[dtype], name


def test_second_derivatives_of_convolutions_are_those_of_the_processor() -> None:
    exact, here = gradients("cpu", torch.float64), gradients("cuda", torch.float64)
    assert convolution.is_for(torch.device("cuda"))
    for part, value in exact.items():
        assert (here[part] - value).norm() <= 1e-10 * value.norm(), part


def test_a_run_notes_the_kind_of_its_device() -> None:
    assert (cost.hardware("cuda", 1).kind, cost.hardware("cpu", 1).kind) == ("cuda", "cpu")


def test_a_broken_update_is_left_out_on_the_card_and_told_later() -> None:
    subject = on_the_card()
    subject.step(1)
    before = weights(subject.networks.generator)
    leaf = next(subject.networks.generator.parameters())
    subject.update("generator", 7, leaf.square().sum() * float("nan"))
    subject.step(8)
    assert weights(subject.networks.generator).equal(before)
    with pytest.raises(Diverged, match=r"^step 7: the generator's loss is nan"):
        subject.finite.check()


def test_batches_read_ahead_are_those_of_the_processor() -> None:
    subject = on_the_card()
    for step in (0, 1, 2, 9, 3):
        expected, given = subject.read(step).on("cpu"), subject.batch(step)
        assert given.real.is_cuda  # where a division is a product with the inverse: the last bit may differ
        torch.testing.assert_close(given.real.cpu(), expected.real, rtol=0, atol=2e-7)
        assert given.h.cpu().equal(expected.h) and given.pseudo.cpu().equal(expected.pseudo)


def test_views_by_indices_are_those_by_copies() -> None:
    images, corners = torch.randn(32, 3, 40, 40), torch.randint(9, (32, 2))
    assert _windows(images.cuda(), corners.cuda(), 32).cpu().equal(_windows(images, corners, 32))


@pytest.mark.parametrize(("products", "most"), [("ieee", 1e-5), ("tf32", 1e-2)])
def test_products_are_as_precise_as_they_are_said_to_be(products: Products, most: float) -> None:
    x, weight = torch.randn(4, 64, 32, 32), torch.randn(64, 64, 3, 3)
    exact = torch_f.conv2d(x.double(), weight.double(), padding=1)
    try:
        set_products(products)
        off = (torch_f.conv2d(x.cuda(), weight.cuda(), padding=1).cpu() - exact).abs().max() / exact.abs().max()
        square = torch.randn(512, 512)
        off_matrix = (square.cuda() @ square.cuda()).cpu() - square.double() @ square.double()
    finally:
        set_products("ieee")
    assert off < most and off_matrix.abs().max() / (square.double() @ square.double()).abs().max() < most
    assert products == "ieee" or off > 1e-5


@pytest.mark.parametrize("toggles", [(), TOGGLES], ids=["origin", "full"])
def test_gradients_of_the_card_are_those_of_the_processor(toggles: tuple[str, ...]) -> None:
    """R1 on real images, whose draws are the processor's: gradients, also of second order, in IEEE products."""
    card = on_the_card(*toggles, lr=0.0)
    twin = trainer(card.settings)
    set_products("ieee")
    for subject in (card, twin):
        subject.r1_step(subject.batch(0), 0)
    one, other = (
        torch.cat([p.grad.flatten().cpu() for p in subject.networks.discriminator.parameters() if p.grad is not None])
        for subject in (card, twin)
    )
    assert (one - other).norm() < 1e-3 * other.norm()  # single weights differ more, where sums nearly cancel
