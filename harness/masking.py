"""Passwords, tokens and keys of the user are hidden in every text that is printed, saved or sent.

Whatever leaves this process as text goes through `masked`: messages, tables, JSON, logs, tracebacks, provenance, the
ledgers, and what is sent to MLflow.
"""

from __future__ import annotations

import functools
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
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)(?P<slashes>://?)(?P<rest>[^\s'\"<>`]+)")
_QUERY = re.compile(
    rf"(?P<name>(?<![A-Za-z0-9])[\w.\-]*{_SECRET})(?P<equals>=|%3D)"
    r"(?P<value>[^\s&;,'\"<>`#]+?)(?=[:.]?(?:[\s&;,'\"<>`#]|$))",  # a colon or full stop after it is the sentence's
    re.IGNORECASE,
)
_HEADER = re.compile(r"\b(?P<kind>Bearer|Basic|token) +(?P<value>[A-Za-z0-9._~+/=\-]{8,})")
_remembered: set[str] = set()


def remember(url: str) -> None:
    """Hide the password of an address from now on: libraries may quote it alone, or encoded in another way."""
    match = _URL.search(url) or _URL.search(f"unknown://{url.lstrip('/')}")  # for an address without a scheme
    user, at, _ = (match["rest"] if match else "").rpartition("@")
    name, colon, password = user.partition(":")
    if at and match:
        secret = password if colon else name if match["scheme"].startswith("http") else ""
        _remembered.update(_spellings(secret))
    for query in _QUERY.finditer(url):
        _remembered.update(_spellings(query["value"]))


def masked(text: str) -> str:
    """`text` with passwords, tokens and keys as `***`."""
    return _hide(text, _secrets())


def masked_code(text: str) -> str:
    """Source code without passwords of addresses and without secrets of some length: `cls_token=None` is none."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN) if len(secret) >= CLEARLY_NO_WORD else text
    return _URL.sub(_without_password, text)


def masked_tree(value: Any) -> Any:
    """Plain data with all its text masked."""
    return _hide_in(value, _secrets())


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
