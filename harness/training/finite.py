"""Whether losses and gradients are still finite, asked without waiting for a GPU at every update."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import torch
from torch import Tensor

from harness.errors import Diverged
from harness.models.objective import PLAYERS, Player

UNREAD_STEPS = 16
"""On a GPU the answer is read once in so many steps; broken updates until then are left out on the device."""


class Finite:
    """Remembers, on the device, the first update that was broken. From there on no update is taken.

    On the CPU, where nothing is waited for, `note` raises at once.
    """

    def __init__(
        self, optimizers: Iterable[torch.optim.Adam], device: torch.device, deferred: bool | None = None
    ) -> None:
        self.deferred = device.type != "cpu" if deferred is None else deferred
        self.broken = torch.zeros((), device=device)
        """1 from the first broken update on."""
        if self.deferred:
            for optimizer in optimizers:
                optimizer.found_inf = self.broken  # type: ignore[attr-defined]  # a fused Adam leaves its step out at 1
        self._step = -1
        self._number = torch.zeros((), dtype=torch.float64, device=device)
        """The step, where a replayed update reads it."""
        self._first = torch.zeros(4, dtype=torch.float64, device=device)
        """Player, step, loss and norm of that update."""

    def at(self, step: int) -> None:
        """The updates that follow are of this step."""
        if self.deferred and step != self._step:
            self._step = step
            self._number.fill_(step)

    @property
    def state(self) -> list[Tensor]:
        """What an update may change."""
        return [self.broken, self._first]

    def note(self, player: Player, step: int, loss: Tensor, norm: Tensor) -> None:
        """An update of this loss and gradient norm follows. Raises Diverged where it may not."""
        finite = torch.isfinite(loss + norm)  # a sum is finite only if both are
        if not self.deferred:
            if not bool(finite):
                _refuse(player, step, float(loss), float(norm))
            return
        self.at(step)
        numbers = torch.full_like(self._number, PLAYERS.index(player)), self._number, loss.double(), norm.double()
        here, first = torch.stack(numbers), ~finite & (self.broken == 0)
        self._first.copy_(torch.where(first, here, self._first))
        self.broken.masked_fill_(first, 1.0)

    def check(self) -> None:
        """Raises Diverged if an update was broken; waits for the device."""
        if self.deferred and bool(self.broken):
            player, step, loss, norm = self._first.tolist()
            _refuse(PLAYERS[int(player)], int(step), loss, norm)


def _refuse(player: Player, step: int, loss: float, norm: float) -> NoReturn:
    raise Diverged(f"step {step}: the {player}'s loss is {loss:g}, its gradient norm {norm:g}")
