"""What a report says of a study's own code: files, hashes, what each idea is and in which cells it is on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.api import load, write_report
from harness.files import read_json, write_json
from harness.runs.folders import RunFolder
from harness.runs.record import Result
from harness.study.plan import Plan, make_plan
from synthetic import CARD
from test_report_page import CHROMIUM, browser  # noqa: F401

LOUD = "<img src=x onerror=alert(1)> | **b** `c` [x](javascript:alert(2))"
IDEAS = f'''
from torch import nn
from harness.ideas import adversarial, augment, discriminator, feature, layer, penalty, term
from helper import scaled

f_own = feature("timm:resnet18@own.safetensors", size=32)

@term("discriminator", weight=0.5, reads=("f_own",))
def first(step, *, shift: int = 1, note: str = "n"):
    """{LOUD}

    The second line is not shown.
    """

@penalty("generator", every=4)
def second(step): ...

@adversarial
def hinge(player, logits):
    """The hinge loss."""

@augment
def noisy(images, rng): ...

@layer("generator", at=8)
class block(nn.Module):
    """{"long " * 200}"""

@discriminator
class whole(nn.Module): ...

@term("generator")
def idle(step): ...
'''
STUDY = """
study: mine
code: my_ideas.py
data: {source: twemoji, resolution: 16}
toggles:
  - second
  - hinge
  - noisy
  - whole
  - heavy: {ideas.first.weight: 2}
  - wide: {ideas.block.at: 16}
ideas: {first: {on: true, note: s3cr3t-word}}
design: {kind: list, seeds: 1, cells: [{a: [second, noisy]}, {b: [hinge, heavy]}, {c: [whole, wide]}]}
baseline: a
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 16}
"""


def lay(folder: Path) -> Plan:
    """The study with all its runs done."""
    folder.mkdir(exist_ok=True)
    (folder / "my_ideas.py").write_text(IDEAS)
    (folder / "helper.py").write_text("def scaled(x):\n    return x\n")
    (folder / "own.safetensors").write_bytes(b"weights")
    (folder / "mine.yaml").write_text(STUDY)
    plan = make_plan(load(folder / "mine.yaml"))
    for place, run in enumerate(plan.runs):
        own = RunFolder(plan.study.root / run.id)
        own.create(run)
        own.finish(Result({"fd_emoji": 20.0 + place}, {"fd_emoji": dict(CARD)}, {"seconds": 1.0}))
        own.update(state="done", attempt=1)
    return plan


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Data and weights need not be read; a secret is in the environment."""
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-word")
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda source, resolution: "data")
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: name.partition("@")[0])
    yield


def rows(report: Path) -> dict[str, list[str]]:
    """Idea -> the other entries of its row in report.md."""
    section = report.read_text().partition("\n## Code of the study\n")[2].partition("\n## ")[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("| ")][1:]
    return {row[0].strip(): [each.strip() for each in row[1:]] for row in cells}


def test_each_idea_is_told_with_its_kind_settings_and_cells(tmp_path: Path, anywhere: None) -> None:
    plan = lay(tmp_path)
    report = write_report(plan.study)
    told = rows(report)
    assert list(told) == ["f_own", "first", "second", "hinge", "noisy", "block", "whole"]
    assert {name: (row[0], row[2], row[1]) for name, row in told.items()} == {
        "f_own": ("features of a frozen network", "network timm:resnet18@own.safetensors; size 32", "every cell"),
        "first": ("term of the discriminator's loss; reads f_own", told["first"][2], "every cell"),
        "second": ("penalty of the generator, once in 4 steps", "weight 1.0; every 4", "a"),
        "hinge": ("adversarial loss, in place of the logistic one", "–", "b"),
        "noisy": ("augmentation of all images that the discriminator sees", "–", "a"),
        "block": ("layer of the generator at 16\N{NO-BREAK SPACE}px", "at 16", "c"),
        "whole": ("discriminator, in place of the built-in one", "–", "c"),
    }
    assert told["first"][2] == "weight 0.5 (a and c), 2.0 (b); shift 1; note \\*\\*\\*"
    assert told["hinge"][3] == "The hinge loss." and told["second"][3] == "–"
    assert told["block"][3].endswith("... (1000 characters)") and len(told["block"][3]) < 250
    text = report.read_text()
    assert f"`my_ideas.py`, hash `{plan.study.code.digest('my_ideas.py')[:16]}`" in text and "helper.py" in text
    assert "on in no cell here: idle." in text and "second line" not in text
    everything = "".join(path.read_text() for path in report.parent.glob("*.*") if path.is_file())
    assert "s3cr3t" not in everything


def test_it_is_what_the_runs_were_trained_with(tmp_path: Path, anywhere: None) -> None:
    """Not what stands in the file now: a docstring is no part of an id."""
    plan = lay(tmp_path)
    report = write_report(plan.study)
    before = {path.name: path.read_bytes() for path in report.parent.glob("*.*") if path.is_file()}
    (tmp_path / "my_ideas.py").write_text(IDEAS.replace("The hinge loss.", "Something else."))
    again = write_report(load(tmp_path / "mine.yaml"))
    assert rows(again)["hinge"][3] == "The hinge loss."
    assert {path.name: path.read_bytes() for path in report.parent.glob("*.*") if path.is_file()} == before


def test_it_is_the_same_wherever_the_study_lies(tmp_path: Path, anywhere: None) -> None:
    one, other = (write_report(lay(tmp_path / name).study) for name in ("one", "other"))
    for name in ("report.md", "report.html", "study.json", "tables.tex"):
        assert (one.parent / name).read_bytes() == (other.parent / name).read_bytes(), name


def test_a_text_that_is_no_python_holds_no_report_up(tmp_path: Path, anywhere: None) -> None:
    plan = lay(tmp_path)
    for run in plan.runs:
        path = plan.study.root / run.id / "run.json"
        write_json(path, {**read_json(path), "source": {"my_ideas.py": "def ("}})
    told = rows(write_report(plan.study))
    assert told["hinge"][0] == "adversarial (the code of its runs cannot be read)" and told["hinge"][1] == "b"


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_a_docstring_is_shown_and_does_not_act(tmp_path: Path, anywhere: None, browser) -> None:  # noqa: F811
    page, heard = browser.new_page(viewport={"width": 390, "height": 844}), []
    page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    page.goto(write_report(lay(tmp_path).study).with_suffix(".html").as_uri())
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("#code").screenshot(path=tmp_path / f"{width}.png")
    assert LOUD in page.locator("#code").inner_text() and heard == []
    page.close()
