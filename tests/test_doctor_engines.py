"""The doctor on the site file and on engines: missing where they are asked for, else only whether they are there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import platformdirs
import pytest

from harness.cli import engines, tables
from harness.executors import ray
from harness.finding import Finding
from harness.study import site
from harness.study.load import load_study
from harness.study.schema import Study


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with neither engine, and no site file."""

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(engines, "version", absent)
    monkeypatch.setattr(ray, "version", absent)
    monkeypatch.delenv(site.VARIABLE)
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda name: str(tmp_path / "config" / name))
    monkeypatch.setattr(site, "_OF_ALL_USERS", tmp_path / "etc.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(study: Study | None = None) -> dict[str, Finding]:
    return {each.subject: each for each in engines.engines(study)}


def study(folder: Path, text: str = "", *overrides: str) -> Study:
    (folder / "s.yaml").write_text(f"study: s\n{text}\n")
    return load_study(folder / "s.yaml", None, overrides)


def test_what_nothing_asks_for_is_told_quietly_with_how_to_get_it(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for found in (told(), told(study(bare))):
        assert list(found) == ["site file", "slurm", "ray"] and not any(each.fix for each in found.values())
        assert str(bare / "config" / "harness" / "site.yaml") in found["site file"].detail
        assert "HARNESS_SITE" in found["site file"].detail
        for name, how in {
            "slurm": "apt-get install slurm-client",
            "ray": "pip install '.[ray]' in the checkout",
        }.items():
            assert found[name].detail.startswith(f"not needed unless resources.executor is {name}; ")
            assert how in found[name].detail and not found[name].is_used
    tables.findings(list(found.values()))
    assert capsys.readouterr().out.count("not used") == 2


def test_an_engine_that_a_study_asks_for_is_missing_with_the_place(bare: Path) -> None:
    found = told(study(bare, "resources: {executor: slurm}"))
    slurm = found.pop(f"slurm ({bare}/s.yaml:2:23)")
    assert slurm.detail == "this machine has no sbatch" and "apt-get install slurm-client" in slurm.fix
    assert list(found) == ["site file", "ray"] and not found["ray"].is_used
    found = told(study(bare, "", "resources.executor=ray"))
    assert found["ray (--set resources.executor=ray)"].fix == "pip install '.[ray]' in the checkout of the harness"
    assert not found["slurm"].is_used


def test_a_site_file_that_asks_for_it_counts_without_a_study(bare: Path) -> None:
    (bare / "etc.yaml").write_text("resources: {executor: slurm, gpus_per_run: 2, slurm: {gpus: 1}}\n")
    found = told()
    assert found["site file"].detail == (
        f"{bare}/etc.yaml: resources.executor, resources.gpus_per_run, resources.slurm.gpus"
    )
    assert found[f"slurm ({bare}/etc.yaml:1:23)"].fix
    assert "a run needs 2 GPUs" in found[f"{bare}/etc.yaml:1:44: resources.gpus_per_run"].detail
    beside = told(study(bare, "resources: {executor: local}"))
    assert not any(each.fix for each in beside.values()), "a study goes before the site"


@pytest.mark.parametrize("text", ["resources: {executor: slurn}", "[", "study: x", "resources: {slurm: {cpus: 0}}"])
def test_a_site_file_that_cannot_be_used_is_told_with_its_place(bare: Path, text: str) -> None:
    (bare / "etc.yaml").write_text(text)
    found = told()
    assert found["site file"].detail == f"{bare}/etc.yaml cannot be used"
    assert found["site file"].fix.startswith(f"{bare}/etc.yaml:1:") and not found["slurm"].is_used


def test_a_site_file_that_is_not_there_is_told_with_who_names_it(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(site.VARIABLE, str(bare / "gone.yaml"))
    assert "gone.yaml: no such file" in told()["site file"].fix and "HARNESS_SITE" in told()["site file"].fix


def test_a_folder_in_which_no_worker_could_be_started_is_told(bare: Path) -> None:
    (bare / "d:c").mkdir()
    root = f"{bare}/d:c/runs/s"
    assert told(study(bare / "d:c", "resources: {executor: folder}"))[root].fix.startswith("rename the folder")
    assert root not in told(study(bare / "d:c", "resources: {executor: local}"))
