"""What only a machine with a GPU can show: `python -m pytest -m gpu`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from harness.models.build import Shapes, build
from harness.rng import torch_generator
from harness.scheduler.failures import of_error
from harness.scheduler.gpus import free_memory, listed_gpus
from harness.scheduler.slots import described, find_slots
from harness.training import cost
from runs import F, R, settings

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
    # Convolutions on a card may compute in TF32, with 10 bits behind the point.
    assert (whole - single).abs().max() < 1e-2 * whole.abs().max()
