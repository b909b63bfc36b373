"""Parts of a step that are replayed: the same bytes as by their functions, and what cannot be replayed is noticed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.models.toggles import TOGGLES
from harness.runs.identity import run_id
from harness.settings import Settings
from harness.training import checkpoint, graphs
from harness.training.finite import Finite
from harness.training.graphs import TIMED, WARM, Graphs
from harness.training.recorder import recorder
from harness.training.trainer import Trainer
from recorded import Stand
from runs import settings, trainer

EVERY = {"r1_interval": 2, "pl_interval": 2, "style_mixing": 0.9}
STEPS = 20
PARTS = ("discriminator", "R1", "generator", "path length")


def replaying(chosen: Settings, stand: Stand | None) -> Trainer:
    """As a trainer on a GPU, with this recorder."""
    subject = trainer(chosen)
    subject.finite = Finite(subject.optimizers.values(), subject.device, deferred=True)
    others = [subject.pl_mean, *subject.finite.state]
    subject.graphs = Graphs(stand, subject.seed, subject.optimizers.values(), others)
    return subject


def trained(chosen: Settings, stand: Stand | None, steps: int = STEPS) -> tuple[Trainer, list[dict[str, Tensor]]]:
    subject = replaying(chosen, stand)
    return subject, [subject.step(step) for step in range(steps)]


@pytest.mark.parametrize(
    ("toggles", "more"),
    [
        ((), {}),
        (TOGGLES, {}),
        (TOGGLES, {"precision": "bf16", "first": "generator"}),
        ((), {"pl_mean_gradient": True, "beta1": 0.5}),
    ],
    ids=["origin", "full", "full in bf16", "with first moments"],
)
def test_replayed_steps_give_the_same_bytes(
    toggles: tuple[str, ...], more: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = settings(*toggles, **EVERY, **more)
    chosen = replace(chosen, encoders=replace(chosen.encoders, crop=0.125, pixel_noise=0.02))
    stand = Stand()
    one, losses = trained(chosen, None)
    other, again = trained(chosen, stand)
    assert checkpoint.fingerprint(one) == checkpoint.fingerprint(other)
    for mine, theirs in zip(losses, again, strict=True):
        assert mine.keys() == theirs.keys() and all(mine[name].equal(theirs[name]) for name in mine)
    assert stand.records == 4 and stand.replays == 2 * (STEPS - WARM) + 2 * (STEPS // 2 - WARM)
    told = capsys.readouterr().out
    assert all(f"graphs: {part}: replayed, 1.0 ms instead of 10.0 ms" in told for part in PARTS)


def test_conditions_that_each_part_draws_for_itself_are_those_of_the_part() -> None:
    chosen = settings(*TOGGLES, **EVERY)
    chosen = replace(chosen, condition=replace(chosen.condition, noise_per="phase"))
    assert checkpoint.fingerprint(trained(chosen, None, 8)[0]) == checkpoint.fingerprint(trained(chosen, Stand(), 8)[0])


def test_a_broken_update_within_a_replay_is_left_out_and_told() -> None:
    subject, _ = trained(settings(**EVERY), Stand(), 12)
    before = checkpoint.fingerprint(subject)
    with torch.no_grad():
        next(subject.networks.generator.parameters()).fill_(float("nan"))
    subject.step(12)
    with pytest.raises(Exception, match=r"^step 12: the discriminator's loss is nan"):
        subject.finite.check()
    assert before != checkpoint.fingerprint(subject)


def test_a_run_that_goes_on_after_a_stop_is_the_one_that_was_not_stopped() -> None:
    chosen = settings(**EVERY)
    whole, _ = trained(chosen, Stand(), 16)
    stopped, _ = trained(chosen, Stand(), 9)
    state = {name: tensor.detach().clone() for name, tensor in checkpoint.state(stopped).items()}
    again = replaying(chosen, Stand())
    checkpoint.put(again, state)
    # And one that is put back in the middle: Adam has other moments then, which nothing recorded knows.
    astray, _ = trained(chosen, Stand(), 14)
    checkpoint.put(astray, state)
    for subject in (again, astray):
        for step in range(9, 16):
            subject.step(step)
        assert checkpoint.fingerprint(subject) == checkpoint.fingerprint(whole)


def test_what_was_given_back_is_recorded_again() -> None:
    stand = Stand()
    subject, _ = trained(settings(**EVERY), stand, 10)
    subject.graphs.make_room()
    assert stand.releases == 0, "there is room"
    stand.short = True
    recorded = stand.records
    subject.graphs.make_room()
    assert stand.releases == 1 and all(w.grad is None for w in subject.networks.generator.parameters())
    for step in range(10, 14):
        subject.step(step)
    assert stand.records == 2 * recorded
    assert checkpoint.fingerprint(subject) == checkpoint.fingerprint(trained(settings(**EVERY), None, 14)[0])


def by_step(subject: Trainer) -> None:
    """The loss depends on a number that Python computes."""
    path = subject.path_step

    def take(batch: Any, step: int) -> Any:
        subject.settings = replace(subject.settings, train=replace(subject.settings.train, pl_weight=2.0 + step))
        return path(batch, step)

    subject.path_step = take  # type: ignore[method-assign]


def another_object(subject: Trainer) -> None:
    """The state is another tensor after each step."""
    path = subject.path_step

    def take(batch: Any, step: int) -> Any:
        losses = path(batch, step)
        subject.pl_mean = subject.pl_mean.clone()
        return losses

    subject.path_step = take  # type: ignore[method-assign]


def waits(subject: Trainer) -> None:
    path = subject.path_step

    def take(batch: Any, step: int) -> Any:
        float(batch.h.sum())
        return path(batch, step)

    subject.path_step = take  # type: ignore[method-assign]


def other_streams(subject: Trainer) -> None:
    """At some steps it draws from a stream more."""
    path = subject.path_step

    def take(batch: Any, step: int) -> Any:
        if step > 2 * WARM - 1:
            torch.randn((), generator=subject.stream("now and then", step))
        return path(batch, step)

    subject.path_step = take  # type: ignore[method-assign]


def test_the_stand_in_does_not_see_another_tensor_under_the_same_name() -> None:
    """As a GPU does not: so the bytes above would tell of a state that is replaced and not changed in place."""
    found = []
    for stand in (None, Stand()):
        subject = replaying(settings(**EVERY), stand)
        another_object(subject)
        for step in range(STEPS):
            subject.step(step)
        found.append(checkpoint.fingerprint(subject))
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (by_step, "a replay is off by .*: something else changes from step to step"),
        (waits, "it cannot be recorded: operation not permitted when stream is capturing"),
        (other_streams, "it cannot be recorded: it asks for the random stream 'now and then' where"),
    ],
)
def test_what_cannot_be_replayed_is_taken_by_its_function_and_told(
    wrong: Any, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen, found = settings(**EVERY), []
    for stand in (None, Stand()):
        subject = replaying(chosen, stand)
        wrong(subject)
        for step in range(STEPS):
            subject.step(step)
        found.append(checkpoint.fingerprint(subject))
    assert found[0] == found[1]
    told = capsys.readouterr().out.splitlines()
    (line,) = [line for line in told if "path length" in line]
    assert re.match(f"graphs: path length: taken by its function: {why}", line)
    assert sum("replayed" in line for line in told) == 3


def test_what_gains_nothing_is_dropped_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    stand = Stand(replay_ms=9.9)
    trained(settings(**EVERY), stand)
    assert stand.replays == 4 * (TIMED + 2), "the recorded one, the tested one, and those that were timed"
    assert capsys.readouterr().out.count("taken by its function: a replay takes 9.9 ms, its function 10.0 ms") == 4
    trained(settings(**EVERY), stand := Stand(replay_ms=9.9, measures=False))
    assert "taken by its function" not in capsys.readouterr().out and stand.replays > 30


def test_shapes_that_change_and_runs_of_several_processes_are_never_recorded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = settings("resnet_guided", **EVERY)
    stand = Stand()
    trained(replace(chosen, encoders=replace(chosen.encoders, view="crop")), stand, 8)
    assert "graphs: generator: taken by its function: a crop of another size at each step" in capsys.readouterr().out
    assert stand.records == 3
    subject = replaying(settings(**EVERY), stand := Stand())
    subject.ranks = replace(subject.ranks, count=2, is_rehearsal=True)
    assert {phase.eager for phase in subject.phases} == {"several processes share the run"}


def test_a_card_without_room_beside_recorded_parts_goes_on_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = settings(**{**EVERY, "pl_interval": 6})
    subject = replaying(chosen, stand := Stand())
    path, full = subject.path_step, [True]

    def take(batch: Any, step: int) -> Any:
        if step >= 6 and full:
            full.clear()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return path(batch, step)

    subject.path_step = take  # type: ignore[method-assign]
    for step in range(12):
        subject.step(step)
    assert stand.releases == 1 and "no room for recorded parts beside others" in capsys.readouterr().out
    assert checkpoint.fingerprint(subject) == checkpoint.fingerprint(trained(chosen, None, 12)[0])


def test_where_nothing_can_be_compared_nothing_is_replayed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    chosen = settings(**EVERY)
    with monkeypatch.context() as patch:
        patch.setattr(graphs, "_copies", full)
        subject, _ = trained(chosen, Stand(), 10)
    assert capsys.readouterr().out.count("no room to compare a replay with its function") == 4
    assert checkpoint.fingerprint(subject) == checkpoint.fingerprint(trained(chosen, None, 10)[0])


def test_the_setting_is_in_no_id_and_does_nothing_on_a_processor() -> None:
    prints = {"data": "0" * 16}
    assert len({run_id(settings(graphs=each), 0, prints) for each in ("auto", "on", "off")}) == 1
    assert recorder(torch.device("cpu"), "on") is None and recorder(torch.device("cuda"), "off") is None
