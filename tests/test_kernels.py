"""Kernels of our own without a GPU: Triton's interpreter computes what they do, its compiler makes them for cards."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import models
from harness.models import channelwise, kernels

triton = pytest.importorskip("triton")
HERE = Path(__file__).parent
INTERPRETED = """
import os, sys
os.environ["TRITON_INTERPRET"] = "1"
import torch
from harness.models import channelwise, resampling, triton_kernels
from kernel_cases import PRECISE, channels_off, filters_off
channelwise.kernels_for = resampling.kernels_for = lambda x: triton_kernels
for dtype, shape in ((torch.float64, (2, 3, 5, 7)), (torch.bfloat16, (1, 16, 4, 4))):
    for name, far in (*filters_off("cpu", dtype, shape), *channels_off("cpu", dtype, shape)):
        assert far <= PRECISE[dtype], (name, far)
print("as exact as it must be")
"""


def test_kernels_make_what_pytorch_does_and_derivatives_of_both_orders() -> None:
    done = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, cwd=HERE, timeout=300)
    assert done.stdout.strip() == "as exact as it must be", done.stderr[-2000:]


def compiled(kernel: Any, arch: int, pointers: str, numbers: str, dtype: str, constants: dict[str, Any]) -> str:
    """The assembler of a kernel for such a card; sizes are multiples of 16, as channels of a network are."""
    types = {name: f"*{dtype}" for name in pointers.split()} | {name: "i32" for name in numbers.split()}
    types |= {name: "fp32" for name in ("gain", "limit") if name in kernel.arg_names}
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    divisible = {(place,): [["tt.divisibility", 16]] for place, name in enumerate(kernel.arg_names) if name in types}
    attributes = {key: each for key, each in divisible.items() if kernel.arg_names[key[0]] not in ("gain", "limit")}
    source = triton.compiler.ASTSource(kernel, signature, constants, attributes)
    target = triton.backends.compiler.GPUTarget("cuda", arch, 32)
    return str(triton.compile(source, target=target).asm["ptx"])


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp64"])
def test_kernels_compile_and_read_sixteen_bytes_at_a_time(arch: int, dtype: str) -> None:
    from harness.models import triton_kernels as own

    fixed = {"SUM": own.tl.float64 if dtype == "fp64" else own.tl.float32, "SIZE": own.SIZE}
    sizes = "count channels height width rows columns padding"
    for stride, is_up in product((1, 2), (False, True)):
        constants = {"STRIDE": stride, "IS_UP": is_up, "IS_LAST": True, **fixed}
        text = compiled(own._filter, arch, "x y", sizes, dtype, constants)
        reads = [line for line in text.splitlines() if "ld.global" in line]
        assert reads and all(".v4.b32" in line or ".v2.b64" in line for line in reads)
    shown = {name: True for name in own._each.arg_names if name.startswith(("HAS", "IS"))}
    compiled(own._each, arch, "x y scale bias noise", "count channels pixels", dtype, shown | fixed)
    compiled(own._slope, arch, "x y z", "count", dtype, {"HAS_LIMIT": True, **fixed})
    del fixed["SIZE"]
    compiled(own._dots, arch, "x y z", "channels pixels part", dtype, {"ROWS": 32, "CHANNELS": 64, **fixed})


def test_the_processor_has_none_and_a_machine_without_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(1, 1, 4, 4)
    assert kernels.kernels_for(x) is None
    monkeypatch.delattr(models, "triton_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "harness.models.triton_kernels", None)
    found = kernels.kernels.__wrapped__()
    assert found.module is None and found.why.startswith("Triton cannot be imported: ")


def test_a_broken_value_stays_broken_through_the_limit() -> None:
    x = torch.tensor([[[[float("nan"), 9.0], [-9.0, 1.0]]]])
    y = channelwise.activated(x, None, torch.zeros(1), None, limit=1.5)
    assert y.flatten().isnan().tolist() == [True, False, False, False] and y.nan_to_num().abs().max() == 1.5
