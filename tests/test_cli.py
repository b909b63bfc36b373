"""The command line: exit codes, what goes to which stream, JSON shapes, and that it starts fast."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fake_mlflow import Server, served
from harness.cli import main
from harness.grid.run import GridResult
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim
from harness.study.load import load_study
from harness.terminal import progress
from kept import harness

__all__ = ["harness"]
VERBS = ("init", "plan", "terms", "run-grid", "status", "report", "sample", "evaluate", "ui", "sync", "doctor",
         "ls", "rm", "gc")  # fmt: skip
STUDY = "study: tiny\ntoggles: [mix_logits, transform_w]\ndesign: {include: [full], seeds: 2}\n"


@pytest.fixture(autouse=True)
def folder(without_content: Path) -> Path:
    """A working folder with a study, whose data set and encoders need not be read."""
    (without_content / "ablations.yaml").write_text(STUDY)
    return without_content


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments in the working folder."""
    path = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=path)


def test_help_starts_without_heavy_modules() -> None:
    told = python("-c", """
import sys
from harness.cli.main import main
sys.argv = ["harness", "--help"]
try:
    main()
except SystemExit:
    print([name for name in ("torch", "mlflow", "pydantic", "numpy", "pandas", "rich") if name in sys.modules])
""")  # fmt: skip
    assert told.stdout.strip().endswith("[]"), told.stderr
    assert all(f"  {verb} " in told.stdout for verb in VERBS)


def test_it_runs_as_a_module() -> None:
    told = python("-m", "harness", "plan", "nope.yaml")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("error: nope.yaml: no such file; the folder . holds ablations.yaml")
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples_and_the_common_options(harness: Any, verb: str) -> None:
    code, out, _ = harness(verb, "--help")
    assert code == 0
    assert len(re.findall(rf"^  harness {verb}", out, re.MULTILINE)) >= 1
    for option in ("--quiet", "--verbose", *(() if verb in ("init", "evaluate") else ("--profile", "--set"))):
        assert option in out


def test_usage_errors_exit_2(harness: Any) -> None:
    assert harness("plann")[0] == 2
    assert harness("plan", "--slow")[0] == 2
    assert harness("run-grid", "--slots", "0")[0] == 2


def test_plan_lists_every_run(harness: Any) -> None:
    code, out, _ = harness("plan")
    assert code == 0
    made = json.loads(harness("plan", "--json")[1])
    assert len(made["runs"]) == 8 and all(run["id"] in out for run in made["runs"])
    assert "tiny: 4 cells, 8 runs of 25000 kimg at 256 px: 8 new" in out
    assert set(made) == {
        "study",
        "profile",
        "baseline",
        "design",
        "levels",
        "can",
        "runs",
        "cells",
        "dropped",
        "cost",
        "detects",
        "added_seeds",
        "code",
    }


def test_overrides_and_profiles_reach_the_study(harness: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "other.yaml").write_text(STUDY + "profiles: {short: {train: {kimg: 1}}}\n")
    _, out, _ = harness("plan", "other.yaml", "--profile", "short", "--set", "design.seeds=1", "--set", "study=renamed")
    assert "renamed (profile short): 4 cells, 4 runs of 1 kimg" in out
    one = ("--set", "design.kind=list", "--set", "design.include=[origin]", "--set", "design.seeds=1")
    assert "tiny: 1 cell, 1 run of" in harness("plan", "other.yaml", *one)[1]
    monkeypatch.setenv("HARNESS_PROFILE", "short")
    assert "(profile short)" in harness("plan", "other.yaml")[1]


def test_verbose_plan_shows_every_setting(harness: Any) -> None:
    _, out, _ = harness("plan", "-v")
    assert "loss.weights.generator.iid_f" in out and "loss.mix_logits: true" in out


def test_dropped_and_equal_cells_are_shown(harness: Any, folder: Path) -> None:
    text = "study: tiny\ntoggles: [mix_logits, transform_w]\nloss: {mix_logits: true}\n"
    (folder / "ablations.yaml").write_text(text + "design: {kind: full, exclude: [[mix_logits, transform_w]]}\n")
    _, out, _ = harness("plan")
    assert "same settings as origin" in out
    assert "dropped full: mix_logits and transform_w exclude each other" in out


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_the_terminal(harness: Any, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in (["plan"], ["plan", "-v"], ["status"], ["terms", "--cell", "full"]):
        code, out, _ = harness(*words, "--set", "toggles=[img_img_loss, separate_features, transform_w, resnet_guided]",
                               "--set", "design.kind=both")  # fmt: skip
        assert code == 0
        assert max(map(len, out.splitlines())) <= columns
        assert "\x1b" not in out and "…" not in out


def test_terms_of_a_cell(harness: Any) -> None:
    code, out, _ = harness("terms", "--cell", "full", "--set", "toggles=[paired_contrast]", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {(row["player"], row["name"]): row["weight"] for row in rows} == {
        ("generator", "itd_r"): 5.0,
        ("generator", "itd_f"): 1.0,
        ("generator", "itc_r"): 10.0,
        ("generator", "itc_f"): 2.0,
        ("discriminator", "itd"): 5.0,
    }
    assert rows[1] == {
        "name": "itd_f", "player": "generator", "weight": 1.0, "u": "f_txt(x)", "v": "h'",
        "equation": "contrast(f_txt(x), h')",
    }  # fmt: skip
    assert "contrast(f_c(x), h)" in harness("terms")[1]
    assert harness("terms", "--cell", "ful")[2].startswith("error: unknown cell 'ful'; did you mean 'full'?")


def test_status_tells_progress_and_errors(harness: Any, folder: Path) -> None:
    study = load_study(folder / "ablations.yaml")
    from harness.study.plan import make_plan

    run = make_plan(study).runs[3]
    record = RunFolder(study.root / run.id)
    record.create(run)
    error = "[red]out[/red] of \x1b[31mmemory"
    record.update(state="failed", step=250, total_steps=1000, attempt=2, failure="out_of_memory", error=error)
    code, out, err = harness("status")
    assert (code, err) == (0, "")
    assert "25%" in out and "failed" in out and "tiny: 1 failed, 7 pending" in out
    assert "held by" not in out and "mix_logits/1 (failed: out of memory, attempt 2" in out
    assert "[red]out[/red] of \\x1b[31mmemory" in out, "text of others is neither markup nor control codes"
    told = json.loads(harness("status", "--json")[1])
    assert told["study"] == "tiny" and len(told["runs"]) == 8
    assert told["runs"][3] == {
        "id": run.id, "cell": "mix_logits", "seed": 1, "state": "failed", "step": 250, "total_steps": 1000, "kimg": 4.0,
        "images_per_s": 0.0, "attempt": 2, "held_by": "", "worker": None, "failure": "out_of_memory",
        "error": "[red]out[/red] of \x1b[31mmemory", "folder": str(record.path), "script_notes": {},
            "device": "", "sharing": "", "memory_mib": 0.0, "measuring": False, "seconds_left": None, "scores": {},
    }  # fmt: skip


def test_status_says_who_has_a_run(harness: Any, folder: Path) -> None:
    study = load_study(folder / "ablations.yaml")
    from harness.study.plan import make_plan

    run = make_plan(study).runs[0]
    record = RunFolder(study.root / run.id)
    record.create(run)
    record.update(state="running", step=250, total_steps=1000, attempt=1)
    claim = Claim(record.path)
    assert claim.take()
    assert f":{os.getpid()}" in harness("status")[1] and "tiny: 7 pending, 1 running" in harness("status")[1]
    claim.drop()
    assert "tiny: 1 interrupted, 7 pending" in harness("status")[1], "killed without a word"


def test_the_users_mistakes_exit_2_on_standard_error_alone(harness: Any, folder: Path) -> None:
    (folder / "ablations.yaml").write_text('study: tiny\n"[bold]\\e[31m": 1\n')
    code, out, err = harness("plan", "--json")
    assert (code, out) == (2, "")
    assert err.startswith("error: ablations.yaml:2:1: [bold]\\x1b[31m: unknown setting; allowed: ")
    assert "Traceback" not in err


def test_faults_of_ours_keep_their_traceback_and_exit_1() -> None:
    told = python("-c", """
import sys
import harness.study.plan
from harness.cli.main import main
harness.study.plan.make_plan = None
sys.argv = ["harness", "plan"]
main()
""")  # fmt: skip
    assert told.returncode == 1
    assert "Traceback" in told.stderr and "TypeError: 'NoneType' object is not callable" in told.stderr


def grid(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    monkeypatch.setitem(sys.modules, "harness.grid.run", types.SimpleNamespace(**functions))


@pytest.mark.parametrize("code", [0, 3, 130])
def test_run_grid_passes_its_options_on_and_its_exit_code_back(
    harness: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    seen: dict[str, Any] = {}

    def run_grid(study: Any, **options: Any) -> GridResult:
        seen.update(options, study=study.name)
        failures = ("origin seed 0: failed; see log.txt",) if code == 3 else ()
        return GridResult(code, None, None if code == 130 else study.reports / "report.md", failures)

    grid(monkeypatch, run_grid=run_grid)
    ended, out, err = harness("run-grid", "--only", "origin", "--only", "full", "--slots", "2")
    assert (ended, out) == (code, "")
    assert ("error: origin seed 0: failed; see log.txt" in err) == (code == 3)
    assert ("run the same command to go on" in err) == (code == 130)
    assert err.endswith("the report for a browser: reports/tiny/report.html\n") == (code != 130)
    off = dict.fromkeys(("fail_fast", "retrain", "detach"), False)
    assert seen == {"study": "tiny", "only": ["origin", "full"], "slots": 2, **off}
    harness("run-grid", "--fail-fast", "--retrain")
    assert seen == {"study": "tiny", "only": [], "slots": None, "fail_fast": True, "retrain": True, "detach": False}


def test_ctrl_c_exits_130(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(study: Any, **options: Any) -> int:
        raise KeyboardInterrupt

    grid(monkeypatch, run_grid=interrupted)
    assert harness("run-grid")[0] == 130


def test_report_prints_the_path(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grid(monkeypatch, report=lambda study, only: study.reports / "index.md")
    code, out, _ = harness("report")
    assert (code, Path(out.strip()).parts[-3:]) == (0, ("reports", "tiny", "index.md"))


def test_sample_takes_a_folder_or_a_run_of_the_study(
    harness: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.study.plan import make_plan

    study = load_study(folder / "ablations.yaml")
    run = make_plan(study).runs[7]
    RunFolder(study.root / run.id).create(run)
    drawn: list[Any] = []

    def draw(run: Path, prompts: list[str], out: Path, seed: int, scale: int) -> str:
        drawn.append((run.resolve(), prompts, out.name, seed, scale))
        return "images of 2 x 2 px"

    monkeypatch.setitem(sys.modules, "harness.training.samples", types.SimpleNamespace(sample=draw))
    for word in ("full/1", run.id, str(study.root / run.id)):
        code, out, _ = harness("sample", word, "a cat", "a dog", "--out", "x.png", "--seed", "3", "--scale", "2")
        assert (code, out.strip()) == (0, "x.png")
    assert drawn == [(study.root / run.id, ["a cat", "a dog"], "x.png", 3, 2)] * 3
    assert harness("sample", "full/0", "a cat")[0] == 2
    assert harness("sample", "full/1")[0] == 2


def test_init_writes_a_study_that_loads_and_never_overwrites(harness: Any, folder: Path) -> None:
    code, out, err = harness("init", "new/mine.yaml")
    assert (code, out) == (0, "") and "wrote new/mine.yaml" in err
    assert load_study(folder / "new" / "mine.yaml").name == "emoji"
    assert harness("init")[0] == 2
    assert (folder / "ablations.yaml").read_text() == STUDY
    assert harness("init", "quiet.yaml", "-q")[1:] == ("", "")
    assert "; next: harness plan './-my study.yaml'\n" in harness("init", "--", "-my study.yaml")[2]
    assert "#   harness plan './-my study.yaml' " in (folder / "-my study.yaml").read_text()


def test_doctor_says_what_is_missing(harness: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.cli import doctor

    def check(name: str, kind: str) -> None:
        if "ViT-L" in name:
            raise FileNotFoundError(f"put {name} there")

    monkeypatch.setattr("harness.models.encoders.check", check)
    monkeypatch.setattr(doctor, "_embedded", lambda: iter(()))
    monkeypatch.setattr(doctor, "_download", lambda path, name, encoder: doctor.Finding(path, name))
    code, out, _ = harness("doctor")
    assert code == 2
    assert "metrics.clip: put open_clip:ViT-L-14/laion2b_s32b_b82k there" in out
    assert re.search(r"ok +encoders\.clip +open_clip:ViT-B-32/openai", out) and "python" in out
    monkeypatch.setattr("harness.models.encoders.check", lambda name, kind: None)
    assert harness("doctor")[0] == 0
    (folder / "ablations.yaml").unlink()
    monkeypatch.setenv("HARNESS_PROFILE", "short")  # of other studies
    code, out, _ = harness("doctor")
    assert code == 0 and "there is no ablations.yaml here; name a study file" in " ".join(out.split())
    for words in (("ablations.yaml",), ("--profile", "short"), ("--set", "train.kimg=1")):
        code, _, err = harness("doctor", *words)
        assert code == 2 and err.startswith("error: ablations.yaml: no such file; the folder . holds no YAML file")
    (folder / "ablations.yaml").symlink_to("gone.yaml")
    assert harness("doctor")[0] == 2


def test_shell_completion_knows_the_verbs() -> None:
    asked = {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": "harness run", "COMP_CWORD": "1"}
    told = CliRunner().invoke(main.app, [], prog_name="harness", env=asked)
    assert told.output.split() == ["run-grid"]


@pytest.mark.parametrize("words", [("data", "show"), ("sample", "origin/0", "a cat")], ids=["sheet", "sample"])
@pytest.mark.parametrize("out", ["sheet", "sheet.jpg", "gone/sheet.png", ".", "folder.png"])
def test_images_go_to_a_png_in_a_folder_that_is_there(
    harness: Any, tmp_path: Path, words: tuple[str, ...], out: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    code, _, told = harness(*words, "--out", str(tmp_path / out))
    assert code == 2 and "must be a .png file in a folder that exists" in " ".join(told.split())
    assert [path.name for path in tmp_path.rglob("*.png")] == ["folder.png"] and not (tmp_path / "gone").exists()


def test_sync_says_what_it_compares_and_then_what_it_sent(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_WORTH_A_LINE_S", 0.0)
    with served(Server()):
        code, out, err = harness("sync")
    assert (code, out) == (0, "nothing was missing\n")
    assert "comparing runs with MLflow: 8 in" in err and "sending" not in err, "nothing is announced that is not sent"
