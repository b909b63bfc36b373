"""Study files that weights are written into, for the tests of what is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from harness.study.load import load_study
from harness.study.schema import Study, Tuned
from harness.tuning.profile import write_profile

FULL = {"full": Tuned(30, "fd")}
TAU = {"loss.tau": 0.31}


def written(folder: Path, content: bytes | str) -> Path:
    path = folder / "study.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def added(old: bytes, new: bytes) -> bytes:
    """What was put in at one place; fails if anything else was touched."""
    before = next((place for place, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(old))
    rest = old[before:]
    assert new.endswith(rest) and len(new) > len(old)
    return new[before : len(new) - len(rest)]


def meaning(study: Study) -> Study:
    """All of a study but where it comes from."""
    return replace(study, path=Path("/"), profile=None, overrides=(), tuned={})


def profiles(path: Path) -> list[str]:
    return list(YAML(typ="safe", pure=True).load(path.read_bytes().decode()).get("profiles") or {})


def assert_written(path: Path, profile: str | None, weights: Mapping[str, float], overrides: tuple[str, ...]) -> str:
    """Writes the weights, and holds the file against the old one under the same weights as overrides; the name."""
    old, names = path.read_bytes(), profiles(path)
    study = load_study(path, profile, overrides)
    others = (None, *names)[-3:]
    before = {name: load_study(path, name) for name in others}
    wanted = load_study(path, profile, [*overrides, *(f"{name}={value!r}" for name, value in weights.items())])

    name = write_profile(study, weights, FULL)

    new = path.read_bytes()
    found = load_study(path, name)
    assert meaning(found) == meaning(wanted)
    assert found.tuned == {**study.tuned, **FULL}
    assert profiles(path) == [*names, name]
    assert {each: load_study(path, each) for each in others} == before
    assert b"# written by harness tune: cell full, 30 trials, objective fd" in added(old, new)
    assert write_profile(study, weights, FULL) == name
    assert path.read_bytes() == new
    return name
