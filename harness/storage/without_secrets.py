"""The study file and the code of a pack: without passwords, tokens and keys, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError, SpecError
from harness.masking import masked, masked_code, remember
from harness.study.load import load_text
from harness.study.schema import Study, Tracking
from harness.study.yaml import read_text

_FIX = "take it out, and give it as an environment variable such as MLFLOW_TRACKING_URI or OPTUNA_STORAGE"


def study_text(studies: Sequence[Study]) -> str:
    """The text of the study file. Raises HarnessError where it would be another study without a password, or none."""
    path, text = studies[0].path, read_text(studies[0].path)
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise HarnessError(f"{path.name!r}: the name of the study file is no text; rename it") from error
    for study in studies:
        for address in filter(None, (study.tracking.uri, study.tune.storage)):
            remember(address)
    hidden = masked(text)
    for study in studies if hidden != text else ():
        try:
            same = load_text(hidden, path, study.profile, study.overrides)
        except SpecError:
            same = None
        if same is None or _without_addresses(same) != _without_addresses(study):
            raise HarnessError(f"{_place(path, text, hidden)}: the study needs the password or token here; {_FIX}")
    return hidden


def _without_addresses(study: Study) -> Study:
    return replace(study, tracking=Tracking(), tune=replace(study.tune, storage=None))


def refuse_in_code(path: Path, text: str) -> None:
    """Raises HarnessError for code that holds a password: without it, it would be other code."""
    if (hidden := masked_code(text)) != text:
        raise HarnessError(f"{_place(path, text, hidden)}: there is a password or token in the code; {_FIX}")


def _place(path: Path, text: str, hidden: str) -> str:
    """`FILE:LINE` of the first line in which something is hidden."""
    pairs = zip(text.splitlines(), hidden.splitlines(), strict=False)
    return f"{path}:{next((line for line, (before, after) in enumerate(pairs, 1) if before != after), 1)}"
