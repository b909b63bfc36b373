"""The words of a script's command line, and what stands in braces in them."""

from __future__ import annotations

import sys

from harness.command.words import PLACES, program, shown, unknown_places
from harness.settings import CommandConfig


def test_the_words_of_a_program_are_filled_in() -> None:
    args = {"lr": 1e-5, "steps": 40, "no-magp": True, "ema": False, "name": "-x y"}
    run = ("{python}", "t.py", "{seed}-{cell}", "{args}", "{args.lr}", "{args.ema}", '{"a": 1}', "${HOME}")
    places = {name: f"<{name}>" for name in PLACES if name not in ("python", "args")}
    assert program(CommandConfig(run=run, args=args), places) == [
        *(sys.executable, "t.py", "<seed>-<cell>", "--lr=1e-05", "--steps=40", "--no-magp", "--name=-x y"),
        *("1e-05", "false", '{"a": 1}', "${HOME}"),
    ]
    assert shown(CommandConfig(run=("{python}", "{seed}", "{args}"), args={"a": "b c"})) == "{python} {seed} '--a=b c'"


def test_braces_that_nothing_fills_are_named() -> None:
    found = dict(unknown_places(("{sead}", "x{args}", "{args.q}", "{args.lr}"), {"lr": 1.0}))
    assert "did you mean 'seed'" in found[0] and "a word of its own" in found[1] and "{args.q}" in found[2]
    assert len(found) == 3
    wrong = {"{Seed}": "'seed'", "--out={FOLDER}/a": "'folder'", "{arg.lr}": "'args.lr'", "{args_lr}": "'args.lr'"}
    for word, meant in wrong.items():
        assert f"did you mean {meant}? allowed: {{python}}, " in dict(unknown_places((word,), {"lr": 1.0}))[0], word
    texts = (
        '{"a": 1}',
        '{"a": {seed}}',
        "${HOME}",
        "{{seed}}",
        "{}",
        "{0}",
        "{1,3}",
        "{a,b}",
        "{ Seed }",
        "x{",
        "{a:d}",
    )
    assert not [*unknown_places(texts, {})]
    command = CommandConfig(run=("{args}", "{args.name}"), args={"name": "{Epoch}-{seed}"})
    assert program(command, {}) == ["--name={Epoch}-{seed}", "{Epoch}-{seed}"], "the value of a setting goes as it is"
