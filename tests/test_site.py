"""The site file: what goes before what, and mistakes with their place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from forked import run_forked
from harness.errors import HarnessError, SpecError
from harness.study import site
from harness.study.load import load_study
from harness.study.schema import Study

STUDY = """study: s
resources: {slurm: {account: of_study, cpus: 4}}
profiles:
  big: {resources: {workers: 8, slurm: {cpus: 16}}}
"""
SITE = """resources:
  executor: slurm
  workers: 2
  slurm: {partition: gpu, account: of_site, cpus: 2, setup: [module load cuda], time: "04:00:00"}
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "s.yaml").write_text(STUDY)
    (tmp_path / "site.yaml").write_text(SITE)
    monkeypatch.setenv(site.VARIABLE, str(tmp_path / "site.yaml"))

    def loaded(profile: str | None = None, *overrides: str) -> Study:
        return load_study(tmp_path / "s.yaml", profile, overrides)

    return loaded


def test_set_goes_before_profile_before_study_before_site_before_default(load: Any, tmp_path: Path) -> None:
    plain, big, changed = load(), load("big"), load("big", "resources.slurm.cpus=3", "resources.executor=local")
    assert (plain.resources.executor, plain.resources.workers, plain.resources.runs_per_gpu) == ("slurm", 2, 1)
    slurm = plain.resources.slurm
    assert (slurm.partition, slurm.account, slurm.cpus, slurm.setup) == ("gpu", "of_study", 4, ("module load cuda",))
    assert (big.resources.workers, big.resources.slurm.cpus, big.resources.slurm.account) == (8, 16, "of_study")
    assert (changed.resources.executor, changed.resources.slurm.cpus, changed.resources.workers) == ("local", 3, 8)
    there = changed.places
    assert there["resources.slurm.cpus"] == "--set resources.slurm.cpus=3"
    assert there["resources.slurm.partition"] == f"{tmp_path / 'site.yaml'}:4:22"
    assert there["resources.slurm.account"] == f"{tmp_path / 's.yaml'}:2:30"
    assert there["resources.workers"] == f"{tmp_path / 's.yaml'}:4:30"
    assert "resources.retries" not in there


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resources: {slurm: {partiton: gpu}}", r"site\.yaml:1:21: resources\.slurm\.partiton: unknown .*'partition'"),
        ("resources: {workers: 0}", r"site\.yaml:1:22: resources\.workers: must be at least 1, not 0"),
        ("resources: {executor: slum}", r"site\.yaml:1:23: resources\.executor: must be .*'slurm'"),
        ("train: {kimg: 2}", r"site\.yaml:1:1: train: not allowed in a site file; allowed: resources"),
        ("[1]", r"site\.yaml:1:1: a site file is a mapping that holds `resources:`"),
        ("resources: {a: 1", r"site\.yaml:1:\d+: not valid YAML"),
    ],
)
def test_a_mistake_in_it_is_told_with_its_place(load: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(SpecError, match=message):
        load()


def test_a_named_file_must_be_there_and_an_empty_name_is_none(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(site.VARIABLE, "/no/such/site.yaml")
    with pytest.raises(SpecError, match=r"/no/such/site\.yaml: no such file.*HARNESS_SITE"):
        load()
    monkeypatch.setenv(site.VARIABLE, "")
    assert load().resources.executor == "local"
    monkeypatch.setenv(site.VARIABLE, "~nosuchuser/site.yaml")
    with pytest.raises(HarnessError, match=r"^HARNESS_SITE: '~nosuchuser/site\.yaml' begins with a home folder"):
        load()


def test_the_users_file_goes_before_that_of_all_users(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(site.VARIABLE)
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda name: str(tmp_path / "config" / name))
    monkeypatch.setattr(site, "_OF_ALL_USERS", tmp_path / "etc.yaml")
    assert site.site_path() is None
    (tmp_path / "etc.yaml").write_text("resources: {workers: 5}")
    assert load().resources.workers == 5
    (tmp_path / "config" / "harness").mkdir(parents=True)
    (tmp_path / "config" / "harness" / "site.yaml").write_text("resources: {workers: 6}")
    assert load().resources.workers == 6


def test_plan_v_says_where_each_value_comes_from(load: Any, tmp_path: Path) -> None:
    words = ("plan", "s.yaml", "-v", "--set", "resources.workers=3")
    done = run_forked(words, tmp_path, {**os.environ, site.VARIABLE: str(tmp_path / "site.yaml"), "COLUMNS": "200"})
    at = SITE.splitlines()[3].index('"04:00:00"') + 1
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "resources.workers: 3 (--set resources.workers=3)" in lines, done.stdout + done.stderr
    assert 'resources.slurm.time: "04:00:00" (' + str(tmp_path / "site.yaml") + f":4:{at})" in lines
    assert not any(line.startswith("resources.retries") for line in lines)
    quiet = run_forked(words[:2], tmp_path, {**os.environ, site.VARIABLE: str(tmp_path / "site.yaml")})
    assert "resources.workers" not in quiet.stdout
