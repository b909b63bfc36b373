"""What `harness plan` says of the networks that start from what `init` names."""

from __future__ import annotations

import pytest

from harness.cli import show_plan


def test_plan_says_which_networks_start_from_it_and_which_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"taken": ["a"], "adapted": {}, "new": [], "unused": []}
    part = {**whole, "new": ["b4"]}
    outcomes = {
        "origin": {"generator": whole},
        "x": {"generator": whole},
        "y": {"generator": whole, "discriminator": part, "averaged": whole},
        "z": {"averaged": whole},
    }
    show_plan.first_weights(outcomes)
    lines = " ".join(capsys.readouterr().out.split()).split(" init: ")
    assert {line.removeprefix("init: ") for line in lines} == {
        "origin and x: every layer of the generator starts from it",
        "origin and x: the averaged generator starts as the generator does",
        "origin and x: the discriminator: drawn by the seed, as init has no weights for it",
        "y: every layer of the generator and the averaged generator starts from it",
        "y: discriminator: with first weights of their own: b4",
        "z: every layer of the averaged generator starts from it",
        "z: the generator and the discriminator: drawn by the seed, as init has no weights for it",
    }
