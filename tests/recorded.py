"""A stand-in for CUDA's graphs on a processor: every operation of torch is recorded, and asked for again on replay.

As on a GPU, recording leaves the state as it was, and a replay knows the tensors and numbers of the recorded call
alone: another object under the same name and a number that Python computed since then are not noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Stand:
    """As `harness.training.recorder.Recorder`; each replay takes `replay_ms`, each function 10 ms."""

    def __init__(self, replay_ms: float = 1.0, measures: bool = True) -> None:
        self.measures, self.replay_ms = measures, replay_ms
        self.records, self.replays, self.releases, self.short = 0, 0, 0, False

    def generator(self) -> torch.Generator:
        return torch.Generator()

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], object]:
        self.records += 1
        with _Operations() as operations:
            work()
        operations.undo()

        def replay() -> None:
            self.replays += 1
            operations.again()

        return replay

    def mark(self) -> Any:
        return self.replays

    def ms(self, begin: Any, end: Any) -> float | None:
        return self.replay_ms if end > begin else 10.0

    def is_short(self) -> bool:
        return self.short

    def release(self) -> None:
        self.releases += 1


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, Any, Any, list[Tensor]]] = []
        """Function, arguments, and the results that it does not share with its arguments."""
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        """Memory from outside that was written to, and what was in it."""
        self._made: set[int] = set()
        self._held: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if func._schema.is_mutable:
            for each in given:
                self._keep(each)
        result = func(*args, **kwargs)
        places = {_place(each) for each in given}
        fresh = [each for each in tree_leaves(result) if isinstance(each, Tensor) and _place(each) not in places]
        self._made |= {_place(each) for each in fresh}
        self._held += [args, kwargs, fresh]  # or memory would be another's later
        if fresh or func._schema.is_mutable:
            self._done.append((func, args, kwargs, fresh))
        return result

    def _keep(self, tensor: Tensor) -> None:
        if _place(tensor) not in self._made:
            self._before.setdefault(_place(tensor), (tensor, tensor.detach().clone()))

    def undo(self) -> None:
        with torch.no_grad():
            for tensor, value in self._before.values():
                tensor.copy_(value)
            for _, _, _, fresh in self._done:
                for each in fresh:
                    if each.is_floating_point():
                        each.fill_(float("nan"))  # nothing was computed yet

    def again(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, fresh in self._done:
                result = [each for each in tree_leaves(func(*args, **kwargs)) if isinstance(each, Tensor)]
                if fresh:
                    for old, new in zip(fresh, result, strict=True):
                        old.copy_(new)


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
