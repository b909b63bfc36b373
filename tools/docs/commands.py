"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from harness.cli.main import app
from tools.docs.markdown import fenced

_BEGIN = """\
# Commands

What `harness COMMAND --help` prints. Exit codes: 0 done, 1 a fault of the harness, 2 a mistake in the input, 3 finished
with failed or diverged runs, 130 after Ctrl-C and 143 after SIGTERM, with checkpoints written, 141 where the reader of
a pipe went away.
"""


def commands(group: Any = None, above: Any = None) -> Iterator[tuple[Any, Any]]:
    """Every command that does something, with its context, in the order of `harness --help`."""
    group = group or typer.main.get_command(app)
    above = above or group.context_class(group, info_name="harness")
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        context = command.context_class(command, info_name=name, parent=above)
        if hasattr(command, "commands"):
            yield from commands(command, context)
        else:
            yield command, context


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_BEGIN, *(_entry(command, context) for command, context in commands())])


def _entry(command: Any, context: Any) -> str:
    text, _, examples = command.help.partition("\b")
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
    records = [record for each in command.get_params(context) if (record := _record(each, context))]
    options = "\n".join(f"- `{name}`" + (f": {said}" if said else "") for name, said in records)
    shown = f"Examples:\n\n{fenced(examples.strip(), 'console')}\n" if examples.strip() else ""
    return f"## {context.command_path}\n\n{_paragraphs(text)}\n\n{fenced(usage, 'console')}\n{options}\n\n{shown}"


def _record(parameter: Any, context: Any) -> tuple[str, str] | None:
    record = parameter.get_help_record(context)
    if record is None:
        return None
    name, said = record
    # Brackets of defaults and names of variables are not links.
    return " ".join(name.split()), re.sub(r"\[(.*?)\]", r"(\1)", " ".join(said.split())).replace("*", r"\*")


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(each.split()) for each in text.strip().split("\n\n"))
