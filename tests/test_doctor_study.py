"""What the doctor says of a study's own code, and of a study that was unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cli import doctor
from harness.finding import Finding
from harness.models.encoders.load import load_clip, load_resnet
from harness.study.load import load_study
from packs import STUDY as SMALL
from packs import away, home, run

__all__ = ["away", "home"]

IDEAS = """
raise SystemExit("nobody may run this")
from typing import TYPE_CHECKING
import json, torch.nn, google.protobuf
import nowhere_lib.inner as inner
from nowhere_lib import other
from harness.ideas import *
from parts import helper
if TYPE_CHECKING:
    import only_for_types
try:
    import perhaps_there
except ImportError:
    perhaps_there = None

@term("discriminator")
def mine(step): ...

@adversarial
def hinge(player, logits): ...
"""
HELPER = "def late():\n    import elsewhere_lib\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(doctor, "_embedded", lambda: iter(()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "nowhere_lib" / "run-1").mkdir(parents=True)  # where that library would keep what it writes
    (tmp_path / "parts" / "helper.py").write_text(HELPER)
    (tmp_path / "mine.py").write_text(IDEAS)
    (tmp_path / "other.py").write_text('from harness.ideas import *\nf_own = feature("embedded:clip-guide")\n')
    study = "study: mine\ncode: [mine.py, other.py]\ndata: {source: twemoji, resolution: 16}\ntoggles: [mine]\n"
    (tmp_path / "study.yaml").write_text(study)
    return tmp_path


def of(findings: list[Finding]) -> dict[str, Finding]:
    return {each.subject: each for each in findings}


def test_libraries_that_own_code_imports_and_that_are_not_here_are_told_with_their_place(place: Path) -> None:
    study = load_study(place / "study.yaml")
    found = of(doctor.examine(study))
    mine, other = found["code mine.py"], found["code other.py"]
    digest = study.code.digest("mine.py")[:16]
    assert mine.detail == f"hash {digest}, 2 ideas: mine, hinge; imports parts/helper.py"
    assert mine.fix == (
        f"{place}/mine.py:5: imports nowhere_lib, which is not installed here; {place}/parts/helper.py:2: imports "
        "elsewhere_lib, which is not installed here: install the package that has it, or take the import out"
    )
    assert (other.detail.partition(", ")[2], other.fix) == ("1 idea: f_own", "")
    assert "pack" not in found


def test_a_broken_file_of_code_is_told_with_its_line(place: Path) -> None:
    (place / "mine.py").write_text("import torch\ndef f(:\n")
    assert f"{place}/mine.py:2: is not valid Python" in run("doctor", str(place / "study.yaml"), code=2)
    (place / "mine.py").unlink()
    assert "mine.py is not there" in run("doctor", str(place / "study.yaml"), code=2)


def test_an_unpacked_study_says_what_it_is_and_what_it_cannot_do(
    home: Path, away: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_embedded", lambda: iter(()))
    ideas = "from harness.ideas import *\n@term('generator')\ndef mine(step): ...\n"
    (home / "my_ideas.py").write_text(ideas)
    text = SMALL.replace("[mix_logits", "[mine, mix_logits").replace("embedded:clip-guide", "open_clip:RN50@clip.pt")
    (home / "study.yaml").write_text(f"code: my_ideas.py\n{text}")
    (home / "clip.pt").write_bytes(b"clip")
    here = of(doctor.examine(harness.load("study.yaml")))
    assert "pack" not in here and not here[f"data {home / 'images'}"].fix
    harness.pack(harness.load("study.yaml"), tmp_path / "mine.zip", weights=False)
    folder = away(tmp_path / "mine.zip")
    found = of(doctor.examine(harness.load("study.yaml")))
    assert not any(each.fix for each in found.values())
    assert found["pack"].caveat and found["pack"].detail.startswith("of study.yaml, with 8 runs")
    assert str(folder / "runs" / "tiny" / "pack.json") in found["pack"].detail
    assert "my_ideas.py came with the pack, and sample, run-grid and tune run it" in found["code of others"].detail
    assert "packed without generators" in found["sample"].detail
    data, clip = found[f"data {folder / 'images'}"], found["encoders.clip"]
    assert data.caveat and "without it run-grid and tune cannot train: " in data.detail
    assert clip.caveat and "cannot train, and sample cannot draw other prompts: " in clip.detail
    assert not found["metrics.resnet"].caveat


@pytest.mark.parametrize("load", [load_clip, load_resnet])
def test_a_library_that_is_not_there_is_no_crash(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "clip" if load is load_clip else "resnet"

    def raising(name: str) -> Any:
        def fails(*_: object) -> None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        return fails

    monkeypatch.setattr(f"harness.models.encoders.load._embedded_{kind}", raising("timm"))
    with pytest.raises(ValueError, match=r"embedded:.* needs a library .* \(No module named 'timm'\); install"):
        load(f"embedded:{kind}-guide")
    monkeypatch.setattr(f"harness.models.encoders.load._embedded_{kind}", raising("harness.no_such"))
    with pytest.raises(ModuleNotFoundError):
        load(f"embedded:{kind}-guide")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("flags : fpu avx512f", True),
        ("flags : fpu avx512_bf16 amx_bf16", False),
        ("Features : fp bf16", False),
        ("", False),
    ],
)
def test_bf16_is_slow_on_a_processor_without_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, flags: str, told: bool
) -> None:
    (place / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(doctor, "CPU_INFO", place / "cpuinfo")
    text = "study: mine\ndata: {source: twemoji, resolution: 16}\ntrain: {precision: bf16}\n"
    (place / "study.yaml").write_text(text)
    found = of(list(doctor._processor(load_study(place / "study.yaml"), on_gpu=False)))
    assert ("train.precision" in found) == told and "encoders.precision" not in found
    if told:
        assert found["train.precision"].caveat and "AVX-512 BF16, AMX or ARM BF16" in found["train.precision"].detail
    assert ("AVX-512 BF16 and AMX" in found["processor"].detail) == ("amx" in flags)
    assert "train.precision" not in of(list(doctor._processor(load_study(place / "study.yaml"), on_gpu=True)))
    (place / "study.yaml").write_text(text.replace("bf16", "fp32"))
    assert list(of(list(doctor._processor(load_study(place / "study.yaml"), on_gpu=False)))) == ["processor"]
