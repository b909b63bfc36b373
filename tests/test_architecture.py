"""The architecture as a test: imports follow the arrows, torch stays out of what must start fast, sizes stay small.

Every rule is a function of the code as text, so each is also tried on code that breaks it.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES, MAX_FUNCTION, MAX_TEST, MAX_PARAMETERS = 350, 35, 60, 6

GROUND = "cache databases errors exit_codes files finding fonts frozen_networks masking processes rng"
GROUND += " limits script settings since text trees"
"""Modules of harness/ itself, which every room may import. `settings` and what is made of them are of a run:
they stand on models' own."""
_ON_MODELS = ("frozen_networks", "settings", "since")
ARROWS = {
    "models": "",
    "terminal": "",
    "code": "",
    "design": "",
    "ideas": "models runs scheduler",
    "command": "code data ideas metrics runs scheduler training",
    "runs": "code models",
    "data": "code models terminal",
    "metrics": "code data models",
    "scheduler": "runs terminal",
    "training": "code data ideas metrics models runs scheduler",
    "study": "command data design ideas metrics models runs",
    "tracking": "code runs scheduler study",
    "analysis": "design metrics runs",
    "planning": "analysis code data design metrics runs scheduler study terminal training",
    "tuning": "analysis data design metrics runs scheduler study",
    "executors": "code runs scheduler study terminal",
    "storage": "code data executors metrics models runs study tracking tuning",
    "report": "analysis code command design ideas metrics runs study terminal tuning",
    "grid": "analysis code command data executors ideas report runs scheduler storage study terminal tracking training"
    " tuning",
    "given": "study",
    "notebook": "analysis design given grid report runs study",
    "api": "given grid notebook planning study training",
    "comparing": "analysis design given grid metrics study terminal",
    "sharing": "given grid storage study",
    "watch": "executors runs scheduler study",
    "cli": "analysis api command comparing data design executors grid metrics models planning report runs scheduler"
    " sharing storage study terminal tracking training tuning watch",
}
"""Room -> the rooms that it may import, at the top, inside a function or for type checking alike."""
ONLY = {
    "harness.models.objective": "",
    "harness.models.config": "harness.models.objective",
    "harness.models.toggles": "harness.models.config",
    "harness.models.convolution": "",
    "harness.models.kernels": "harness.models.triton_kernels",
    "harness.models.triton_kernels": "",
    "harness.models.channelwise": "harness.models.kernels",
    "harness.models.resampling": "harness.models.kernels",
    "harness.models.ops": "harness.models.channelwise harness.models.convolution harness.models.resampling",
    "harness.models.losses": "harness.models.objective",
    "harness.models.own_layers": "harness.models.objective harness.models.ops",
    "harness.models.generator": "harness.models.channelwise harness.models.config harness.models.ops"
    " harness.models.own_layers harness.models.resampling",
    "harness.models.discriminator": "harness.models.channelwise harness.models.config harness.models.convolution"
    " harness.models.kernels harness.models.ops harness.models.own_layers harness.models.resampling",
    "harness.settings": "harness.errors harness.models.config harness.models.objective harness.trees",
}
"""Module -> all that it may import of ours."""
STRANGERS = {"metrics": "training", "report": "training", "analysis": "training", "scheduler": "training data study"}
"""Numbers can be computed again, and reports written again, without what trained the runs."""

TORCH_FREE = """
    harness harness.api harness.comparing
    harness.cli.main harness.databases harness.errors harness.rng harness.grid.run harness.grid.jobs harness.settings
    harness.runs.record harness.runs.folders harness.runs.lease harness.code.engine harness.study.load
    harness.study.plan harness.design.kinds harness.design.power harness.scheduler.scheduler harness.scheduler.slots
    harness.scheduler.live harness.tracking.mirror harness.storage.caches harness.storage.usage harness.storage.garbage
    harness.analysis.from_records harness.analysis.from_csv harness.report.write harness.report.terminal
    harness.analysis.costs harness.analysis.export harness.design.design harness.metrics.folders
    harness.metrics.formulas harness.metrics.cards harness.metrics.manifest harness.metrics.names
    harness.grid.outcome harness.grid.tune harness.runs.snapshot harness.runs.initial harness.models.published
    harness.data.caption_counts harness.data.dataset harness.metrics.captions harness.metrics.definitions
    harness.planning.budget harness.planning.timing harness.command.words harness.command.files
    harness.tuning.trials harness.tuning.loop harness.tuning.findings harness.tuning.profile harness.report.search.write
    harness.models.config harness.models.objective harness.models.published harness.models.toggles
    harness.models.encoders.names harness.models.encoders.tokens harness.ideas harness.ideas.read
    harness.notebook.loaded harness.notebook.tables harness.notebook.samples harness.notebook.summary
    harness.executors.executor harness.executors.job harness.executors.live harness.grid.work
    harness.grid.submit harness.study.site harness.executors.ray harness.executors.ray_connection
    harness.watch.server
"""
"""Loaded in processes that never train; whoever imports torch on their way makes every command slow."""
HEAVY = ("torch", "torchvision", "mlflow", "open_clip", "timm", "torch_fidelity")


@dataclass(frozen=True)
class House:
    """The package as text: module -> source."""

    sources: Mapping[str, str]

    @cached_property
    def modules(self) -> list[str]:
        """Those that hold something."""
        return sorted(name for name, text in self.sources.items() if text.strip())

    def with_line(self, module: str, line: str) -> House:
        """As it would be with one more line at the end of a module."""
        return House({**self.sources, module: f"{self.sources.get(module, '')}\n{line}\n"})

    def imported(self, module: str) -> set[str]:
        """Our own modules that this one imports: at the top, inside a function, or for type checking."""
        found = {name for node in import_statements(self.sources[module]) for name in names(node, self.sources)}
        return {name for name in found if self.sources.get(name, "").strip()} - {module}


@functools.cache
def import_statements(text: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]


def names(node: ast.Import | ast.ImportFrom, modules: Container[str] = ()) -> Iterator[str]:
    """Full names that an import statement may load; `from a import b` may mean the module a.b.

    The package `harness` is imported before all its modules and loads nothing: `from harness import cache` is an import
    of that module alone, whereas `from harness import load` is one of the package.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        assert node.level == 0, "imports are absolute"
        assert node.module
        each = [f"{node.module}.{alias.name}" for alias in node.names]
        if node.module != "harness" or any(name not in modules for name in each):
            yield node.module
        yield from each


def read_house() -> House:
    """Of the checkout, where harness/models is a link to models/."""
    found = {}
    for folder in (ROOT / "harness", ROOT / "harness" / "models"):
        for path in sorted(folder.rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[module] = path.read_text(encoding="utf-8")
    return House(found)


HOUSE = read_house()
SOURCES = [
    *(ROOT / f"{name.replace('.', '/')}.py" for name in HOUSE.modules if not (ROOT / name.replace(".", "/")).is_dir()),
    *sorted((ROOT / "tools").rglob("*.py")),
    *sorted((ROOT / "tests").glob("*.py")),
]


def room(module: str) -> str:
    """`harness.report.figures.style` is in `report`; a module of harness/ itself is its own."""
    return module.split(".")[1] if "." in module else ""


# The rules: each yields what breaks it.


def against_the_arrows(house: House) -> Iterator[str]:
    for module in house.modules:
        here = room(module)
        allowed = set(ARROWS.get(here, "").split()) | set(GROUND.split()) | {here}
        if here in GROUND.split():
            allowed = {*GROUND.split(), "models"} if here in _ON_MODELS else {*GROUND.split()}
        if module in ("harness", "harness.__main__"):
            allowed = {*ARROWS, *GROUND.split()}
        yield from (f"{module} -> {each}" for each in sorted(house.imported(module)) if room(each) not in allowed)


def without_a_room(house: House) -> Iterator[str]:
    known = {"", "__main__", *ARROWS, *GROUND.split()}
    yield from (module for module in house.modules if room(module) not in known)


def beyond_the_only(house: House) -> Iterator[str]:
    for module, allowed in ONLY.items():
        yield from (f"{module} -> {each}" for each in sorted(house.imported(module) - set(allowed.split())))


def knowing_strangers(house: House) -> Iterator[str]:
    for module in house.modules:
        unknown = STRANGERS.get(room(module), "").split()
        yield from (f"{module} -> {each}" for each in sorted(house.imported(module)) if room(each) in unknown)


def in_a_circle(house: House, of_rooms: bool) -> Iterator[str]:
    """Modules, or rooms, that import each other in a circle, whichever way they do it."""
    graph: dict[str, set[str]] = {}
    for module in house.modules:
        ends = house.imported(module)
        if of_rooms:
            graph.setdefault(room(module), set()).update({room(each) for each in ends} - {room(module)})
        else:
            graph[module] = ends
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield " <- ".join(error.args[1])


def undocumented(house: House) -> Iterator[str]:
    yield from (module for module in house.modules if not ast.get_docstring(ast.parse(house.sources[module])))


def is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Of Triton, which has no structures to pass and whose helpers would hide what is read in which order."""
    return any(ast.unparse(decorator) == "triton.jit" for decorator in node.decorator_list)


def too_large(text: str, longest: int = MAX_FUNCTION) -> Iterator[str]:
    """Lines of a function are counted without its docstring."""
    if len(text.splitlines()) > MAX_LINES:
        yield "too many lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_kernel(node):
            docstring = len((ast.get_docstring(node) or "").splitlines())
            if (node.end_lineno or node.lineno) - node.lineno + 1 - docstring > longest:
                yield f"{node.name} is too long"
            every = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len(every) - (every[:1] in (["self"], ["cls"])) > MAX_PARAMETERS:
                yield f"{node.name} has too many parameters"


def heavy(modules: list[str], folder: Path) -> dict[str, list[str]]:
    """Module -> the heavy libraries that are loaded once it and those before it are, in a process of its own."""
    program = """
import importlib, json, sys
loaded = {}
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
    loaded[module] = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps(loaded))
"""
    command = [sys.executable, "-c", program, json.dumps(modules), json.dumps(HEAVY)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    return {module: found for module, found in loaded.items() if found}


# What holds.


def test_imports_follow_the_arrows() -> None:
    assert list(against_the_arrows(HOUSE)) == []
    assert list(beyond_the_only(HOUSE)) == []
    assert list(knowing_strangers(HOUSE)) == []


def test_every_module_has_a_room_and_every_room_and_rule_is_there() -> None:
    assert list(without_a_room(HOUSE)) == []
    assert {room(module) for module in HOUSE.modules} == {"", "__main__", *ARROWS, *GROUND.split()}
    assert set(ONLY) | set(TORCH_FREE.split()) <= set(HOUSE.modules)
    assert set(STRANGERS) <= set(ARROWS)


def test_no_arrow_is_allowed_that_nobody_takes() -> None:
    taken: dict[str, set[str]] = {name: set() for name in ARROWS}
    for module in HOUSE.modules:
        if room(module) in taken:
            taken[room(module)] |= {room(each) for each in HOUSE.imported(module)}
    idle = {name: set(allowed.split()) - taken[name] for name, allowed in ARROWS.items()}
    assert {name: unused for name, unused in idle.items() if unused} == {}


def test_the_table_of_the_document_has_these_arrows_each_to_a_room_above() -> None:
    above = set[str]()
    for row in re.findall(r"^\| (`[a-z].*?) \|.*\| (.*)\|$", (ROOT / "ARCHITECTURE.md").read_text(), re.M):
        rooms = re.findall(r"`([a-z]+)", row[0])
        arrows = set(" ".join(ARROWS[name] for name in rooms).split()) - set(rooms)
        assert arrows <= above and row[1].strip() in (", ".join(sorted(arrows)), "all of these"), rooms
        above |= {*rooms}
    assert above == {*ARROWS}


def test_nothing_is_imported_in_a_circle() -> None:
    assert list(in_a_circle(HOUSE, of_rooms=True)) == []
    assert list(in_a_circle(HOUSE, of_rooms=False)) == []


def test_every_module_says_what_it_is_for() -> None:
    assert list(undocumented(HOUSE)) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    longest = MAX_TEST if path.parent.name == "tests" else MAX_FUNCTION
    assert list(too_large(path.read_text(encoding="utf-8"), longest)) == []


def test_what_starts_fast_loads_nothing_heavy() -> None:
    assert heavy(TORCH_FREE.split(), ROOT) == {}


# And that each rule sees what it forbids.

INSIDE = "def late():\n    {}"
CHECKED = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {}"


@pytest.mark.parametrize("form", ["{}", INSIDE, CHECKED], ids=["top", "function", "type checking"])
def test_each_rule_sees_an_import_that_breaks_it(form: str) -> None:
    trainer = form.format("from harness.training.trainer import Trainer")
    for module in ("harness.metrics.measure", "harness.errors", "harness.models.losses", "harness.settings"):
        assert f"{module} -> harness.training.trainer" in [*against_the_arrows(HOUSE.with_line(module, trainer))]
    assert [*knowing_strangers(HOUSE.with_line("harness.report.write", trainer))]
    layers = form.format("from harness.models import build")
    assert [*beyond_the_only(HOUSE.with_line("harness.models.losses", layers))] == [
        "harness.models.losses -> harness.models.build"
    ]
    public = form.format("from harness import load")
    assert [*against_the_arrows(HOUSE.with_line("harness.grid.run", public))] == ["harness.grid.run -> harness"]
    back = HOUSE.with_line("harness.runs.record", form.format("import harness.runs.folders"))
    assert [*in_a_circle(back, of_rooms=False)] and not [*in_a_circle(back, of_rooms=True)]
    assert [*in_a_circle(HOUSE.with_line("harness.design.kinds", form.format("import harness.study.plan")), True)]


def test_each_rule_sees_a_module_that_breaks_it(tmp_path: Path) -> None:
    lost = HOUSE.with_line("harness.attic.box", "x = 1")
    assert [*without_a_room(lost)] == ["harness.attic.box"] and [*undocumented(lost)] == ["harness.attic.box"]
    (tmp_path / "slow.py").write_text("import torch\n")
    (tmp_path / "torch.py").touch()
    assert heavy(["json", "slow"], tmp_path) == {"slow": ["torch"]}


@pytest.mark.parametrize(
    "text", ["x = 1\n" * 351, "def f():\n" + "    x = 1\n" * 35, "def f(a, b, c, d, *, e, f, g): ...\n"]
)
def test_sizes_are_seen(text: str) -> None:
    assert len([*too_large(text)]) == 1
