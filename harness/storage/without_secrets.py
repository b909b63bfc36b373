"""The files of a pack without passwords, tokens and keys."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, SpecError
from harness.masking import masked, masked_code, masked_tree, remember
from harness.study.load import load_text
from harness.study.schema import Study, Tracking
from harness.study.yaml import read_text
from harness.tuning.trials import JOURNAL

_EMBEDDED = re.compile(r"(base64,[A-Za-z0-9+/=]+)")
"""An image in a page, in which a short password may stand by chance."""
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
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


def of_file(name: str, content: bytes) -> bytes:
    """The content of a file of that name; what holds numbers still holds the same ones."""
    text = content.decode("utf-8", "surrogateescape")
    if name.endswith((".json", ".jsonl", JOURNAL)):
        try:
            shown = _of_records(text, by_line=not name.endswith(".json"))
        except ValueError:  # a damaged file, or half a line that is being written
            shown = masked(text)
    else:
        parts = _EMBEDDED.split(text) if name.endswith(".html") else [text]
        shown = "".join(part if place % 2 else masked(part) for place, part in enumerate(parts))
    return content if shown == text else shown.encode("utf-8", "surrogateescape")


def _of_records(text: str, by_line: bool) -> str:
    """JSON, or a line of JSON for each record. Raises ValueError."""
    # A million points have the same few names: each text is looked at once, as it is without its escapes.
    every: list[str] = json.loads(f"[{','.join(sorted(set(_TEXT.findall(text))))}]")
    if '"' in _TEXT.sub("", text):
        raise ValueError("a text has no end")
    if masked_tree(every) == every:
        return text
    if by_line:
        return "".join(json.dumps(masked_tree(json.loads(line)), sort_keys=True) + "\n" for line in text.splitlines())
    return json.dumps(_of_record(json.loads(text)), indent=1, sort_keys=True) + "\n"


def _of_record(record: Any) -> Any:
    """A record with its texts masked; the code of a run stays code."""
    source = record.get("source") if isinstance(record, dict) else None
    if not isinstance(source, dict):
        return masked_tree(record)
    rest = {key: value for key, value in record.items() if key != "source"}
    return masked_tree(rest) | {"source": {path: masked_code(text) for path, text in source.items()}}
