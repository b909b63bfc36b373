"""`import harness`: its names and types, that it loads nothing heavy, and that it says the same as the command line."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import harness
from harness.analysis.export import as_json
from harness.cli.main import app

ROOT = Path(harness.__file__).parent.parent
FUNCTIONS = (
    *("analyse", "compare_designs", "effect_table", "evaluate", "first_weights", "import_weights", "load", "pack"),
    *("plan", "run_grid", "tune", "unpack", "write_report"),
)
HEAVY = ("torch", "torchvision", "mlflow", "pandas", "numpy", "scipy", "matplotlib", "optuna", "pydantic")
STUDY = "study: tiny\ntoggles: [mix_logits, transform_w]\ndesign: {include: [full], seeds: 2}\n"
RESULTS = """toggle_a,toggle_b,seed,fid,my_score
0,0,0,50.0,1.0
0,0,1,52.0,1.1
1,0,0,45.0,1.3
1,0,1,46.5,1.2
0,1,0,51.0,1.0
0,1,1,52.5,1.2
1,1,0,44.0,1.5
1,1,1,46.0,1.4
"""


@pytest.fixture(autouse=True)
def folder(without_content: Path) -> Path:
    """A working folder with a study, whose data set and encoders need not be read, and a CSV."""
    (without_content / "ablations.yaml").write_text(STUDY)
    (without_content / "results.csv").write_text(RESULTS)
    return without_content


def command(*words: str) -> Any:
    """The JSON that a verb prints."""
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_name_is_there_once_and_others_are_not() -> None:
    assert set(harness.__all__) <= set(dir(harness)) and len(set(harness.__all__)) == len(harness.__all__)
    for name in harness.__all__:
        assert getattr(harness, name) is getattr(harness, name)
    assert {name for name in harness.__all__ if inspect.isfunction(getattr(harness, name))} == set(FUNCTIONS)
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'laod'"):
        _ = harness.laod  # type: ignore[attr-defined]


def test_no_name_is_that_of_a_module() -> None:
    """Python sets a package's attribute to each of its modules as it is imported, in the place of the function."""
    modules = {path.stem for path in Path(harness.__file__).parent.iterdir()}
    assert not modules & set(harness.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_documented_and_typed(name: str) -> None:
    function = getattr(harness, name)
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert section in function.__doc__
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        assert f"{parameter.name}:" in function.__doc__


def test_classes_and_what_they_give_are_documented_and_typed() -> None:
    for name in harness.__all__:
        value = getattr(harness, name)
        if not inspect.isclass(value):
            continue
        assert value.__doc__ and not value.__doc__.startswith(f"{name}("), f"{name} has no docstring"
        for attribute, member in vars(value).items():
            function = getattr(member, "fget", getattr(member, "func", member))
            if not attribute.startswith("_") and inspect.isfunction(function):
                assert "return" in function.__annotations__, f"{name}.{attribute} is not typed"
                assert function.__doc__, f"{name}.{attribute} has no docstring"


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    program = "import sys, harness; harness.load; print([name for name in sys.argv[1:] if name in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", program, *HEAVY]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(harness.__file__).parent.parent
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "harness.__version__"}
    assert harness.__version__.count(".") == 2
    assert (ROOT / "harness" / "py.typed").exists() and "py.typed" in project["tool"]["setuptools"]["package-data"][
        "harness"
    ]


def test_a_study_loads_and_plans_as_on_the_command_line() -> None:
    study = harness.load("ablations.yaml", overrides=["train.kimg=2"])
    assert isinstance(study, harness.Study) and study.settings.train.kimg == 2
    forecast = harness.plan(study, seconds_per_kimg=6, sd=0.05)
    assert isinstance(forecast, harness.Forecast) and isinstance(forecast.plan, harness.Plan)
    words = ["plan", "ablations.yaml", "--set", "train.kimg=2", "--seconds-per-kimg", "6", "--sd", "0.05"]
    assert json.loads(json.dumps(forecast.as_dict())) == command(*words)
    compared = harness.compare_designs(forecast, "1h")
    assert compared == harness.compare_designs(forecast, 3600)
    assert json.loads(json.dumps(compared.as_dict())) == command(*words, "--budget", "1h")["budget"]


def test_a_csv_is_analysed_as_on_the_command_line() -> None:
    columns = harness.CsvColumns(higher=("my_score",))
    analysis = harness.analyse("results.csv", "toggle_a", {"fid": 5}, columns)
    assert isinstance(analysis, harness.Analysis) and analysis.of("fid").margin == 5
    words = ["--baseline", "toggle_a", "--margin", "fid=5", "--higher", "my_score"]
    assert json.loads(json.dumps(as_json(analysis))) == command("analyze", "results.csv", *words)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: harness.load("gone.yaml"), "gone.yaml"),
        (lambda: harness.load("ablations.yaml", overrides=["train.kimgs=2"]), "train.kimgs"),
        (lambda: harness.plan(harness.load("ablations.yaml"), sd=0), "must be greater than 0"),
        (lambda: harness.analyse("results.csv", margins={"kid": 1}), "no metric 'kid'"),
        (lambda: harness.analyse("results.csv", "gone"), "baseline 'gone'"),
        (lambda: harness.analyse("results.csv", "toggle_a").of("fd"), "fd: not measured by these runs; measured are"),
        (lambda: harness.run_grid(harness.load("ablations.yaml"), ["gone"]), "no cell 'gone'"),
    ],
)
def test_mistakes_raise_what_says_how_to_put_them_right(call: Any, message: str) -> None:
    with pytest.raises(harness.HarnessError, match=message):
        call()


def test_a_program_that_starts_processes_is_not_run_again_in_each_of_them(tmp_path: Path) -> None:
    """Without asking whether it is `__main__`, as notebooks and short scripts do."""
    program = tmp_path / "program.py"
    program.write_text("""
import os
from harness.processes import run_in_processes
from harness.scheduler.forkserver import run_apart
print("begun", flush=True)
print(run_apart(abs, -3), *sorted(run_in_processes(abs, [-1, -2], 2, 'counts')))
""")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.returncode) == ("begun\n3 1 2\n", 0), done.stderr
