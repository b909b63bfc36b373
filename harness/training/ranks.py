"""Several processes for one run: each computes its rows of every batch, and the run is that of one process.

One rule makes it exact. A process (a rank) puts its rows alone through the networks. What the networks give (features,
logits, norms of gradients, path lengths) is gathered from all ranks, the own rows with their gradient, the others as
constants. Then every rank evaluates the whole loss, and the gradients of the networks' weights are summed. Random
numbers are drawn for the whole batch, and each rank takes its rows.

So code stands on one of two sides: the networks see own rows, and all else, a study's own terms too, sees the whole
batch, the same on every rank. `rows` and `whole` lead from one side to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from harness.settings import Settings


class RankLost(Exception):
    """Another rank did not come to where all meet: it has died or hangs, and does not say so itself."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run; by default it is the only one, and nothing is moved or copied."""

    rank: int = 0
    count: int = 1
    unit: int = 1
    """So many neighbours in a batch go to the same rank; the units go round the ranks."""
    is_rehearsal: bool = False
    """The others are not there: their rows are taken to be as the own ones."""

    def rows(self, whole: Tensor) -> Tensor:
        """The own rows [n,...] of [n * count,...]: one batch or several one behind the other."""
        if self.count == 1:
            return whole
        own: Tensor = _Rows.apply(whole, self)
        return own

    def whole(self, own: Tensor) -> Tensor:
        """[n,...] of every rank as [n * count,...], in the batch's order; only the own rows carry a gradient.

        To be called by all ranks in the same order.
        """
        if self.count == 1:
            return own
        whole: Tensor = _Whole.apply(own, self)
        return whole

    def places(self, size: int) -> slice | list[int]:
        """Where the own rows stand in a batch of that size."""
        if self.count == 1:
            return slice(None)
        places: list[int] = self.rows(torch.arange(size)).tolist()
        return places

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Replace each by its sum over the ranks, of the same bits on all of them."""
        if self.count == 1 or self.is_rehearsal or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _together():
            dist.all_reduce(flat)
        for gradient, total in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def refuse_drift(self, fingerprint: bytes) -> None:
        """Raises RuntimeError where the ranks, which all call this, have not the same fingerprint."""
        every: list[bytes] = [b""] * self.count
        with _together():
            dist.all_gather_object(every, fingerprint)
        if len(set(every)) > 1:
            raise RuntimeError("the processes of this run have not the same weights any more")


@contextmanager
def _together() -> Iterator[None]:
    """Around what all ranks do together. Raises RankLost."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(str(error)) from error


class _Rows(torch.autograd.Function):
    """From the whole batch, which every rank has, to own rows: their gradients come back from all ranks."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        own = whole.reshape(-1, ranks.count, ranks.unit, *whole.shape[1:])[:, ranks.rank]
        return own.clone(memory_format=torch.contiguous_format).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.ranks.whole(grads[0]), None


class _Whole(torch.autograd.Function):
    """From own rows to the whole batch: every rank has the same gradient of it, and takes its rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        gathered = own.new_empty((ranks.count * len(own), *own.shape[1:]))
        if ranks.is_rehearsal:
            gathered.view(ranks.count, *own.shape).copy_(own)
        else:
            with _together():
                dist.all_gather_into_tensor(gathered, own.contiguous())
        by_rank = gathered.view(ranks.count, -1, ranks.unit, *own.shape[1:])
        return by_rank.transpose(0, 1).flatten(0, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.ranks.rows(grads[0]), None


@dataclass(frozen=True)
class Draws:
    """Random numbers of a stream for whole batches, of which this rank takes its rows."""

    rng: torch.Generator
    ranks: Ranks = Ranks()

    def normal(self, size: Sequence[int], **options: Any) -> Tensor:
        """Own rows of the given size from N(0, 1)."""
        return self.ranks.rows(torch.randn(self._whole(size), generator=self.rng, **self._here(options)))

    def uniform(self, size: Sequence[int]) -> Tensor:
        """Own rows of the given size from [0, 1)."""
        return self.ranks.rows(torch.rand(self._whole(size), generator=self.rng, **self._here({})))

    def integers(self, end: int, size: Sequence[int]) -> Tensor:
        """Own rows of the given size from 0, 1, ..., end - 1."""
        return self.ranks.rows(torch.randint(end, self._whole(size), generator=self.rng, **self._here({})))

    def _whole(self, size: Sequence[int]) -> tuple[int, ...]:
        return (size[0] * self.ranks.count, *size[1:])

    def _here(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"device": self.rng.device} | options


def unit_of(settings: Settings) -> int:
    """How many neighbours in a batch one rank must have together.

    Groups of the contrast are batches of their own to the discriminator, and groups of its minibatch statistics may be
    neighbours too. Strided ones stay together when single images go round the ranks.
    """
    network = settings.discriminator
    group = network.minibatch_std_group if network.minibatch_std_layout == "neighbours" else 0
    return settings.loss.group or group or 1
