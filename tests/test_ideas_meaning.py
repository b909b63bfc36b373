"""What of a module's text counts: the same under every version of Python, whose tokenizers cut f-strings otherwise."""

from __future__ import annotations

import ast
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.ideas import meaning as module
from harness.ideas.meaning import meaning
from harness.ideas.read import read_code

ROOT = Path(__file__).parent.parent
TRICKY = '''\ufeff\x0c# -*- coding: latin-1 -*- é
"""Docstring with "quotes" and # a hash, é."""
from a import (b,  # why
    c)\x20\x20

x = "# no comment"; y = '#'  # é comment "with quotes"
z = f"{x!r:>{y}}#{'#'}" "# no" f'{ {1: 2}[1] }{{#}}'  # {x}
é = f"""a {x:
} # no comment\x20\x20

  {y
}"""   # after
w = 1 + \\
    2  # continued
v = rb'\\'#' + b"""
# kept\x20\x20
"""
u = """text""" """ that\x20\x20
stands""" + f"é{x}é#"  # é
def f(a, *, b=(1,  # one

    2)):
\tr"""Raw docstring \\d."""
\tif a: "stands alone"; b = 1; 'and  '  # both
\t"stands " \\
\t    "alone"   ; b = 2
\tf"counts {a}"
\x0c
\treturn lambda: f'{a}'  # end
class A:
    """Of A."""
    x: int = 1; """Of x."""\x20
# last line, without an end'''.replace("\n", "\r\n")


def unmarked(text: str) -> str:
    """As a file is read."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def test_what_counts_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """Taken once, and the same under Python 3.11.7, 3.12.1 and 3.13.0."""
    form = meaning(unmarked(TRICKY))
    assert hashlib.sha256(form.encode()).hexdigest()[:16] == "a2d0e0175db5d972"
    (tmp_path / "mine.py").write_bytes(TRICKY.encode())
    assert read_code(["mine.py"], tmp_path).digest("mine.py")[:16] == "2ddaea071f242346"


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_another_python_finds_the_same_meaning(version: str, tmp_path: Path) -> None:
    python = shutil.which(f"python{version}")
    if not python or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version} here")
    program = (
        "import hashlib, importlib.util as u, pathlib, sys\n"
        "spec = u.spec_from_file_location('meaning', sys.argv[1]); m = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(m)\n"
        "texts = [pathlib.Path(each).read_bytes().decode() for each in sys.argv[2:]]\n"
        "print(*(hashlib.sha256(m.meaning(text).encode()).hexdigest() for text in texts))\n"
    )
    (tmp_path / "tricky.py").write_bytes(unmarked(TRICKY).encode())
    files = [tmp_path / "tricky.py", *sorted((ROOT / "docs" / "ideas").glob("*.py")), *sorted(ROOT.glob("models/*.py"))]
    command = [python, "-c", program, str(module.__file__), *map(str, files)]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert theirs == [hashlib.sha256(meaning(each.read_bytes().decode()).encode()).hexdigest() for each in files]


def without_texts(text: str) -> str:
    """The syntax tree without texts that stand alone."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                kept = [each for each in body if not _is_text(each)]
                setattr(node, name, kept or [ast.Pass()] if body else [])
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "ideas").glob("*.py")), ids=lambda path: path.name)
def test_nothing_but_comments_and_texts_that_stand_alone_is_lost(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    form = meaning(text)
    assert without_texts(form) == without_texts(text) != without_texts(f"{text}\nx = 1")
    assert form.count('"""') == 0 and len(form) < len(text)
