"""The architecture as a test: imports follow the arrows, torch stays out of what must start fast, sizes stay small."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("harness", "models")
    for path in sorted((ROOT / package).rglob("*.py"))
}
MODULES = sorted(name for name in FILES if FILES[name].stat().st_size)
SOURCES = [*FILES.values(), *sorted((ROOT / "tests").glob("*.py"))]

MAX_LINES, MAX_FUNCTION, MAX_PARAMETERS = 350, 60, 6

TORCH_FREE = """
    harness.cli harness.errors harness.records harness.rng harness.grid harness.work
    harness.study.settings harness.study.spec harness.design.kinds harness.study.plan
    harness.running.scheduler harness.running.slots harness.running.live harness.tracking.mirror
    harness.storage.known harness.storage.room harness.storage.garbage
    harness.analysis.of_records harness.analysis.of_csv harness.report.write harness.report.terminal harness.outcome
    harness.data.dataset harness.metrics.definitions models.config models.terms models.toggles
"""
HEAVY = ("torch", "torchvision", "mlflow", "open_clip", "timm", "torch_fidelity")

# What a module of models may import of its own package.
ONLY = {
    "models.config": "models.terms",
    "models.terms": "models.config",
    "models.toggles": "models.config",
    "models.ops": "",
    "models.layers": "models.ops",
    "models.losses": "models.config models.terms",
    "models.generator": "models.config models.layers models.ops",
    "models.discriminator": "models.config models.layers models.ops",
}
# The arrows: what a package of harness may import beside these modules, at the top or inside a function.
BASE = {"errors", "reading", "records", "roster", "writing", "claims", "rng", "cache", "columns", "lettering"}
BASE |= {"masking", "output", "console", "identity", "engine", "source"}
BASE |= {"databases", "remedies"}
ARROWS = {
    "data": "",
    "running": "",
    "design": "",
    "study": "data design",
    "metrics": "data study",
    "training": "data study metrics running",
    "tracking": "study running provenance",
    "analysis": "design study metrics",
    "planning": "analysis design study metrics running",
    "report": "analysis design study metrics",
    "weights": "data",
    "tuning": "data design study metrics running analysis report",
    "storage": "data study tracking",
    "commands": "analysis design evaluate metrics planning report show storage study tune",
}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def names(node: ast.AST) -> Iterator[str]:
    """Full names that an import statement may load; `from a import b` may mean the module a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        assert node.module
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(module: str) -> set[str]:
    """Our own modules that this one imports, at the top or inside a function."""
    found = {name for node in ast.walk(tree(FILES[module])) for name in names(node)}
    return {name for name in found if name in FILES and FILES[name].stat().st_size} - {module}


def runtime(module: str) -> set[str]:
    """As `imported`, without what is imported for type checking only."""
    checked = {
        name
        for node in ast.walk(tree(FILES[module]))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for part in ast.walk(node)
        for name in names(part)
    }
    return imported(module) - checked


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    args = function.args
    every = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    return every[1:] if every[:1] in (["self"], ["cls"]) else every


def test_there_is_something_to_check() -> None:
    assert {"models.terms", "models.losses", "harness.study.settings", "harness.records"} <= set(MODULES)
    assert imported("models.toggles") == {"models.config"}
    assert imported("models.terms") == {"models.config"} and runtime("models.terms") == set()
    folders = {path.parent.name for path in (ROOT / "harness").glob("*/*.py")} - {"presets"}
    assert folders == set(ARROWS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    package, *rest = module.split(".")
    found = imported(module)
    assert "harness.cli" not in found or module == "harness.__main__"
    if package == "models":
        everything = {name for node in ast.walk(tree(FILES[module])) for name in names(node)}
        assert "harness" not in {name.split(".")[0] for name in everything}
        assert module not in ONLY or found <= set(ONLY[module].split())
    elif rest[0] in ARROWS:
        others = {name.split(".")[1] for name in found if name.startswith("harness.")} - {rest[0]}
        assert others <= BASE | set(ARROWS[rest[0]].split())


def test_the_base_stands_alone() -> None:
    """But for the settings of data, which decide what a run is."""
    for name in BASE:
        found = imported(f"harness.{name}") - {"harness.data", "harness.data.config"}
        assert {each.split(".")[1] for each in found if each.startswith("harness.")} <= BASE


def test_what_is_measured_or_compared_knows_no_trainer() -> None:
    """Numbers can be recomputed and reports rebuilt without what made them."""
    for package in ("metrics", "comparison", "running"):
        for module in (name for name in MODULES if name.startswith(f"harness.{package}.")):
            assert not any(name.startswith("harness.training") for name in imported(module))


def test_imports_have_no_cycle() -> None:
    TopologicalSorter({module: runtime(module) for module in MODULES}).prepare()


def test_package_files_are_empty() -> None:
    assert [package for package in ("harness", "models") if FILES[package].stat().st_size] == []


def torch_free() -> list[str]:
    says_so = {name for name in MODULES if "no torch here" in (ast.get_docstring(tree(FILES[name])) or "").lower()}
    return sorted(says_so | set(TORCH_FREE.split()))


def test_torch_free_modules_import_without_torch() -> None:
    modules = [module for module in torch_free() if module in FILES]
    program = """
import importlib, json, sys
loaded = {}
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
    loaded[module] = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps(loaded))
"""
    command = [sys.executable, "-c", program, json.dumps(modules), json.dumps(HEAVY)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert {module: heavy for module, heavy in loaded.items() if heavy} == {}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    for function in functions(path):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= MAX_FUNCTION, f"{function.name} has {length} lines"
        assert len(parameters(function)) <= MAX_PARAMETERS, f"{function.name} has too many parameters"


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(tree(FILES[module]))
