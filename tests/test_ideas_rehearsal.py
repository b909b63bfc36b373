"""Mistakes in own code that show only when it runs end before the queue: place, fix, exit code 2, nothing begun."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import harness
from forked import run_forked
from harness.grid import jobs
from harness.ideas.load import IdeaError, load_ideas
from harness.models.encoders.load import load_resnet
from harness.runs.record import Run
from harness.scheduler.slots import Slot, find_slots
from harness.training import rehearsal
from harness.training.rehearsal import rehearse

STUDY = """
study: own
code: mine.py
data: {source: twemoji, resolution: 8}
generator: {z_dim: 16, w_dim: 16, mapping_layers: 2, channel_base: 64, channel_max: 8}
discriminator: {channel_base: 64, channel_max: 8}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}
train: {kimg: 0.032, batch: 16, snapshots: 1}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 20}
toggles: [mine]
design: {kind: list, include: [origin, mine], seeds: 1}
"""
HEAD = """import torch
from torch import nn
from harness.ideas import *
"""
# What is wrong -> the code, what the message says, and the line of the file that it names.
MISTAKES = {
    "raises on import": ('raise RuntimeError("no licence")', ("RuntimeError: no licence", "mine.py:4")),
    "a library that is not there": ("import no_such_library", ("no_such_library", "mine.py:4")),
    "an error in a step": (
        '@term("generator")\ndef mine(step):\n    return step.h @ step.h',
        ("RuntimeError", "mine.py:6", "return step.h @ step.h"),
    ),
    "a batch of numbers": (
        '@term("generator")\ndef mine(step):\n    return step.logit("x")',
        ("a term gives a scalar tensor", "mine.py:"),
    ),
    "nothing returned": ('@term("discriminator")\ndef mine(step):\n    step.h.mean()', ("NoneType", "mine.py:")),
    "no number": (
        '@term("generator")\ndef mine(step):\n    return step.images["x"].mean() / 0 * 0',
        ("the generator's loss is nan", "mine (mine.py:"),
    ),
    "a gradient that is no number": (
        '@term("generator")\ndef mine(step):\n    x = step.images["x"]\n'
        "    return (x - x.detach()).square().sum().sqrt()",
        ("gradient norm nan", "mine (mine.py:"),
    ),
    "no second derivative": (
        '@layer("discriminator", at=8)\nclass mine(nn.Module):\n    def __init__(self, channels):\n'
        "        super().__init__()\n        self.attend = nn.MultiheadAttention(channels, 1, batch_first=True)\n"
        "    def forward(self, x):\n        y = x.flatten(2).transpose(1, 2)\n"
        "        return x + self.attend(y, y, y, need_weights=False)[0].transpose(1, 2).reshape(x.shape)",
        ("second derivative", "mine (mine.py:"),
    ),
    "a penalty of nothing trained": (
        '@penalty("discriminator", every=1000)\ndef mine(step):\n    return step.real.square().mean()',
        ("it has no gradient", "mine.py:"),
    ),
    "images of another size": (
        "@augment\ndef mine(images, rng):\n    return images[:, :, ::2]",
        ("an augment gives images of the same shape", "mine.py:"),
    ),
    "an argument that is not there": (
        '@layer("generator", at=4)\nclass mine(nn.Conv2d):\n    def __init__(self, channels, *, size: int = 3):\n'
        "        super().__init__(channels, channels, size, colour=1)",
        ("TypeError", "colour", "mine.py:7"),
    ),
    "an attribute that a step does not have": (
        '@term("generator")\ndef mine(step):\n    return step.fake.mean()',
        ("fake", "mine.py:6"),
    ),
}


MISTAKES["frozen weights that are changed"] = (
    "@augment\nclass mine(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.teacher = nn.Linear(3, 1).requires_grad_(False)\n    def forward(self, images, rng):\n"
    "        return images\n    def after(self, step):\n        self.teacher.weight.data.mul_(0.5)",
    ("mine.module.teacher.weight has requires_grad False", "register", "mine (mine.py:"),
)
MISTAKES |= {
    "a count that no checkpoint holds": (
        'N = 0\n@term("generator")\ndef mine(step):\n    global N\n    N += 1\n    return N * step.logit("x").mean()',
        (
            "mine.py: N changes in every step",
            "a run that is stopped would go on otherwise",
            "buffers",
            "mine (mine.py:",
        ),
    ),
    "a draw of nobody's seed": (
        'import os\n@term("generator")\ndef mine(step):\n    return os.urandom(1)[0] * step.logit("x").mean()',
        ("a run that is stopped would go on otherwise", "step.rng()", "mine (mine.py:"),
    ),
    "a step that ends the process": (
        '@term("generator")\ndef mine(step):\n    raise SystemExit(0)',
        ("mine.py:6: mine: ends the process",),
    ),
}
_LAYER = (
    '@layer("generator", at=8, reads=("h",))\nclass mine(nn.Module):\n    def __init__(self, channels, text_dim):\n'
)
_AFTER = "@augment\nclass mine(nn.Module):\n    def forward(self, images, rng):\n        return images\n"
MISTAKES |= {
    "a layer that changes the condition": (
        _LAYER + "        super().__init__()\n    def forward(self, x, h):\n        h /= h.norm(dim=1, keepdim=True)\n"
        "        return x",
        ("mine.py:5: mine: changes in place what it is given", ".clone()"),
    ),
    "an after that changes the condition": (
        _AFTER + "    def after(self, step):\n        step.h.mul_(-1)",
        ("mine.py:5: mine: changes in place what it is given", ".clone()"),
    ),
    "an after that changes the real images": (
        _AFTER + "    def after(self, step):\n        step.real[0] = 0",
        ("mine.py:5: mine: changes in place what it is given", ".clone()"),
    ),
    "a class without super().__init__()": (
        '@layer("generator", at=8)\nclass mine(nn.Module):\n    def __init__(self, channels):\n'
        "        self.c = channels",
        ("mine.py:5: mine: its __init__ does not call super().__init__()",),
    ),
    "a part of a class without super().__init__()": (
        "class Part(nn.Module):\n    def __init__(self):\n        self.c = 3\n"
        "@augment\nclass mine(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.part = Part()\n    def forward(self, images, rng):\n        return images",
        ("Part: its __init__ does not call super().__init__()", "mine (mine.py:8)"),
    ),
    "a class of another shape each time": (
        'N = [0]\n@layer("generator", at=8)\nclass mine(nn.Module):\n    def __init__(self, channels):\n'
        "        super().__init__()\n        N[0] += 1\n        self.w = nn.Parameter(torch.zeros(N[0]))\n"
        "    def forward(self, x):\n        return x + self.w.sum()",
        ("mine.py:6: mine: it has parameters or buffers of other names or shapes each time",),
    ),
}
ENDS = {
    "a process that is gone": (
        'import os\n@term("generator")\ndef mine(step):\n    os._exit(0)',
        ("the process ended with exit code 0", "own ideas that are on: mine (mine.py:6)"),
    ),
    "no memory": (
        '@term("generator")\ndef mine(step):\n    return torch.zeros(10**15).sum()',
        ("mine.py:6: ", "t allocate memory", "fewer runs at a time"),
    ),
}
LOADED = """
@layer("generator", at=4)
class mine(nn.Module):
    def __init__(self, channels: int, *, eye: Network = "embedded:resnet-guide"):
        super().__init__()
        self.given, self.eye = eye.network, load_resnet("embedded:resnet-guide") if OWN else nn.Identity()
        self.drawn, self.constant = nn.Linear(4, 4), nn.Parameter(torch.zeros(channels))
    def forward(self, x):
        return x + self.constant.view(1, -1, 1, 1)
"""


def write(folder: Path, code: str) -> Path:
    (folder / "mine.py").write_text(HEAD.replace("*", "augment, layer, penalty, term") + code + "\n")
    (folder / "study.yaml").write_text(STUDY)
    return folder / "study.yaml"


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if "import" not in name and "library" not in name])
def test_a_mistake_is_told_by_a_step_that_is_thrown_away(mistake: str, tmp_path: Path) -> None:
    code, words = MISTAKES[mistake]
    plan = harness.plan(harness.load(write(tmp_path, code))).plan
    (run,) = plan.runs_of(plan.cell("mine"))
    with pytest.raises(IdeaError) as error:
        rehearse(run, find_slots(1, 1)[0])
    text = str(error.value)
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize(
    "mistake",
    [
        *("raises on import", "an error in a step", *ENDS),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("a library that is not there", "no number")),
    ],
)
def test_it_ends_before_the_queue(mistake: str, tmp_path: Path) -> None:
    code, words = {**MISTAKES, **ENDS}[mistake]
    if "import" in mistake or "library" in mistake:
        code += '\n@term("generator")\ndef mine(step):\n    return step.h.mean()'
    write(tmp_path, code)
    for reading in ("plan", "status", "report"):
        assert run_forked([reading, "study.yaml"], tmp_path).returncode == 0
    ended = run_forked(["run-grid", "study.yaml"], tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert [word for word in words if word not in ended.stderr] == [], ended.stderr
    assert "mine: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not [*(tmp_path / "runs").rglob("status.json")]


def test_a_trial_that_does_not_end_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "LONG_S", 0.01)
    code = '@term("generator")\ndef mine(step):\n    return 0'
    (run,) = (each for each in harness.plan(harness.load(write(tmp_path, code))).plan.runs if each.cell == "mine")

    def endless(run: Run, slot: Slot) -> str:
        exec(compile("while not stop(): pass", "mine.py", "exec"), {"stop": lambda: "still tried" in caplog.text})
        return "ended"

    monkeypatch.setattr(rehearsal, "rehearse", endless)
    with caplog.at_level("INFO", "harness"):
        assert jobs.rehearse(run, find_slots(1, 1)[0]) == "ended"
    assert "mine: a step is still tried, in mine.py:1; Ctrl-C ends it" in caplog.text


def test_code_that_the_run_does_not_carry_is_not_imported_from_the_studys_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the folder is on the path, by PYTHONPATH or `python -m harness` in it."""
    (tmp_path / "hidden.py").write_text("value = 1\n")
    code = 'import importlib\nimportlib.import_module("hid" + "den")\n@term("generator")\ndef mine(step):\n    return 0'
    plan = harness.plan(harness.load(write(tmp_path, code))).plan
    (run,) = plan.runs_of(plan.cell("mine"))
    monkeypatch.chdir(tmp_path)
    for place in (str(tmp_path), ""):
        monkeypatch.setattr("sys.path", [place, *sys.path])
        with pytest.raises(IdeaError, match=r"mine\.py:5: .*No module named 'hidden'"):
            load_ideas(run)


@pytest.mark.parametrize("own", [True, False])
def test_weights_and_modules_that_no_run_carries_are_told(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f"of_mine_{own}.py").write_text("")
    monkeypatch.setattr("sys.path", [*sys.path])
    imports = "from harness.ideas import Network\nfrom harness.models.encoders.load import load_resnet"
    imports += f"\nimport sys\nsys.path.append({str(outside)!r})\nimport of_mine_{own}" if own else ""
    code = f"{imports}\nOWN = {own}\n{LOADED}"
    plan = harness.plan(harness.load(write(tmp_path, code))).plan
    (run,) = plan.runs_of(plan.cell("mine"))
    remark = rehearse(run, find_slots(1, 1)[0])
    weights = list(load_resnet("embedded:resnet-guide").parameters())
    varied = [each for each in weights if not bool((each == each.flatten()[0]).all())]
    count = sum(each.numel() for each in varied)
    assert remark.startswith(f"{count:,} first weights of own code are the same under every seed") == own
    assert (f"own code imports {outside / 'of_mine_True.py'}, which no run carries" in remark) == own
    assert own or remark == ""


def test_right_code_is_tried_and_then_trained(tmp_path: Path) -> None:
    write(
        tmp_path,
        '@term("generator")\ndef mine(step, *, scale: float = 1.0):\n    return scale * step.logit("x").mean()',
    )
    ended = run_forked(["run-grid", "study.yaml"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "this runs code of the study's own: mine.py; a step of 1 cell is tried first" in ended.stderr
    (tmp_path / "mine.py").write_text("what was trained does not need this any more\n")
    (tmp_path / "mine.py").unlink()
    (done,) = [path for path in (tmp_path / "runs" / "own").glob("*/run.json") if '"cell": "mine"' in path.read_text()]
    assert "def mine(step" in done.read_text()


def test_a_term_that_only_gives_0_is_told(tmp_path: Path) -> None:
    waits = '@term("generator")\ndef mine(step):\n    return step.logit("x").mean() * 0 ** (1 - step.number)'
    for code, is_told in (
        ('@term("generator")\ndef mine(step):\n    return torch.zeros(())\nIT = iter("a")', True),
        (waits, False),
    ):
        plan = harness.plan(harness.load(write(tmp_path, code))).plan
        (run,) = plan.runs_of(plan.cell("mine"))
        remark = rehearse(run, find_slots(1, 1)[0])
        assert remark.startswith("mine (mine.py:5) gave 0 in every step that was tried") if is_told else not remark
        assert ("mine.py: IT is an iterator, and no checkpoint holds how far it has come" in remark) == is_told


def test_layers_and_after_that_only_read_are_let_through(tmp_path: Path) -> None:
    code = _LAYER + "        super().__init__()\n    def forward(self, x, h):\n        h = h.clone().mul_(2)\n"
    code += "        return x + h.mean()\n" + _AFTER.replace("mine", "other")
    code += "    def after(self, step):\n        step.h.mean() + step.real.mean()"
    study = write(tmp_path, code)
    study.write_text(
        STUDY.replace("toggles: [mine]", "toggles: [mine, other]").replace("[origin, mine]", "[origin, mine+other]")
    )
    run = harness.plan(harness.load(study)).plan.runs[-1]
    assert {"mine", "other"} <= run.settings.ideas.keys()
    assert rehearse(run, find_slots(1, 1)[0]) == ""
