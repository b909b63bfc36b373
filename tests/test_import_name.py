"""`models/` lies at the top of the repository and is imported as `harness.models`: nobody gets ours for their own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.models.encoders import EMBEDDED
from harness.runs.initial import ORIGINS

ROOT = Path(__file__).parent.parent
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def run(*words: str, cwd: Path, path: str = "") -> str:
    """What Python prints; `path` is PYTHONPATH."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "PYTHONPATH": path, "COLUMNS": "200"}
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that a build reads, link and all, as a build writes into it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("harness", "models"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def built(checkout: Path, kind: str) -> zipfile.ZipFile:
    """The wheel that setuptools makes without a network; `kind` is build_wheel or build_editable."""
    pytest.importorskip("setuptools", minversion="77", reason="builds the package")
    out = checkout.parent / kind
    out.mkdir(exist_ok=True)
    return zipfile.ZipFile(out / run("-W", "ignore", "-c", BUILD, kind, str(out), cwd=checkout).splitlines()[-1])


@pytest.fixture(scope="module")
def unpacked(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("installed")
    built(checkout, "build_wheel").extractall(folder)
    return folder


@pytest.fixture(params=["package", "module"])
def stranger(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A repository that has something called `models` too, as nearly every repository of a GAN has."""
    if request.param == "package":
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "__init__.py").write_text("WHOSE = 'theirs'\n")
        (tmp_path / "models" / "config.py").write_text("WHOSE = 'theirs too'\n")
    else:
        (tmp_path / "models.py").write_text("WHOSE = 'theirs'\n")
    return tmp_path


@pytest.mark.parametrize("installed", [False, True], ids=["checkout", "wheel"])
def test_each_side_gets_its_own_models(installed: bool, stranger: Path, request: pytest.FixtureRequest) -> None:
    ours = request.getfixturevalue("unpacked") if installed else ROOT
    for first, name in ((".", "objective"), (f"{stranger}", "build")):  # of the two the first needs no torch
        code = f"import models, harness.models.{name} as our; print(models.WHOSE, models.__file__, our.__file__)"
        whose, theirs, place = run("-c", code, cwd=stranger, path=f"{first}:{ours}").split()
        assert whose == "theirs" and Path(theirs).resolve().is_relative_to(stranger.resolve())
        assert Path(place) == ours / "harness" / "models" / f"{name}.py"
    if (stranger / "models").is_dir():
        code = "import harness.models.config, models.config; print(models.config.WHOSE)"
        assert run("-c", code, cwd=stranger, path=f".:{ours}") == "theirs too\n"
    assert "run-grid" in run("-m", "harness", "--help", cwd=stranger, path=f".:{ours}")


def test_a_wheel_holds_all_of_the_package_and_no_models_at_its_top(unpacked: Path) -> None:
    assert {each.name.partition("-")[0] for each in unpacked.iterdir()} == {"harness", "gan_ablation_harness"}
    left = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    for folder, inside in ((ROOT / "harness", "harness"), (ROOT / "models", "harness/models")):
        files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {f"{inside}/{path.relative_to(folder)}" for path in files} - left == set()
    assert len(list(unpacked.glob("harness/models/weights/*.safetensors"))) == len(EMBEDDED) + len(ORIGINS)


def test_a_wheel_works_where_it_is_unpacked(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "ablations.yaml").write_text((ROOT / "ablations.yaml").read_text())
    code = "import harness; print(harness.__file__)"
    assert run("-c", code, cwd=tmp_path, path=str(unpacked)).startswith(str(unpacked))
    terms = run("-m", "harness", "terms", "ablations.yaml", "--cell", "full", cwd=tmp_path, path=str(unpacked))
    assert "itc_f" in terms and "iivd" in terms
    code = "from harness.models.encoders.load import load_clip; print(load_clip('embedded:clip-guide').dim)"
    assert run("-c", code, cwd=tmp_path, path=str(unpacked)) == "128\n"


def test_an_editable_install_maps_the_package_alone(checkout: Path) -> None:
    wheel = built(checkout, "build_editable")
    [finder] = [name for name in wheel.namelist() if name.endswith("_finder.py")]
    mapping = re.search(r"^MAPPING: .* = (\{.*\})$", wheel.read(finder).decode(), re.MULTILINE)
    assert mapping and mapping[1] == str({"harness": str(checkout / "harness")})


def test_the_type_checker_finds_the_package_by_its_import_name() -> None:
    modulefinder = pytest.importorskip("mypy.modulefinder")
    finder = modulefinder.FindModuleCache(modulefinder.SearchPaths((str(ROOT),), (), (), ()), None, None)
    assert finder.find_module("harness.models.build") == str(ROOT / "harness" / "models" / "build.py")
