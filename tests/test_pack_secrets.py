"""What of a user's own texts travels in a pack: no password, and code as it is or not at all."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.errors import HarnessError
from harness.files import read_json, write_json
from harness.masking import masked_file
from harness.runs.folders import RunFolder
from harness.study.load import load_study
from harness.study.plan import make_plan
from packs import STUDY, away, content, home, run, told, train

__all__ = ["away", "home"]


def test_passwords_do_not_travel(home: Path, away: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "9000001")
    uri, storage = "postgresql://anna:hunter22@db.example/x", "mysql://anna:swordfish@db.example/x"
    (home / "study.yaml").write_text(
        f"# hunter22 is the password\n{STUDY}tracking: {{uri: '{uri}'}}\ntune: {{storage: '{storage}'}}\n"
    )
    plan = make_plan(load_study(home / "study.yaml"))
    first = plan.study.root / plan.runs[0].id
    (first / "log.txt").write_text(f"sent to {uri}\n")
    written = read_json(first / "status.json")
    write_json(first / "status.json", {**written, "error": f"cannot reach {uri}", "started": 9000001.5})
    page = home / "reports" / "tiny" / "report.html"
    page.write_text(f"<img src='data:image/png;base64,hunter22AAAA'> {uri}")
    made = harness.pack(plan.study, tmp_path / "mine.zip")
    with zipfile.ZipFile(made.path) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    assert [name for name, text in texts.items() if b"hunter22" in text or b"swordfish" in text] == [
        "reports/tiny/report.html"
    ]
    assert texts["reports/tiny/report.html"].count(b"hunter22") == 1
    assert json.loads(texts[f"runs/tiny/{first.name}/status.json"])["started"] == 9000001.5
    assert set(made.masked) >= {"study.yaml", f"runs/tiny/{first.name}/log.txt", f"runs/tiny/{first.name}/status.json"}
    away(made.path)
    assert {row["state"] for row in told("status", "study.yaml")["runs"]} == {"done"}


def test_a_study_that_its_password_holds_up_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "transform_w")
    with pytest.raises(HarnessError, match=r"study\.yaml:\d+: the study needs the password or token here; take it out"):
        harness.pack(harness.load("study.yaml"), tmp_path / "mine.zip")
    assert not (tmp_path / "mine.zip").exists()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("metrics.jsonl", '{"a": 12345678.5}\n{"b": "x://u:pass1@h"}\n', '{"a": 12345678.5}\n{"b": "x://u:***@h"}\n'),
        ("status.json", '{"error": "geh\\u00e9im-12", "n": 12345678}', '{\n "error": "***",\n "n": 12345678\n}\n'),
        ("optuna.log", '{"a": 1}\n{"b": "x://u:pass1@h', '{"a": 1}\n{"b": "x://u:***@h'),
        ("result.json", '{"broken: x://u:pass1@h', '{"broken: x://u:***@h'),
        ("log.txt", "cls_token=3 x://u:pass1@h", "cls_token=*** x://u:***@h"),
        ("report.html", "base64,pass1+/= x://u:pass1@h", "base64,pass1+/= x://u:***@h"),
        ("run.json", '{"source": {"a.py": "cls_token=3"}}', '{"source": {"a.py": "cls_token=3"}}'),
    ],
)
def test_secrets_in_files_of_each_kind(monkeypatch: pytest.MonkeyPatch, name: str, text: str, expected: str) -> None:
    monkeypatch.setenv("LOGIN_PASSWORD", "gehéim-12")
    monkeypatch.setenv("NUMBER_TOKEN", "12345678")
    shown = masked_file(f"runs/tiny/{name}", text.encode()).decode()
    assert (json.loads(shown) == json.loads(expected)) if name == "run.json" else (shown == expected)


SCRIPT = """
cls_token=None
FOLDER = "data"
"""


def test_the_code_of_a_training_script_travels_unless_it_holds_a_password(
    home: Path, away: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "code").mkdir()
    (home / "code" / "train.py").write_text(SCRIPT)
    command = "command: {run: ['{python}', code/train.py], args: {width: 3}, code: ['code/*.py']}\n"
    data, _, _ = STUDY.partition("toggles:")
    study = data.replace('encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}', "") + command
    (home / "study.yaml").write_text(study + "toggles: [{wide: {command.args.width: 5}}]\ndesign: {seeds: 2}\n")
    plan = make_plan(load_study(home / "study.yaml"))
    for each in plan.runs[:2]:
        RunFolder(plan.study.root / each.id).create(each)
    monkeypatch.setenv("HUB_TOKEN", "hf_0123456789")
    made = harness.pack(plan.study, tmp_path / "mine.zip")
    assert made.masked == () and made.networks == ()
    (home / "code" / "train.py").write_text(SCRIPT + "KEY = 'hf_0123456789'\n")
    with pytest.raises(HarnessError, match=r"code/train\.py:4: there is a password or token in the code"):
        harness.pack(load_study(home / "study.yaml"), tmp_path / "other.zip")
    folder = away(made.path)
    assert (folder / "code" / "train.py").read_text() == SCRIPT
    assert [each.id for each in make_plan(load_study(folder / "study.yaml")).runs] == [each.id for each in plan.runs]


IDEAS = """
from harness.ideas import term
from helper import doubled

raise RuntimeError("nobody may run this")


@term("discriminator", weight=1.0)
def mine(step, *, shift: int = 1):
    return doubled(step.logit("r", step.h.roll(shift, 0))).mean()
"""


def test_the_code_of_ideas_travels_and_is_not_run(home: Path, away: Any, tmp_path: Path) -> None:
    (home / "my_ideas.py").write_text(IDEAS)
    (home / "unused.py").write_text("x = 1\n")
    (home / "helper.py").write_text("def doubled(x):\n    return 2 * x\n")
    (home / "study.yaml").write_text("code: my_ideas.py\n" + STUDY.replace("[mix_logits", "[mine, mix_logits"))
    plan = train(home, cells=("mine", "full"))
    run("report", "study.yaml")
    before, report = told("plan", "study.yaml"), content(home / "reports" / "tiny")
    digest = plan.study.code.digest("my_ideas.py")[:16]
    assert (
        f"`my_ideas.py`, hash `{digest}`".encode() in report["report.md"] and b"RuntimeError" not in report["report.md"]
    )
    made = harness.pack(plan.study, tmp_path / "mine.zip")
    folder = away(made.path)
    assert {path.name for path in folder.iterdir()} == {"study.yaml", "my_ideas.py", "helper.py", "runs", "reports"}
    assert told("plan", "study.yaml") == before
    run("report", "study.yaml")
    assert content(folder / "reports" / "tiny") == report
