"""The `command` section of a study file: a training script in place of the built-in trainer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.command import words
from harness.command.files import read_files, wrong_pattern
from harness.errors import SpecError
from harness.runs.identity import read_by_trainer_or_script
from harness.settings import CommandConfig
from harness.study.overlay import Keys, dotted, shown
from harness.study.schema import Study, apply_toggles
from harness.study.search_space import Problems

LONGEST_WORD = 100_000
"""Linux gives a program words of at most 131,071 bytes, and `--NAME=` is part of one."""
_INSTEAD = "the script in command.run takes its place"
_UNREAD = f"is read by the built-in trainer alone, and {_INSTEAD}"


def problems(study: Study, changed: Iterable[Keys]) -> Problems:
    """What is wrong with the command, and with what the study file changes that no script reads.

    `changed`: the settings that were written.
    """
    command = study.settings.command
    if not command.run:
        if command != CommandConfig():
            text = "missing: the program and its arguments, such as ['{python}', train.py, '{args}']"
            yield ("command", "run"), f"{text}; or leave out the section, and the built-in trainer trains"
        return
    yield from _arguments(command)
    yield from _words(study)
    yield from _code(study, command)
    for path in dict.fromkeys(changed):
        if path[0] in study.settings.as_dict() and not read_by_trainer_or_script(dotted(path), study.settings):
            yield path, f"{_UNREAD}; leave it out"
    if study.settings.data.stored_features:
        yield ("data", "stored_features"), f"are read by the built-in trainer alone, and {_INSTEAD}; leave it out"
    for factor in study.factors:
        if not read_by_trainer_or_script(factor.setting, study.settings):
            yield ("levels", *factor.setting.split(".")), _UNREAD


def toggle_problems(study: Study) -> Problems:
    """Toggles of settings that no script reads, and what toggles make of the command itself."""
    own = study.settings.command
    for at, toggle in enumerate(study.toggles if own.run else ()):
        path, example = ("toggles", at), f"`- my_idea: {{command.args.{next(iter(own.args), 'NAME')}: VALUE}}`"
        unread = [setting for setting in toggle.settings if not read_by_trainer_or_script(setting, study.settings)]
        if unread:
            text = f"{toggle.name} sets {unread[0]}, which the built-in trainer alone reads, and {_INSTEAD}"
            yield path, f"{text}; write one of your own: {example}"
            continue
        changed = apply_toggles(replace(study, factors=()), [toggle.name]).command
        wrong = [*(_arguments(changed) if changed.run != own.run else ())]
        wrong += _code(study, changed) if changed.code != own.code else ()
        yield from ((path, f"{toggle.name}: {dotted(where)}: {text}") for where, text in wrong)


def _arguments(command: CommandConfig) -> Problems:
    for name in command.args:
        path = ("command", "args", name)
        if not words.ARGUMENT.fullmatch(name):
            yield path, "a setting of the script is a letter, then letters, digits, - and _; give it another name"
        elif "-" in name and name.replace("-", "_") in command.args:
            yield path, f"and {name.replace('-', '_')} are one name in a script of Python; give it another name"
    for at, text in words.unknown_places(command.run, command.args):
        yield ("command", "run", at), text
    if not (command.run and command.run[0].strip()):
        yield ("command", "run", 0), "must be a program, such as {python} or ./train.sh, and is empty"


def _words(study: Study) -> Problems:
    """Texts that no process can be given, wherever they are written: in the command, a toggle or a level."""
    command = study.settings.command
    texts: list[tuple[Keys, object]] = [(("command", "run", at), word) for at, word in enumerate(command.run)]
    texts += [(("command", "args", name), value) for name, value in command.args.items()]
    for at, toggle in enumerate(study.toggles):
        texts += [(("toggles", at), value) for name, value in toggle.patch.items() if name.startswith("command.")]
    for factor in study.factors:
        texts += [(("levels", *factor.setting.split(".")), value) for value in factor.values]
    for path, value in texts:
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and "\0" in text:
                yield path, f"holds the character NUL, which no program can be given: {shown(text)}"
            elif isinstance(text, str) and len(text.encode()) > LONGEST_WORD:
                fix = "write it into a file, and name that"
                yield path, f"is longer than the {LONGEST_WORD:,} bytes that a program can be given as one word; {fix}"


def _code(study: Study, command: CommandConfig) -> Problems:
    if not command.code:
        text = "missing: patterns of the files that decide what the script computes, such as [train.py] or ['**/*.py']"
        yield ("command", "code"), f"{text}; a change of them makes new runs"
    wrong = {at: text for at, pattern in enumerate(command.code) if (text := wrong_pattern(pattern))}
    for at, text in wrong.items():
        yield ("command", "code", at), f"{text}, not {shown(command.code[at])}"
    if not wrong and command.code:
        try:
            read_files(command.code, study.path.parent)
        except SpecError as error:
            yield ("command", "code"), str(error).removeprefix("command.code: ")
