"""Which code computed a result: a changed formula is noticed wherever it stands, and prose is not."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.code import engine as engines
from harness.code.engine import Engine, formulas, unlike
from harness.code.source import Package, digest

CODE = Path(engines.__file__).parents[2]
PARTS = tuple(engines.ROOTS)


@pytest.fixture(scope="module")
def shared_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    for package in ("harness", "models"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(CODE / package, root / package, symlinks=True, ignore=ignored)
    return root


@pytest.fixture
def copy(shared_copy: Path) -> Iterator[Path]:
    """The packages' source, to be changed; as it was afterwards, so that only what a test changes is parsed anew."""
    before = {path: path.read_bytes() for path in shared_copy.rglob("*.py")}
    yield shared_copy
    for path in set(shared_copy.rglob("*.py")) | before.keys():
        if path not in before:
            path.unlink()
        elif not path.exists() or path.read_bytes() != before[path]:
            path.write_bytes(before[path])


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    text = path.read_text()
    assert text.count(old) >= 1, f"{name} has no {old}"
    path.write_text(text.replace(old, new, 1))


def of(root: Path) -> dict[str, str]:
    return {part: digest(formulas(part, root)) for part in PARTS}


TODAY = of(CODE)

FORMULAS = [
    ("models/losses.py", "return -tau * logits", "return tau * logits", {"training"}),
    ("models/losses.py", "(1 - loss.mix_lambda) * pseudo", "(1 + loss.mix_lambda) * pseudo", {"training"}),
    ("models/losses.py", "20211127", "20211128", {"training"}),
    ("models/ops.py", "SQRT2 = ", "SQRT2 = 2 * ", {"training"}),
    ("models/discriminator.py", "math.sqrt", "math.cbrt", {"training"}),
    ("models/ops.py", "* (1.0 / self.lr_multiplier)", "+ (1.0 / self.lr_multiplier)", {"training"}),
    (
        "models/objective.py",
        ".weights[player][term.name] > 0",
        ".weights[player][term.name] >= 0",
        {"training", "measuring"},
    ),
    ("harness/training/trainer.py", "0.5 ** (train", "0.25 ** (train", {"training"}),
    ("harness/training/trainer.py", "train.r1_gamma / 2", "train.r1_gamma / 4", {"training"}),
    ("harness/training/warm_start.py", "_SAMPLES = 4096", "_SAMPLES = 2048", {"training"}),
    ("models/inherit.py", "own[name].copy_(value)", "own[name].copy_(0.5 * value)", {"training"}),
    ("harness/training/views.py", "+ config.pixel_noise *", "+ 2 * config.pixel_noise *", {"training"}),
    ("models/objective.py", "return self.v.is_fake", "return self.u.is_fake", {"training", "measuring"}),
    ("harness/data/batches.py", "(1 - share) * feature", "(1 + share) * feature", {"training", "measuring"}),
    ("harness/data/batches.py", "step * batch,", "step + batch,", {"training"}),
    ("harness/settings.py", "self.train.kimg * 1000", "self.train.kimg * 1024", {"training", "measuring"}),
    ("harness/rng.py", "PCG64", "MT19937", {"training", "measuring"}),
    ("harness/metrics/formulas.py", "apart - 2 * float", "apart - 3 * float", {"measuring"}),
    ("harness/metrics/measure.py", "+ 1) * 127.5", "+ 1) * 127", {"measuring"}),
    ("harness/metrics/manifest.py", "_CAPTION_SHARE = 4", "_CAPTION_SHARE = 5", {"measuring"}),
    ("harness/metrics/manifest.py", "antialiased, centre", "not antialiased, centre", {"measuring"}),
    ("harness/data/features.py", "/ 127.5 - 1", "/ 127 - 1", {"encoding", "training", "measuring"}),
    ("models/encoders/frozen.py", "antialias=True", "antialias=False", {"encoding", "training", "measuring"}),
    ("models/encoders/tokens.py", "text.lower()", "text.upper()", {"encoding", "training", "measuring"}),
    ("harness/data/decode.py", "Resampling.LANCZOS", "Resampling.BOX", set(PARTS)),
]


@pytest.mark.parametrize(("name", "old", "new", "parts"), FORMULAS)
def test_a_changed_formula_changes_the_engines_that_it_is_part_of(
    copy: Path, name: str, old: str, new: str, parts: set[str]
) -> None:
    edit(copy, name, old, new)
    found = of(copy)
    assert {part for part in PARTS if found[part] != TODAY[part]} == parts


class Flip(ast.NodeTransformer):
    """Changes the first operator, comparison or number that counts."""

    done = False

    def visit(self, node: ast.AST) -> ast.AST:
        if self.done or isinstance(node, ast.arg | ast.Raise | ast.JoinedStr):
            return node
        match node:
            case ast.BinOp():
                self.done, node.op = True, ast.Add() if isinstance(node.op, ast.Mod) else ast.Mod()
            case ast.Compare():
                self.done, node.ops[0] = True, ast.Is() if isinstance(node.ops[0], ast.IsNot) else ast.IsNot()
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                self.done, node.value = True, node.value + 7
            case ast.AnnAssign():
                node.annotation = ast.Name("kept")  # no part of what counts
                return self.generic_visit(node)
            case ast.FunctionDef():
                node.body = [self.visit(each) for each in node.body]  # type: ignore[misc]
                return node
        return node if self.done else self.generic_visit(node)


def flipped(text: str, name: str) -> str | None:
    """The text with that definition changed; None where there is nothing in it to flip."""
    tree, flip = ast.parse(text), Flip()
    for statement in tree.body:
        if getattr(statement, "name", None) == name:
            flip.visit(statement)
    return ast.unparse(tree) if flip.done else None


@pytest.mark.parametrize("part", ["training", "measuring"])
def test_each_module_on_the_way_of_a_result_counts(part: engines.Part, copy: Path) -> None:
    """One operator of one definition of each module: none is covered in name only."""
    tried = 0
    by_module: dict[str, list[str]] = {}
    for module, name in formulas(part, CODE):
        by_module.setdefault(module, []).append(name)
    for module, names in by_module.items():
        if module in engines._VALUES:
            continue  # whose numbers are settings
        path = copy.joinpath(*module.split(".")).with_suffix(".py")
        text = path.read_text()
        changed = next(filter(None, (flipped(text, name) for name in names)), None)
        if changed is None:
            continue  # fields, tables and calls alone
        path.write_text(changed)
        assert digest(formulas(part, copy)) != TODAY[part], module
        path.write_text(text)
        tried += 1
    assert tried >= {"training": 19, "measuring": 15}[part], "fewer modules are reached, or their formulas are gone"


MUST = {
    "training": """harness.models.losses.contrast harness.models.losses.adversarial harness.models.losses.r1_penalties
        harness.models.losses.path_lengths harness.models.ops.modulated_conv
        harness.models.generator.TransformStyle harness.models.discriminator.minibatch_std
        harness.models.generator.Generator harness.models.discriminator.Discriminator
        harness.models.build.build harness.training.trainer.Trainer harness.rng.torch_generator
        harness.training.views.view harness.data.batches.Corpus harness.data.batches.batch_ids
        harness.models.encoders.frozen.Clip harness.data.batches.flips harness.data.features.to_unit_range
        harness.data.decode.decode harness.models.objective.active harness.models.encoders.embedded.build_tower
        harness.models.encoders.load.load_clip harness.models.encoders.load.load_resnet
        harness.models.inherit.inherit harness.training.warm_start._samples""",
    "measuring": """harness.metrics.formulas.frechet_distance harness.metrics.pairs.kid_precision_recall
        harness.metrics.pairs.real_pairs harness.metrics.formulas.clip_score
        harness.metrics.formulas.r_precision harness.metrics.measure.quantise harness.metrics.measure.sanity
        harness.metrics.manifest.Manifest harness.metrics.manifest.make_manifest
        harness.metrics.manifest.extractor harness.models.encoders.frozen.Inception harness.data.decode.decode
        harness.metrics.definitions.POOL harness.models.encoders.frozen.Resnet""",
}


@pytest.mark.parametrize("part", MUST)
def test_what_decides_a_result_is_reached(part: engines.Part) -> None:
    found = {f"{module}.{name}" for module, name in formulas(part, CODE)}
    assert set(MUST[part].split()) <= found


def test_what_only_carries_is_not() -> None:
    modules = {module for part in PARTS for module, _ in formulas(part, CODE)}
    carrying = "report scheduler analysis grid tracking storage planning tuning study cli"
    assert not [each for each in modules if each.split(".")[1] in carrying.split()]
    assert modules.isdisjoint(
        {"harness.cache", "harness.runs.record", "harness.training.session", "harness.code.engine"}
    )


def comments(root: Path) -> None:
    for path in [*root.rglob("losses.py"), *root.rglob("formulas.py"), *root.rglob("trainer.py")]:
        text = re.sub(r'^( +)"""(?=\w)', r'\1"""Said otherwise. ', path.read_text(), flags=re.M)
        text = text.replace("\n\n\n", "\n\n\n# A word more.\n\n")
        path.write_text("# Above all.\n" + text)


def layout(root: Path) -> None:
    """What a formatter may do: all of it written anew from the syntax tree."""
    for path in [
        *root.rglob("losses.py"),
        *root.rglob("formulas.py"),
        *root.rglob("trainer.py"),
        *root.rglob("ops.py"),
    ]:
        path.write_text(ast.unparse(ast.parse(path.read_text())))


def messages(root: Path) -> None:
    edit(root, "harness/training/finite.py", "its gradient norm", "and the norm of its gradient")
    edit(root, "models/build.py", "allowed are powers of two", "it must be a power of two")


def annotations(root: Path) -> None:
    edit(
        root,
        "models/losses.py",
        "def contrast(u: Tensor, v: Tensor, tau: float = 0.5",
        "def contrast(u, v, tau: int = 0.5",
    )


def additions(root: Path) -> None:
    """A term that is off, an option with its default, a function that nobody calls, another module."""
    edit(
        root,
        "models/objective.py",
        "TERMS: tuple[Term, ...] = (",
        'TERMS: tuple[Term, ...] = (\n    Term("a", "generator", 1.0, H, H, {"b": 1}),',
    )
    edit(
        root,
        "models/objective.py",
        "    tau: Positive = 0.5",
        '    hinge: bool = False\n    """A word."""\n    tau: Positive = 0.5',
    )
    edit(root, "models/losses.py", "def contrast(", "def hinge(u):\n    return u * 2\n\n\ndef contrast(")
    (root / "models" / "further.py").write_text("X = 1\n")


def moves(root: Path) -> None:
    """Half of the losses into a module of their own, and a package renamed; imports follow, code does not."""
    path = root / "models" / "losses.py"
    text = path.read_text()
    cut = text.index("def r1_penalties(")
    head = text[: text.index("def objective(")]
    path.write_text(text[:cut])
    (root / "models" / "regularisers.py").write_text(head + text[cut:])
    apart = "import condition_logit, objective\nfrom harness.models.regularisers import path_lengths, r1_penalties"
    edit(root, "harness/training/trainer.py", "import condition_logit, objective, path_lengths, r1_penalties", apart)
    (root / "models" / "ops.py").rename(root / "models" / "operations.py")
    for name in ("discriminator", "generator"):
        edit(root, f"models/{name}.py", "from harness.models.ops import", "from harness.models.operations import")
    shutil.move(root / "harness" / "metrics" / "formulas.py", root / "harness" / "distances.py")
    for path in (root / "harness").rglob("*.py"):
        text = path.read_text().replace(
            "from harness.metrics import formulas", "from harness import distances as formulas"
        )
        path.write_text(text.replace("from harness.metrics.formulas", "from harness.distances"))


@pytest.mark.parametrize("change", [comments, layout, messages, annotations, additions, moves])
def test_what_is_no_formula_changes_no_engine(copy: Path, change: Callable[[Path], None]) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*.py")}
    change(copy)
    assert before != {path: path.read_bytes() for path in copy.rglob("*.py")}
    assert of(copy) == TODAY


def test_the_same_name_from_another_module_is_another_formula(copy: Path) -> None:
    path = copy / "models" / "terms2.py"
    path.write_text((copy / "models" / "losses.py").read_text().replace("return -tau", "return tau"))
    edit(copy, "harness/training/trainer.py", "from harness.models.losses import", "from harness.models.terms2 import")
    assert of(copy)["training"] != TODAY["training"]


def form(tmp_path: Path, text: str) -> str:
    (tmp_path / "models").mkdir(exist_ok=True)
    (tmp_path / "models" / "one.py").write_text(text)
    return "\n".join(Package(tmp_path).reached(["models.one.f"]).values())


def test_a_form_is_the_same_in_every_python(tmp_path: Path) -> None:
    """Written down, as no other version may be at hand: f-strings, defaults and empty parts are where they differ."""
    text = """
import numpy as np
def f(x: int, *, y=(1, 2.50), **more) -> str:
    '''Prose.'''
    if not x:
        raise ValueError(f"no {x}")
    return 'a' f"b{x!r:>{y}}" "" f'{np.pi=}'
"""
    assert form(tmp_path, text) == (
        "FunctionDef(args=arguments(args=[x],kw_defaults=[Tuple(elts=[1,2.5])],kwarg=more,kwonlyargs=[y]),"
        "body=[If(body=[Raise(ValueError)],test=UnaryOp(op=Not(),operand=x)),"
        "Return(value=JoinedStr['ab',FormattedValue(conversion=114,format_spec=JoinedStr['>',"
        "FormattedValue(conversion=-1,value=y)],value=x),'np.pi=',FormattedValue(conversion=114,value=numpy.pi)])],"
        "name='f')"
    )


def test_the_engine_is_known_without_torch_and_follows_the_files(copy: Path) -> None:
    code = "import sys; from harness.code.engine import today; print(today(), 'torch' in sys.modules)"

    def told() -> str:
        return subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=True).stdout

    first = told()
    assert first.strip() == f"{Engine(TODAY['training'], TODAY['measuring'])} False"
    edit(copy, "models/losses.py", "return -tau * logits", "return tau * logits")
    assert told() != first


def test_code_that_goes_on_with_other_codes_run_is_named_beside_it() -> None:
    old, new = Engine("a", "m"), Engine("b", "m")
    assert old.then(new) == Engine("a+b", "m") and old.then(new).then(old) == Engine("a+b", "m")
    assert old.then(old) == old and Engine().then(new) == Engine("unknown+b", "unknown+m")


def test_what_other_code_has_made_is_told_once_a_run() -> None:
    now = Engine("t", "m")
    made = {
        "a": now,
        "b": Engine("x", "m"),
        "c": Engine("t", "y"),
        "d": Engine("x", "y"),
        "e": Engine(),
        "f": Engine("x+t", "m"),
    }
    assert unlike(made, now) == {
        "trained by other code": ["b", "d", "f"],
        "measured by other code": ["c"],
        "trained by code that is not known": ["e"],
    }
