"""Several processes for one run compute what one process does: losses, gradients, weights, for every toggle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.training.ranks import Draws, Ranks, unit_of
from own_code import own_trainer
from ranked import IDEAS
from runs import settings

LIMITS = {"toggles": 1e-10, "settings": 1e-10, "ideas": 1e-10, "weights": 1e-7}
"""Adam makes steps of gradients that are zero but for their rounding."""


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def apart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """How far so many ranks are from one process, see `ranked.py`."""
    command = [sys.executable, str(Path(__file__).with_name("ranked.py")), str(request.param)]
    done = subprocess.run(
        [*command, str(tmp_path_factory.mktemp("ranks"))], capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def test_losses_gradients_and_weights_are_those_of_one_process(apart: dict[str, dict[str, float]]) -> None:
    assert len(apart["toggles"]) == 64
    far = {name: x for part, limit in LIMITS.items() for name, x in apart[part].items() if not x < limit}
    assert not far


def test_mistakes_would_show(apart: dict[str, dict[str, float]]) -> None:
    assert len(apart["mutants"]) == 3 and all(each > 0.01 for each in apart["mutants"].values())


@pytest.mark.parametrize("unit", [1, 2, 4])
@pytest.mark.parametrize("batches", [1, 3])
def test_every_row_is_on_one_rank_and_neighbours_stay_together(unit: int, batches: int) -> None:
    every = [Ranks(rank, 3, unit).places(12 * batches) for rank in range(3)]
    assert sorted(place for places in every for place in places) == list(range(12 * batches))  # type: ignore[union-attr]
    for places in every:
        assert isinstance(places, list) and len(places) == 4 * batches
        assert all(len({place // unit for place in places[i : i + unit]}) == 1 for i in range(0, len(places), unit))
        assert places[:4] == [place % 12 for place in places[-4:]], "the same of each batch that is concatenated"


def test_one_process_moves_and_draws_nothing_anew() -> None:
    alone, image = Ranks(), torch.zeros(2, 3)
    assert alone.rows(image) is image and alone.whole(image) is image and alone.places(2) == slice(None)
    alone.add_up([image])  # no process group is there
    rng: Any = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    assert Draws(rng()).normal((4, 5)).equal(torch.randn(4, 5, generator=rng()))


@pytest.mark.parametrize("name", IDEAS)
def test_a_step_is_rehearsed_in_one_process_with_the_rows_of_one(name: str) -> None:
    """Networks are shown a quarter of the batch, and ideas all of it, in the shapes of the run."""
    subject = own_trainer(IDEAS[name], settings(batch=8, pl_batch_shrink=2))
    subject.ranks = Ranks(0, 4, unit_of(subject.settings), is_rehearsal=True)
    shown: list[int] = []
    subject.networks.discriminator.register_forward_pre_hook(lambda _, given: shown.append(len(given[0])))
    batch = subject.batch(0)
    assert (len(batch.real), len(batch.h)) == (2, 8)
    for phase in subject.phases:
        assert all(torch.isfinite(each) for each in phase.take(batch, 0).values())
    assert max(shown) <= 4


def test_draws_do_not_depend_on_the_number_of_ranks() -> None:
    """Rows of one stream, which goes on at the same place on every rank."""
    rngs = [torch.Generator().manual_seed(3) for _ in range(3)]
    whole = Draws(rngs[2]).normal((8, 2))
    parts = [Draws(rngs[rank], Ranks(rank, 2)).normal((4, 2)) for rank in range(2)]
    assert torch.stack(parts, 1).flatten(0, 1).equal(whole)
    assert all(rng.get_state().equal(rngs[2].get_state()) for rng in rngs)
