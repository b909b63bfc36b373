"""Steps on trial: which of them are a measure of a run's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.training import timing
from harness.training.work import Steps


def test_the_first_steps_on_a_gpu_are_no_measure_of_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """They make kernels and record graphs: seconds where a step takes milliseconds."""
    monkeypatch.setattr(timing, "_seconds", lambda trainer, phases, steps: 5.0 if steps > 8 else 0.01)
    phases = [SimpleNamespace(interval=1), SimpleNamespace(interval=4)]
    trainer: Any = SimpleNamespace(phases=phases, device=torch.device("cuda"))
    assert timing._steps(trainer, seconds=0.001) == Steps(pytest.approx(0.0125), 8)
