"""The package as its source says it is, read without running it: docstrings of settings, signatures of functions."""

from __future__ import annotations

from functools import cache

import griffe

from tools.docs.tree import ROOT


@cache
def package() -> griffe.Module:
    found = griffe.load("harness", search_paths=[ROOT], try_relative_path=False)
    assert isinstance(found, griffe.Module)
    return found


def behind(thing: griffe.Object | griffe.Alias) -> griffe.Object:
    """What a name stands for, where it was imported from elsewhere."""
    return thing.final_target if isinstance(thing, griffe.Alias) else thing


def doc(kind: type, field: str = "") -> str:
    """The docstring of a class, or of a field of it or of one that it inherits from; "" without one."""
    for base in kind.__mro__[:1] if not field else kind.__mro__:
        if not base.__module__.startswith("harness."):
            continue
        known = package()[f"{base.__module__}.{base.__qualname__}".removeprefix("harness.")]
        thing = known.members.get(field) if field else known
        if thing is not None and thing.docstring is not None:
            return str(thing.docstring.value)
    return ""
