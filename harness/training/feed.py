"""Batches for a GPU, read from the data while it computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from harness.data.batches import Batch


class Feed:
    """Gives the batch of any step, on the device; on a GPU the one of the step after is prepared meanwhile.

    A batch is a pure function of its step, so nothing is lost where another step is asked for than was prepared.
    """

    def __init__(self, read: Callable[[int], Batch], device: torch.device, ahead: bool | None = None) -> None:
        ahead = device.type == "cuda" if ahead is None else ahead  # on the CPU a thread more would take from the step
        self._read, self._device = read, device
        self._thread = ThreadPoolExecutor(1, "batches") if ahead else None
        self._next: tuple[int, Future[Batch]] | None = None

    def batch(self, step: int) -> Batch:
        """The batch of that step. Raises what reading raises."""
        if self._thread is None:
            return self._read(step).on(self._device)
        prepared = self._next[1].result() if self._next and self._next[0] == step else self._pinned(step)
        self._next = step + 1, self._thread.submit(self._pinned, step + 1)
        return prepared.on(self._device)

    def _pinned(self, step: int) -> Batch:
        batch = self._read(step)
        return batch.pinned() if self._device.type == "cuda" else batch
