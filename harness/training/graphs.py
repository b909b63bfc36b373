"""Parts of a step as graphs: what a GPU was asked for is recorded once, and asked for again as a whole.

A part (the discriminator's step, R1, the generator's step, path length) is thousands of small kernels, each of which
the host launches by itself; replayed, they are one launch. The functions of the trainer stay what they are, and the
reference: a part is taken by its function first, as a step of the run like any other, and recorded when it comes again.
Recording does nothing to the run's state. Replaying does what the function would do, as long as nothing but this
changes from step to step:

- the batch, which is copied to where the recorded part reads it;
- random streams, one for each that the part has asked for, set to the seed of the step before each replay;
- the step's number, for the message of a broken update, which `Finite.at` keeps on the device.

That nothing else does is tested once a part: its first replay at another step than the recorded one is compared with
what the function makes of the same state, which is what the run goes on from. A part that differs, cannot be recorded
or does not gain is taken by its function to the end, and the log says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.data.batches import Batch
from harness.rng import torch_generator, torch_seed
from harness.training.recorder import Recorder

WARM = 3
"""So often a part is taken by its function first: libraries load kernels, Adam makes its moments."""
TIMED = 3
"""So many replays are timed."""
GAIN = 0.97
"""A part that takes longer than this share of its function's time is not worth its memory."""
ALIKE = 0.01
"""How far what a replay makes may be off what its function makes, relative to how far that moved. Equal kernels differ
in the order of sums at most; another random number, or a weight that was left out, moves it by more than a tenth."""
ROUNDING = 1e-4
"""And relative to this share of its size, where it hardly moved."""

Losses = dict[str, Tensor]


class Phase(NamedTuple):
    """One player's step or its regulariser."""

    name: str
    take: Callable[[Batch, int], Losses]
    interval: int = 1
    """Steps between two of it."""
    eager: str = ""
    """Why it cannot be replayed, if so."""


@dataclass
class _Part:
    """What is known of a part."""

    taken: int = 0
    """How often by its function, since the process began."""
    purposes: list[str] = field(default_factory=list)
    """Of the random streams that it asks for, in order."""
    generators: list[torch.Generator] = field(default_factory=list)
    replay: Callable[[], object] | None = None
    names: list[str] = field(default_factory=list)
    losses: Tensor | None = None
    """[len(names)], written by each replay."""
    eager: list[tuple[Any, Any]] = field(default_factory=list)
    """When its function was begun and done, on the device."""
    replayed: list[tuple[Any, Any]] = field(default_factory=list)
    is_tested: bool = False
    is_decided: bool = False
    is_dropped: bool = False


class Graphs:
    """Takes the parts of a trainer's steps, by their functions or by replaying them."""

    def __init__(
        self,
        recorder: Recorder | None,  # None: every part is taken by its function
        seed: int,
        optimizers: Iterable[torch.optim.Adam],
        others: Sequence[Tensor],   # what parts change, always in place, beside weights and moments
    ) -> None:  # fmt: skip
        self._recorder, self._seed = recorder, seed
        self._optimizers, self._others = list(optimizers), others
        self._parts = dict[str, _Part]()
        self._inputs: Batch | None = None
        self._loaded = list[Tensor]()
        self._asked = list[str]()
        self._given: list[tuple[str, torch.Generator]] | None = None

    def stream(self, purpose: str, step: int, device: torch.device) -> torch.Generator:
        """The random stream of the run's seed, a purpose and the step; while a part is recorded, one of its own."""
        if self._given is None:
            if self._recorder:
                self._asked.append(purpose)
            return torch_generator(self._seed, purpose, step, str(device))
        expected, generator = self._given.pop(0) if self._given else ("none", None)
        if purpose != expected or generator is None:
            raise RuntimeError(f"it asks for the random stream {purpose!r} where it asked for {expected!r} before")
        return generator

    def take(self, phase: Phase, batch: Batch, step: int) -> Losses:
        """Change the state as the part does; its losses."""
        if self._recorder is None:
            return phase.take(batch, step)
        part = self._parts.setdefault(phase.name, _Part())
        if phase.eager:
            self._drop(part, phase.name, phase.eager)
        if part.is_dropped or part.taken < WARM:
            return self._by_function(part, phase, batch, step)
        if part.replay is None:
            self._record(part, phase, batch, step)
        elif not part.is_tested:
            return self._tested(part, phase, batch, step)
        elif not part.is_decided:
            self._decide(part, phase.name)
        return self._by_function(part, phase, batch, step) if part.is_dropped else self._replay(part, batch, step)

    def make_room(self) -> None:
        """Before much else is computed: give memory back where it is short. Parts are recorded again when they come."""
        if self._recorder and self._recorder.is_short():
            self.release()

    def release(self) -> None:
        """Forget what is recorded, as when the tensors that it changes were replaced by others."""
        recorded = [part for part in self._parts.values() if part.replay]
        for part in recorded:
            _forget(part)
        if recorded and self._recorder:
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)  # gradients lie in that memory
            self._recorder.release()

    def _by_function(self, part: _Part, phase: Phase, batch: Batch, step: int) -> Losses:
        assert self._recorder
        is_first = part.taken < WARM and not part.is_dropped
        begin = self._recorder.mark() if is_first else None
        self._asked.clear()
        try:
            losses = phase.take(batch, step)
        except torch.OutOfMemoryError:
            if not any(each.replay for each in self._parts.values()):
                raise
            losses = {}
        if not losses:  # nothing is changed before a part's memory is at its peak; the error holds none of it any more
            self.release()
            for name, each in self._parts.items():
                self._drop(each, name, "the GPU has no room for recorded parts beside others")
            losses = phase.take(batch, step)
        if is_first:
            part.taken += 1
            part.purposes = [*self._asked]
            part.eager.append((begin, self._recorder.mark()))
        return losses

    def _record(self, part: _Part, phase: Phase, batch: Batch, step: int) -> None:
        assert self._recorder
        inputs = self._load(batch)
        part.generators = [self._recorder.generator() for _ in part.purposes]
        self._set_streams(part, step)
        self._given = list(zip(part.purposes, part.generators, strict=True))

        def work() -> None:
            losses = phase.take(inputs, step)
            part.names, part.losses = [*losses], torch.stack([loss.float() for loss in losses.values()])

        try:
            with _recordable(self._optimizers):
                part.replay = self._recorder.record(work, part.generators)
        except RuntimeError as error:
            first = error.__context__ or error  # the end of a recording that went wrong is an error too
            self._drop(part, phase.name, f"it cannot be recorded: {str(first).strip().partition(chr(10))[0]}")
        finally:
            self._given = None

    def _replay(self, part: _Part, batch: Batch, step: int) -> Losses:
        assert self._recorder and part.replay and part.losses is not None
        begin = self._recorder.mark() if not part.is_decided else None
        self._load(batch)
        self._set_streams(part, step)
        part.replay()
        if begin is not None and part.is_tested:
            part.replayed.append((begin, self._recorder.mark()))
        return dict(zip(part.names, part.losses.clone().unbind(), strict=True))

    def _load(self, batch: Batch) -> Batch:
        """The batch where recorded parts read it; of what is there already nothing is copied."""
        if self._inputs is None:
            self._inputs, self._loaded = batch.clone(), batch.tensors
        for place, (mine, given) in enumerate(zip(self._inputs.tensors, batch.tensors, strict=True)):
            if self._loaded[place] is not given:
                mine.copy_(given)
        self._loaded = batch.tensors
        return self._inputs

    def _set_streams(self, part: _Part, step: int) -> None:
        for purpose, generator in zip(part.purposes, part.generators, strict=True):
            generator.manual_seed(torch_seed(self._seed, purpose, step))

    def _tested(self, part: _Part, phase: Phase, batch: Batch, step: int) -> Losses:
        """Take the part by its function, after a replay of which nothing is left but how far it was off."""
        groups = self._changed()
        weights = [w for optimizer in self._optimizers for group in optimizer.param_groups for w in group["params"]]
        state = [*weights, *(each for group in groups for each in group)]
        try:
            before = _copies(state)
            room = _copies(state[len(weights) :])
        except torch.OutOfMemoryError:
            self._drop(part, phase.name, "the GPU has no room to compare a replay with its function")
            return self._by_function(part, phase, batch, step)
        del room
        replayed, after = self._replay(part, batch, step), [_copies(group) for group in groups]
        with torch.no_grad():
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

        losses, at = phase.take(batch, step), len(weights)
        off = max(abs(float(replayed[name] / loss) - 1) if loss else 0.0 for name, loss in losses.items())
        for group, others in zip(groups, after, strict=True):
            size = _distance(group, before[at : at + len(group)]) + ROUNDING * _distance(group)
            error, at = _distance(group, others), at + len(group)
            off = max(off, error / size if size else float("inf") if error else 0.0)
        part.is_tested = True
        if not off <= ALIKE:
            self._drop(part, phase.name, f"a replay is off by {off:.0%}: something else changes from step to step")
        return losses

    def _changed(self) -> list[list[Tensor]]:
        """What parts change beside the weights, by kinds. Of roundings Adam makes whole steps of the weights."""
        moments = [[*adam.state.values()] for adam in self._optimizers]
        kinds = ("step", "exp_avg", "exp_avg_sq")
        return [
            *([each[kind] for each in its] for its in moments for kind in kinds),
            *([each] for each in self._others),
        ]

    def _decide(self, part: _Part, name: str) -> None:
        """Whether to go on replaying, as soon as the device has come to the end of so many replays."""
        assert self._recorder
        if self._recorder.measures and len(part.replayed) < TIMED:
            return
        times = [[self._recorder.ms(*each) for each in marks] for marks in (part.eager, part.replayed)]
        known = [[each for each in them if each is not None] for them in times]
        if [*map(len, known)] != [*map(len, times)]:
            return
        eager, replay = (min(them, default=0.0) for them in known)
        if self._recorder.measures and replay > GAIN * eager:
            self._drop(part, name, f"a replay takes {replay:.1f} ms, its function {eager:.1f} ms")
            return
        part.is_decided = True
        told = f", {replay:.1f} ms instead of {eager:.1f} ms" if self._recorder.measures else ""
        print(f"graphs: {name}: replayed{told}")

    def _drop(self, part: _Part, name: str, why: str) -> None:
        if not part.is_dropped:
            part.is_dropped = True
            _forget(part)
            print(f"graphs: {name}: taken by its function: {why}")


def _forget(part: _Part) -> None:
    part.replay = part.losses = None
    part.generators = []


def _copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _distance(one: Sequence[Tensor], other: Sequence[Tensor] = ()) -> float:
    """Between two lists of tensors; without a second one, from 0."""
    pairs = zip(one, other, strict=True) if other else ((each, torch.zeros_like(each)) for each in one)
    squares = [(a.detach().double() - b.double()).square().sum() for a, b in pairs]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


@contextmanager
def _recordable(optimizers: Iterable[torch.optim.Optimizer]) -> Iterator[None]:
    """Inside the block they may take recorded steps; outside of it they warn if they were to be used so."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False
