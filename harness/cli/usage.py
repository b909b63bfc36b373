"""What a command line that cannot be read is told, beyond the library's words."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

_UsageError: Any = typer.BadParameter.__base__
"""Of all such mistakes; typer itself does not name it."""


class Commands(TyperGroup):
    """The commands, of which a wrong value is shown, and an option with the commands that have it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            if hasattr(error, "possibilities"):
                error.message += self._who_has(error.option_name, error.ctx)
            elif error.ctx is ctx and not error.message.endswith("?"):
                error.message += f" The commands are {', '.join(self.commands)}."
            elif hasattr(error.__cause__, "errors"):  # of the values' types; some of them show the value
                value = repr(error.__cause__.errors()[0]["input"])
                error.message += f", not {value}" * (value not in error.message)
            raise

    def _who_has(self, option: str, ctx: Any) -> str:
        """Where an option is that this command lacks; empty where no command has it."""
        if option.lower() in (name for each in ctx.command.params for name in each.opts):
            return f"; write {option.lower()}"
        of = [name for name, command in self.commands.items() if any(option in each.opts for each in command.params)]
        return f", which is one of {', '.join(of)}" if of else ""


def share(text: str) -> float:
    """`0.05`, or the same as `5%`."""
    return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
