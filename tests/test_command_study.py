"""The `command` section of a study file: what is refused with its place, and what decides a run's identity."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from command_script import STUDY
from harness.cli.doctor_study import command_findings
from harness.errors import SpecError
from harness.runs.identity import decisive, relocated, run_id
from harness.settings import CommandConfig, Settings
from harness.study.load import load_study
from harness.study.plan import make_plan, planned_cells
from harness.study.schema import Study

IDEAS = "toggles: [{loud: {command.args.noise: 2}}]\nlevels: {command.args.steps: [6, 12]}\n"


def load(folder: Path, old: str = "", new: str = "", *overrides: str) -> Study:
    text = STUDY + IDEAS
    assert old in text
    (folder / "train.py").write_text("print(1)\n")
    (folder / "study.yaml").write_text(text.replace(old, new) if old else text)
    return load_study(folder / "study.yaml", None, overrides)


def test_values_of_the_script_keep_the_types_of_their_defaults(tmp_path: Path) -> None:
    study = load(tmp_path, "", "", "command.args.noise=3")
    assert study.settings.command.args == {"mode": "good", "noise": 3.0, "steps": 6, "pause": 0.0, "slow": 0.0}
    assert type(study.settings.command.args["noise"]) is float
    assert dict(study.toggles[0].patch) == {"command.args.noise": 2.0}
    assert study.factors[0].levels == ("steps=6", "steps=12")


@pytest.mark.parametrize(
    ("old", "new", "override", "said"),
    [
        ("", "", "command.args.nois=3", "--set command.args.nois=3: command.args.nois: unknown setting; did you"),
        ("", "", "command.args.steps=1.5", "a whole number as 6 is, its default, not 1.5; write the default as 6.0"),
        ("", "", "command.args.mode=3", "text as 'good' is, its default, not 3; put it into quotation marks: '3'"),
        ("", "", "args.steps=5", "args: unknown setting; did you mean 'command.args'?"),
        ("args.noise: 2", "x: 2, noise: 2", "", "loud.noise: unknown setting; did you mean 'command.args.noise'?"),
        ('"{seed}"', "{seed}", "", 'must be text, not {"seed": null}; put it into quotation marks: \'{seed}\''),
        ('[\"{python}\", train.py,', "'{python} train.py' #", "", 'write ["{python}", "train.py"]'),
        ("noise: 1.0", "noise: [0, 1]", "", "or text, not [0, 1]; put it into quotation marks: '[0, 1]'"),
        ("", "", "train.kimg=3", "train.kimg: is read by the built-in trainer alone"),
        ("args.noise: 2", "args.nois: 2", "", "study.yaml:10:19: toggles[0].loud.command.args.nois: unknown"),
        ("args.noise: 2", "args.noise: loud", "", "command.args.noise: must be a number as 1.0 is"),
        ("steps: [6, 12]", "steps: [6, x]", "", "levels.command.args.steps: must be a whole number"),
        ("steps: [6, 12]", "step: [6, 12]", "", "did you mean 'steps'?"),
        ("{loud: {command.args.noise: 2}}", "resnet_guided", "", "resnet_guided sets loss.resnet_guided, which the"),
        ('"{seed}"', '"{sead}"', "", "nothing is called {sead}; did you mean 'seed'?"),
        ('"{seed}"', '"{Seed}"', "", "command.run[3]: nothing is called {Seed}; did you mean 'seed'?"),
        ("code: [train.py]", "code: []", "", "command.code: missing"),
        ("code: [train.py]", "code: [../x.py]", "", "must be a path below the study file's folder"),
        ("code: [train.py]", "code: [y.py]", "", "y.py: names no file in"),
        ("code: [train.py]", "code: ['runs/*']", "", "runs/*: names no file in"),
        ("code: [train.py]", "code: ['reports/*.py']", "", "what is in reports is made by runs, and is no code of"),
        ("  run:", "  rum:", "", "command.rum: unknown setting; did you mean 'run'?"),
        ("[\"{python}\"", "[\"\"", "", "study.yaml:5:9: command.run[0]: must be a program, such as"),
        ("{command.args.noise: 2}", "{command.run: []}", "", "loud: command.run[0]: must be a program, such as"),
        ("train.py, --seed", '"train.py\\0", --seed', "", "command.run[1]: holds the character NUL"),
        ("mode: good", "mode: good, a-b: 1, a_b: 2", "", "command.args.a-b: and a_b are one name in"),
        ("mode: good", 'mode: "a\\0b"', "", "command.args.mode: holds the character NUL"),
        ("args.noise: 2", 'args.mode: "a\\0b"', "", "study.yaml:10:11: toggles[0]: holds the character NUL"),
        ("args.steps: [6, 12]", 'args.mode: [good, "a\\0b"]', "", "levels.command.args.mode: holds the character NUL"),
        ("mode: good", f"mode: {'x' * 100_001}", "", "command.args.mode: is longer than the 100,000 bytes"),
        ("noise: 1.0", "n.o: 1.0", "", "a setting of the script is a letter"),
        ("noise: 1.0", "noise: null", "", "a whole number or a number or text, not null; write '' for none"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_with_their_place(tmp_path: Path, old: str, new: str, override: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, old, new, *([override] if override else []))
    assert said in str(caught.value)


def test_a_profile_changes_the_settings_that_the_file_has_and_no_others(tmp_path: Path) -> None:
    load(tmp_path)
    text = (tmp_path / "study.yaml").read_text()
    (tmp_path / "study.yaml").write_text(text + "profiles: {big: {command: {args: {steps: 12}}}}\n")
    study = load_study(tmp_path / "study.yaml", "big", ["levels.command.args.steps=[12, 24]"])
    assert study.settings.command.args["steps"] == 12 and study.settings.command.args["mode"] == "good"
    (tmp_path / "study.yaml").write_text(text + "profiles: {big: {command: {args: {stepz: 12}}}}\n")
    with pytest.raises(
        SpecError, match=r"study\.yaml:12:.*command\.args\.stepz: unknown setting; did you mean 'steps'"
    ):
        load_study(tmp_path / "study.yaml")


COMMAND = CommandConfig(run=("{python}", "t.py"), args={"lr": 1.0}, code=("t.py",))
PRINTS = {"data": "d", "metrics.clip": "c", "command.code": "k"}


def test_nothing_of_the_trainer_and_all_of_the_script_is_in_an_id() -> None:
    settings = Settings(command=COMMAND)
    assert set(decisive(settings)) <= {
        *("command.run", "command.args.lr", "data.resolution", "metrics.side", "metrics.samples", "metrics.seed"),
    }
    first = run_id(settings, 0, PRINTS)

    def changed(path: str, value: object) -> str:
        return run_id(settings.with_values({path: value}), 0, PRINTS)

    for path, value in {
        "train.kimg": 1.0, "loss.tau": 9.0, "generator.z_dim": 8, "encoders.crop": 0.5, "condition.text_noise": 0.1,
        "data.mirror": True, "init.generator": "x", "command.hours": 3.0, "command.code": ("*.py",),
    }.items():  # fmt: skip
        assert changed(path, value) == first, path
    others = {
        changed("command.args.lr", 2.0), changed("command.run", ("x",)), changed("command.snapshots", 2),
        changed("metrics.samples", 99), changed("data.resolution", 8), run_id(settings, 1, PRINTS),
        run_id(settings, 0, {**PRINTS, "command.code": "l"}),
    }  # fmt: skip
    assert len(others | {first}) == 8


def test_a_time_limit_reaches_runs_that_are_there() -> None:
    old = Settings(command=COMMAND)
    assert relocated(old, old.with_values({"command.hours": 2.0})).command.hours == 2.0


def test_a_cell_has_the_text_of_its_code(tmp_path: Path) -> None:
    study = load(tmp_path)
    (cell,) = planned_cells(study, {"origin": ()})
    assert dict(cell.source) == {"train.py": "print(1)\n"}


def test_a_program_or_script_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    wrong = '["pyhton", trian.py, /nowhere/x.py, ./train.py, --x.py, "{study}/y.py", "cd a; python z.py"'
    study = load(tmp_path, '["{python}", train.py', wrong)
    told = {
        "command.run[0]": "this machine has no program 'pyhton'; install it or correct the name, unless workers on",
        "command.run[1]": "'trian.py' is no file of command.code; did you mean 'train.py'? the script runs in a copy",
        "command.run[2]": "this machine has no /nowhere/x.py; install it or",
    }
    found = [*command_findings(study)]
    assert [each.subject for each in found] == [*told] and all(each.caveat and not each.fix for each in found)
    assert all(each.detail.startswith(told[each.subject]) for each in found)
    plan = make_plan(study)
    texts = [f"{each.subject}: {each.detail}" for each in found]
    assert all([*plan.remarks(cell)[: len(texts)]] == texts for cell in plan.cells)
    for program in ("{python}", sys.executable, "sh", "./own.sh"):
        assert not [*command_findings(load(tmp_path, "{python}", program))], program
