"""The code of a study is read and never run: what is an idea, what is refused, and which changes of it count."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness import ideas as marks
from harness.ideas.read import MAX_BYTES, Code, CodeError, read_code
from refused_ideas import HEAD, REFUSED

ALL = '''
"""Ideas of mine."""
raise SystemExit("a parent never runs this")

import typing as t
import harness.ideas
import harness.ideas as hi
from harness import ideas
from harness.ideas import feature, penalty as lazy, term
from harness.ideas import adversarial, augment


@term("discriminator", weight=2, reads=("f_own", "f_res"))
def mismatched(step, *, shift: int = 1, kind_of: t.Literal["a", 2] = "a", share: "Fraction" = 1):
    """The first line.

    More."""


@lazy(player="generator", every=4)
def lazily(step, *, power: hi.Positive = 6.0, on_fakes: bool = False, name: str = "é", steps: hi.Count = 0x3): ...


@adversarial
def hinge(player, logits, *, margin: float = -1): ...


@augment
class colours(nn.Module):
    def __init__(self, *, strength: "NonNegative" = 0): ...
    def forward(self, images, rng): ...


@hi.layer("generator", at=8, reads=["h", "w"])
class attention(Base):
    def __init__(self, channels: int, text_dim: int, w_dim: int, *, heads: int = 1): ...
    def forward(self, x, h, w): ...


@harness.ideas.discriminator
class projected(nn.Module):
    def __init__(self, resolution: int, text_dim: int): ...


f_own = feature("timm:vit", size=224)
f_other: object = ideas.feature("embedded:resnet-guide")


def penalise(term):
    return [lazy for lazy in term]
'''


def read(folder: Path, text: str, file: str = "mine.py") -> Code:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(textwrap.dedent(text))
    return read_code([file], folder)


def complaints(folder: Path, text: str) -> list[str]:
    """What is said of a file, without its folder."""
    with pytest.raises(CodeError) as caught:
        read(folder, text)
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


def test_every_kind_of_idea_is_read_with_its_settings(tmp_path: Path) -> None:
    found = read(tmp_path, ALL).ideas
    told = {name: (idea.kind, idea.player, idea.reads, idea.settings) for name, idea in found.items()}
    assert told == {
        "mismatched": (
            "term", "discriminator", ("f_own", "f_res"),
            {"on": False, "weight": 2.0, "shift": 1, "kind_of": "a", "share": 1.0},
        ),
        "lazily": (
            "penalty", "generator", (),
            {"on": False, "weight": 1.0, "every": 4, "power": 6.0, "on_fakes": False, "name": "é", "steps": 3},
        ),
        "hinge": ("adversarial", None, (), {"on": False, "margin": -1.0}),
        "colours": ("augment", None, (), {"on": False, "strength": 0.0}),
        "attention": ("layer", "generator", ("h", "w"), {"on": False, "at": 8, "heads": 1}),
        "projected": ("discriminator", None, (), {"on": False}),
        "f_own": ("feature", None, (), {"network": "timm:vit", "size": 224}),
        "f_other": ("feature", None, (), {"network": "embedded:resnet-guide", "size": 0}),
    }  # fmt: skip
    types = {(name, key): type(value) for name, idea in found.items() for key, value in idea.settings.items()}
    decimal = {"weight", "share", "power", "margin", "strength"}
    assert all((kind is float) == (key in decimal) for (_, key), kind in types.items())  # 2 and 2.0 are one setting
    assert found["mismatched"].doc == "The first line."
    assert found["mismatched"].where == f"{tmp_path}/mine.py:{ALL[: ALL.index('def mismatched')].count(chr(10)) + 1}"
    assert all(set(idea.types) == set(idea.settings) for idea in found.values())


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_idea_is_refused_with_its_line(text: str, tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, f"{HEAD}{text}\n")
    assert REFUSED[text] in complaint


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = (
        '@term("generator")\ndef a(step, *, n: int = "x", m=1, k: int): ...\n@augment\ndef b(images): ...\nx = layer\n'
    )
    lines = complaints(tmp_path, HEAD + text)
    assert [line.split(":")[1] for line in lines] == ["4", "4", "4", "6", "7"]


NAMES = {
    "/etc/mine.py": "is not a file in the study's folder",
    "../mine.py": "is not a file in the study's folder",
    "a/../../mine.py": "is not a file in the study's folder",
    "https://example.org/mine.py": "is not a file in the study's folder",
    "..\\mine.py": "is not a file in the study's folder",
    "": "is not a file in the study's folder",
    "mine.txt": "is not a .py file",
    "my-ideas.py": "cannot be imported",
    "class.py": "cannot be imported",
    "a\0.py": "cannot be imported",
    "mien.py": "is not there; did you mean 'mine.py'? the folder ",
    "~/mine.py": "cannot be imported",
    "folder.py": "is a folder or no regular file",
    "pipe.py": "is a folder or no regular file",
    "large.py": f"code of more than {MAX_BYTES:,} bytes in all is too much",
    "latin.py": "latin.py:2: is not UTF-8 text",
}


@pytest.mark.parametrize("name", NAMES)
def test_files_that_cannot_be_used_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "large.py").write_text("#" * (MAX_BYTES + 1))
    (tmp_path / "latin.py").write_bytes(b"x = 1\ny = '\xe9'\n")
    with pytest.raises(CodeError) as caught:
        read_code(["mine.py", name], tmp_path)
    ((place, text),) = caught.value.of_names
    assert place == 1 and NAMES[name] in text


def test_a_file_is_named_once_and_an_idea_too(tmp_path: Path) -> None:
    for file in ("a.py", "b.py"):
        (tmp_path / file).write_text('from harness.ideas import term\n@term("generator")\ndef one(step): ...\n')
    with pytest.raises(CodeError, match=r"b\.py:3: one: is the name of an idea at .*a\.py:3 too"):
        read_code(["a.py", "b.py"], tmp_path)
    with pytest.raises(CodeError, match=r"'\./a\.py' is here twice"):
        read_code(["a.py", "./a.py"], tmp_path)


def test_marks_in_a_file_that_is_not_named_are_told(tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text("from harness.ideas import augment\n@augment\ndef a(images, rng): ...\n")
    (complaint,) = complaints(tmp_path, "import blocks\n")
    fix = "write code: [..., blocks.py], or take the mark off"
    assert complaint == f"blocks.py:3: a: is marked in a file that `code` does not name; {fix}"


@pytest.mark.parametrize("name", ["random", "torch", "numpy"])
def test_a_module_that_hides_an_installed_one_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("x = 1\n")
    (complaint,) = complaints(tmp_path, f"import {name}\n")
    assert complaint.startswith(f"{name}.py:1: has the name of ")


LOST = {
    # File -> its text, the line that is told, and what of it.
    "ideas/mine.py": {
        "import blocks": "1: blocks is not in the study's folder, from which modules are looked up; "
        "for ideas/blocks.py write from . import blocks",
        "x = 1\nfrom blocks import y": "2: blocks is not in the study's folder, from which modules are looked up; "
        "for ideas/blocks.py write from .blocks import ...",
        "def f():\n    import blocks.part": "2: blocks is not in the study's folder",
        "from .. import blocks": "1: .. is no package, as the file lies 1 folder below",
        "from .missing import x": "1: ideas.missing is not in the study's folder",
        "from . import missing": "1: ideas.missing is not in the study's folder",
        "from .blocks import x": "",
        "from . import blocks": "",
        "from ideas import blocks": "",
        "import ideas.blocks": "",
        "from random import random\nimport no_such_library": "",
        "import shadow": "",  # what Python would take, too
        "try:\n    import blocks\nexcept ImportError:\n    from . import blocks": "",
    },
    "mine.py": {
        "from . import side": "1: . is no package, as the file lies in the study's folder, from which modules are "
        "looked up: write import side",
        "from .side import x": "1: . is no package, as the file lies in the study's folder, from which modules are "
        "looked up: write from side import ...",
        "import side.deeper": "1: side.deeper is not in the study's folder",
        "from whole import anything": "",
        "from bare import nothing": "1: bare.nothing is not in the study's folder",
        "from bare import inner, nothing": "1: bare.nothing is not in the study's folder",
        "from bare import inner, deeper": "",
        "from bare import empty": "1: bare.empty is not in the study's folder",
        "from bare.inner import *\nimport torch.nn": "",
        "from whole.part import x": "1: whole.part is not in the study's folder",
        "import side": "",
        "from side import *": "",
        "import importlib\nimportlib.import_module('side')": "2: 'side' is imported by a call, which is not followed",
        "from importlib import import_module as get\nget('whole.part')": "2: 'whole.part' is imported by a call",
        "x = __import__('side')": "1: 'side' is imported by a call",
        "import importlib\nimportlib.import_module('.side', 'whole')": "2: '.side' is imported by a call",
        "import importlib\nimportlib.import_module('torch')": "",
    },
}


@pytest.mark.parametrize(
    ("file", "text"),
    [(file, text) for file, texts in LOST.items() for text in texts],
    ids=lambda value: repr(value)[:40],
)
def test_an_import_that_a_run_would_not_find_is_told_when_the_file_is_read(
    file: str, text: str, tmp_path: Path
) -> None:
    bare = ("bare/deeper.py", "bare/inner/x.py", "bare/empty/run-1/x.py", "torch/run-1/x.py")
    for each in ("ideas/blocks.py", "ideas/shadow.py", "side.py", "whole/__init__.py", *bare):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_text("x = 1\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "shadow.py").write_text("")
    (tmp_path / file).write_text(f"{text}\n")
    wanted = LOST[file][text]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path / "elsewhere")
        if not wanted:
            read_code([file], tmp_path)
            return
        with pytest.raises(CodeError) as caught:
            read_code([file], tmp_path)
    (complaint,) = str(caught.value).splitlines()
    assert complaint.replace(str(tmp_path), "FOLDER").startswith(f"FOLDER/{file}:{wanted}")


def test_local_modules_are_followed_and_others_are_not(tmp_path: Path) -> None:
    files = {
        "blocks/__init__.py": "",
        "blocks/deep/__init__.py": "from ..side import x\n",
        "blocks/deep/er.py": "import os\n",
        "blocks/side.py": "x = 1\n",
        "plain/part.py": "def f():\n    import late\n",
        "late.py": "import mine\n",
        "unused.py": "",
        "harness/ideas/__init__.py": "raise ValueError",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    code = read(tmp_path, "import torch, json\nimport blocks.deep.er as er\nfrom plain import part\n")
    expected = {*files} - {"unused.py", "harness/ideas/__init__.py"} | {"mine.py"}
    assert set(code.source) == set(code.uses["mine.py"]) == expected
    assert code.uses["mine.py"][0] == "mine.py" and code.source_of(["mine.py"]) == code.source


BEFORE = '''
def f(a):
    """What it does."""
    b = """kept
    text  # no comment
"""
    return f"{a}#{b}"  # sum


class A(Base):
    x = 1
    """Of x."""
'''
SAME = {
    "a comment": ("# sum", "# another"),
    "a comment more": ("    return", "    # why\n    return"),
    "no comment": ("  # sum", ""),
    "a docstring": ("What it does.", "Something\n\n    else, at length."),
    "no docstring": ('    """What it does."""\n', ""),
    "a text that stands alone": ("Of x.", "Of y."),
    "blank lines": ("\n\n\nclass", "\n\nclass"),
    "trailing blanks": ("x = 1", "x = 1  \t"),
    "line ends": ("\n", "\r\n"),
}
OTHER = {
    "a number": ("x = 1", "x = 2"),
    "a text": ("kept", "Kept"),
    "blanks at the end of a line of a text": ("kept\n", "kept  \n"),
    "a blank line in a text": ("kept\n", "kept\n\n"),
    "what looks like a comment": ("# no comment", ""),
    "an f-string": ("#{b}", "# {b}"),
    "a name": ("class A", "class B"),
}


def digest(folder: Path, text: str) -> str:
    (folder / "mine.py").write_bytes(text.encode())
    return read_code(["mine.py"], folder).digest("mine.py")


@pytest.mark.parametrize("change", [*SAME, *OTHER])
def test_a_digest_is_of_what_code_means(change: str, tmp_path: Path) -> None:
    old, new = (SAME | OTHER)[change]
    assert old in BEFORE
    same = digest(tmp_path, BEFORE) == digest(tmp_path, BEFORE.replace(old, new))
    assert same == (change in SAME)


def test_a_digest_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """Taken once, so that another version of Python, which cuts f-strings otherwise, gives the same."""
    assert digest(tmp_path, BEFORE)[:16] == "cf72d778978b4d66"


def test_a_digest_holds_what_is_imported_and_of_each_file_its_own(tmp_path: Path) -> None:
    for file, text in {"a.py": "import blocks\n", "b.py": "x = 1\n", "blocks.py": "y = 1\n"}.items():
        (tmp_path / file).write_text(text)

    def digests() -> list[str]:
        code = read_code(["a.py", "b.py"], tmp_path)
        return [code.digest("a.py"), code.digest("b.py")]

    before = digests()
    (tmp_path / "blocks.py").write_text("y = 1  # one\n")
    assert digests() == before
    (tmp_path / "blocks.py").write_text("y = 2\n")
    after = digests()
    assert after[0] != before[0] and after[1] == before[1]
    (tmp_path / "blocks.py").write_text("y = 1\n")
    assert digests() == before


def test_marks_say_what_they_mark_and_need_no_torch() -> None:
    program = "import sys, harness.ideas, harness.ideas.read; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
    assert {*marks.KINDS} < {*marks.__all__}

    @marks.penalty("discriminator", weight=2.0, every=2, reads=["f_res"])
    def one(step: object) -> None: ...

    assert one.__idea__ == marks.Mark("penalty", "discriminator", ("f_res",))  # type: ignore[attr-defined]
    assert marks.feature("timm:x", size=32).__idea__.kind == "feature"
