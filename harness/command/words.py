"""The words of the program that a study's `command` runs, with what stands in braces filled in."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from harness.errors import nearest
from harness.settings import CommandConfig

Value = bool | int | float | str
PLACES = {
    "python": "the Python that runs the harness",
    "seed": "the run's seed",
    "cell": "the run's cell",
    "folder": "the folder that is the script's own in this run",
    "study": "the folder of the study file, for data and weights that the script reads",
    "job": "the JSON file that HARNESS_JOB names too",
    "args": "as a word of its own: every setting of command.args, as --NAME=VALUE; true as --NAME, false not at all",
}
"""What may stand in braces; {args.NAME} besides is the value of one setting, true or false in these words."""
ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""The name of a setting of the script."""
_PLACE = re.compile(r"\{([a-z]+|args\.[^{}]*)\}")
_MEANT = re.compile(rf"{_PLACE.pattern}|(?<!\$)\{{([A-Za-z_][\w-]*(?:\.[\w-]*)?)\}}")
"""What is written as a place is, right or wrong; ${HOME} is a variable for a shell."""


def program(command: CommandConfig, places: Mapping[str, str]) -> list[str]:
    """The words to start; `places` has a text for each of PLACES but "python" and "args"."""
    texts = {"python": sys.executable, **places}
    texts |= {f"args.{name}": written(value) for name, value in command.args.items()}
    words: list[str] = []
    for word in command.run:
        if word == "{args}":
            words += flags(command.args)
        else:
            words.append(_PLACE.sub(lambda place: texts[place[1]], word))
    return words


def flags(args: Mapping[str, Value]) -> Iterator[str]:
    """`--NAME=VALUE` each, so that no value is taken for a flag."""
    for name, value in args.items():
        if value is not False:
            yield f"--{name}" if value is True else f"--{name}={written(value)}"


def written(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def shown(command: CommandConfig) -> str:
    """The command as a shell would take it, for readers: what differs between runs stays in braces."""
    places = {name: f"{{{name}}}" for name in PLACES}
    return _joined(program(command, places))


def unfilled(command: CommandConfig) -> str:
    """As `shown`, with the script's settings in braces too: the same for all cells that run one script."""
    return _joined(command.run)


def _joined(words: Iterable[str]) -> str:
    return shlex.join(words).replace("'{", "{").replace("}'", "}")


def unknown_places(words: Sequence[str], args: Mapping[str, Value]) -> Iterator[tuple[int, str]]:
    """(which word, what is wrong with it) for braces that cannot be filled in."""
    names = [*PLACES, *(f"args.{name}" for name in args)]
    for at, word in enumerate(words):
        for place in (found[1] or found[2] for found in _MEANT.finditer(word)):
            if place == "args" and word != "{args}":
                yield at, "{args} must be a word of its own, as it stands for several; or name one with {args.NAME}"
            elif place not in names:
                near = nearest(place, names) or nearest(place.lower(), names) or ";"
                allowed = ", ".join(f"{{{name}}}" for name in names)
                fix = "text in braces goes to the script as the value of a setting in command.args"
                yield at, f"nothing is called {{{place}}}{near} allowed: {allowed}; {fix}"


def absent(words: Sequence[str], files: Collection[str]) -> Iterator[str]:
    """The program and the scripts of Python that are not there: on this machine, or among the `files` of the code.

    Words with places in braces differ between runs, and a program with a relative path is found beside the code or not.
    """
    name, fix = words[0], "install it or correct the name, unless workers on other machines have it"
    if "{" not in name and (name.startswith("/") or "/" not in name) and not shutil.which(name):
        yield f"command.run[0]: this machine has no program {name!r}; {fix}"
    for at, word in enumerate(words[1:], 1):
        if not word.endswith(".py") or re.match(r"-|.*[{\s]", word):
            continue
        if word.startswith("/"):
            if not os.path.exists(word):
                yield f"command.run[{at}]: this machine has no {word}; {fix}"
        elif os.path.normpath(word) not in files:
            why = "the script runs in a copy of these files alone"
            yield f"command.run[{at}]: {word!r} is no file of command.code{nearest(word, files) or ';'} {why}"
