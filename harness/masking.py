"""Passwords, tokens and keys of the user are hidden in every text that is printed, saved or sent.

Whatever leaves this process as text goes through `masked`: messages, tables, JSON, logs, tracebacks, provenance, the
ledgers, and what is sent to MLflow.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
SHORTEST = 4
"""A secret of at least so many characters is hidden wherever it stands. A shorter one, whose letters are in many words,
is hidden only where its place shows what it is."""
CLEARLY_NO_WORD = 8
"""In code, where a name may have the letters of a shorter one."""
LONG_NUMBER = 6
"""Shorter numbers, such as a seed or a port, are in many texts, and are hidden only by their place."""
_WORDS = frozenset(("true", "false", "none", "null"))
"""Values that are no secret even if a variable with a secret's name has them."""

_SECRET = r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api_?key|access_?key|account_?key|credentials?|signature|sig)"
_SECRET_NAME = re.compile(rf"(?:.*_)?{_SECRET}(?:_id)?", re.IGNORECASE)
_NOT_SECRET = re.compile(r"pwd|.*(?:access_key_id|_file|_path|_dir|_url|_uri)", re.IGNORECASE)
# A word may be an image of a megabyte, and a pattern is tried at each of its letters: from none may it read to the end.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]{0,40}+)(?P<slashes>://?)(?P<rest>[^\s'\"<>`]+)")
_WHOLE = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://?)?/*(?P<rest>.*)", re.DOTALL)
"""What is known to be one address, with signs too at which one in the middle of a text ends; it may lack a scheme."""
_QUERY = re.compile(
    rf"(?P<name>{_SECRET})(?P<equals>=|%3D)"
    r"(?P<value>[^\s&;,'\"<>`#]+?)(?=[:.]?(?:[\s&;,'\"<>`#]|$))",  # a colon or full stop after it is the sentence's
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{30,}|gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_\w{30,}|glpat-[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|sk-[\w-]{32,}|xox[abprs]-[\w-]{10,})"
)
"""What hubs and clouds give, which shows what it is wherever it stands."""
_EMBEDDED = re.compile(r"(base64,[A-Za-z0-9+/=]+)")
"""An image in a page, in which a short password may stand by chance."""
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_HEADER = re.compile(r"\b(?P<kind>Bearer|Basic|token) +(?P<value>[A-Za-z0-9._~+/=\-]{8,})")
_remembered: set[str] = set()


def remember(url: str) -> None:
    """Hide the password of an address from now on: libraries may quote it alone, or encoded in another way."""
    match = _WHOLE.fullmatch(url)
    user, at, _ = (match["rest"] if match else "").rpartition("@")
    name, colon, password = user.partition(":")
    if at and match:
        secret = password if colon else name if (match["scheme"] or "").startswith("http") else ""
        _remembered.update(_spellings(secret))
    for query in _QUERY.finditer(url):
        _remembered.update(_spellings(query["value"]))


def masked(text: str) -> str:
    """`text` with passwords, tokens and keys as `***`."""
    return _hide(text, _secrets())


def masked_code(text: str) -> str:
    """Source code without passwords of addresses, tokens and secrets of some length: `cls_token=None` is none."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN) if len(secret) >= CLEARLY_NO_WORD else text
    return _URL.sub(_without_password, _TOKEN.sub(HIDDEN, text))


def masked_tree(value: Any) -> Any:
    """Plain data with all its text masked."""
    return _hide_in(value, _secrets())


def masked_file(name: str, content: bytes) -> bytes:
    """The content of a file of that name; what holds numbers still holds the same ones, and code stays code.

    What is no text, such as an image, stays as it is.
    """
    if b"\0" in content:
        return content
    text = content.decode("utf-8", "surrogateescape")
    if name.endswith((".json", ".jsonl", ".log")):
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


def _hide_in(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        return _hide(value, secrets)
    if isinstance(value, Mapping):
        return {_hide_in(key, secrets): _hide_in(inner, secrets) for key, inner in value.items()}
    return [_hide_in(inner, secrets) for inner in value] if isinstance(value, list | tuple) else value


def _hide(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    if ":/" in text:  # a path that was made of an address keeps one of its slashes
        text = _URL.sub(_without_password, text)
    text = _QUERY.sub(lambda match: f"{match['name']}{match['equals']}{HIDDEN}", text)
    text = _TOKEN.sub(HIDDEN, text)
    return _HEADER.sub(lambda match: f"{match['kind']} {HIDDEN}", text)


def _without_password(match: re.Match[str]) -> str:
    """The password ends at the last @; it may contain others, and slashes."""
    user, at, host = match["rest"].rpartition("@")
    name, colon, password = user.partition(":")
    if not at or "/" in name or "?" in name:
        return match[0]
    if colon and password:
        return f"{match['scheme']}{match['slashes']}{name}:{HIDDEN}@{host}"
    if not colon and match["scheme"].startswith("http"):  # a token in the place of the name
        return f"{match['scheme']}{match['slashes']}{HIDDEN}@{host}"
    return match[0]


def _secrets() -> list[str]:
    """All that are hidden wherever they stand, the longest first, as one may be a part of another."""
    variables = (value for name, value in os.environ.items() if _holds_secret(name))
    spellings = {spelling for value in variables if not value.startswith("/") for spelling in _spellings(value)}
    return sorted(_remembered | spellings, key=len, reverse=True)


@functools.cache
def _holds_secret(variable: str) -> bool:
    return bool(_SECRET_NAME.fullmatch(variable)) and not _NOT_SECRET.fullmatch(variable)


@functools.cache
def _spellings(secret: str) -> frozenset[str]:
    """As it is written, decoded and encoded."""
    bare = unquote(secret)
    forms = {secret, bare, quote(bare, safe=""), quote(bare), quote_plus(bare)}
    words = {each for each in forms if each.lower() in _WORDS or (each.isdecimal() and len(each) < LONG_NUMBER)}
    return frozenset(each for each in forms - words if len(each) >= SHORTEST and each != HIDDEN)
