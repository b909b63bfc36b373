"""The site file and the engines that start workers elsewhere, for the doctor."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import SpecError
from harness.executors.live import make_executor
from harness.executors.places import unusable
from harness.executors.ray import INSTALL as INSTALL_RAY
from harness.executors.room import misfits
from harness.executors.slurm import INSTALL as INSTALL_SLURM
from harness.finding import Finding
from harness.study.load import load_text
from harness.study.resources import Resources
from harness.study.schema import Study
from harness.study.site import VARIABLE, own_path, site_path

_NO_STUDY = "study: none\n"


def engines(study: Study | None) -> Iterator[Finding]:
    """What a study asks for, or without one the site file; of all else only whether it is there."""
    path = site_path()
    try:
        # Without a study the site file is read and checked as for one.
        asked = study or load_text(_NO_STUDY, Path.cwd() / "study.yaml")
    except SpecError as error:
        yield Finding("site file", f"{path} cannot be used", str(error))
        yield from _others(Resources())
        return
    if path is None:
        yield Finding(
            "site file", f"none; {own_path()} or the file that {VARIABLE} names may hold resources for all studies"
        )
    else:
        names = [name for name, place in asked.places.items() if place.startswith(f"{path}:")]
        yield Finding("site file", f"{path}: {', '.join(names) or 'nothing that is used here'}")
    if study and study.resources.executor != "local":
        yield from unusable(study.root, study.resources.executor)
    if asked.resources.executor not in ("local", "folder"):
        yield from misfits(asked.resources, asked.places)
        where = asked.places.get("resources.executor", "")
        for each in make_executor(asked.resources, asked.places).check():
            is_whole = each.subject == asked.resources.executor
            yield replace(each, subject=f"{each.subject} ({where})") if each.fix and is_whole and where else each
    yield from _others(asked.resources)


def _others(resources: Resources) -> Iterator[Finding]:
    """The engines that nothing asks for."""
    if resources.executor != "slurm":
        there = "its programs are here" if shutil.which("sbatch") else f"no sbatch here: {INSTALL_SLURM}"
        yield _unused("slurm", there)
    if resources.executor != "ray":
        try:
            yield _unused("ray", f"version {version('ray')}")
        except PackageNotFoundError:
            yield _unused("ray", f"not installed: {INSTALL_RAY}")


def _unused(name: str, there: str) -> Finding:
    return Finding(name, f"not needed unless resources.executor is {name}; {there}", is_used=False)
