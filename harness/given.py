"""What a program hands to the functions of `import harness`, looked at before anything is done with it."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral, Real
from os import PathLike
from types import UnionType

from harness.errors import HarnessError
from harness.masking import masked


def check(name: str, value: object, kind: type | UnionType, what: str) -> None:
    """Raises HarnessError for a value that is no `kind`, in words `what`. True and False are no numbers."""
    if isinstance(value, bool) or not isinstance(value, kind):
        raise HarnessError(f"{name}: must be {what}, not {type(value).__name__}")


def check_study(value: object) -> None:
    from harness.study.schema import Study

    check("study", value, Study, "a study, from harness.load")


def check_path(name: str, value: object) -> None:
    check(name, value, str | PathLike, "a path")


def check_texts(name: str, values: object) -> None:
    """A text alone would be taken for a list of its letters."""
    if isinstance(values, str):
        raise HarnessError(f"{name}: must be a list of texts, such as [{masked(values)!r}], not a text")
    check(name, values, Collection, "a list of texts")
    assert isinstance(values, Collection)
    for value in values:
        check(name, value, str, "a list of texts, and each of them a text")


def check_number(name: str, value: object, is_whole: bool = False) -> None:
    """None too: not said."""
    kind, what = (Integral, "a whole number") if is_whole else (Real, "a number")
    check(name, value, kind | None, f"{what} or None")
