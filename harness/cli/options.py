"""What all commands share: options for the study, its profile and overrides, and for how much is printed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from harness import api
from harness.terminal.streams import PIPE_CLOSED, drop_answer

if TYPE_CHECKING:
    from harness.study.schema import Study

DEFAULT_STUDY = Path("ablations.yaml")

_PROFILE = typer.Option(
    "--profile", "-p", metavar="NAME", envvar="HARNESS_PROFILE", help="A profile of the study file instead of its own."
)
_SET = typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one value, such as train.kimg=2; may be repeated.")
_QUIET = typer.Option("--quiet", "-q", help="Print only the answer and errors.")
_VERBOSE = typer.Option("--verbose", "-v", help="Print more.")


@dataclass(frozen=True)
class Request:
    """The study that a command line names."""

    path: Path
    profile: str | None
    overrides: tuple[str, ...]

    def load(self) -> Study:
        """Raises SpecError."""
        return api.load(self.path, self.profile, self.overrides)


AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, all else on standard error.")]
Requested = Annotated[Request, typer.Argument(metavar="STUDY.yaml", help="The study file.")]
RequestedByOption = Annotated[Request, typer.Option("--study", metavar="STUDY.yaml", help="The study file.")]


def standard_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command -q and -v, and turn its parameter of type Request into a study file, --profile and --set.

    A parameter of another dataclass becomes one option for each of its fields.
    """
    groups = {name: kind for name, kind in get_type_hints(function).items() if _is_group(kind)}

    @functools.wraps(function)
    def command(*, quiet: bool, verbose: bool, **values: Any) -> None:
        from harness.terminal import console

        console.configure(quiet, verbose)
        if "study" in values:
            overrides = tuple(values.pop("overrides") or ())
            values["request"] = Request(values.pop("study"), values.pop("profile"), overrides)
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        try:
            function(**values)
        except BrokenPipeError:  # the reader, such as `head`, has stopped reading
            drop_answer()
            raise typer.Exit(PIPE_CLOSED) from None

    parameters = list(_parameters(function))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameters(function: Callable[..., None]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "request":
            (source,) = hints[name].__metadata__
            yield _parameter("study", Annotated[Path, source], DEFAULT_STUDY)
            yield _parameter("profile", Annotated[str | None, _PROFILE], None)
            yield _parameter("overrides", Annotated[list[str] | None, _SET], None)
        elif _is_group(hints[name]):
            inside = get_type_hints(hints[name], include_extras=True)
            for field in fields(hints[name]):
                yield _parameter(field.name, inside[field.name], field.default)
        else:
            yield _parameter(name, hints[name], parameter.default)
    yield _parameter("quiet", Annotated[bool, _QUIET], False)
    yield _parameter("verbose", Annotated[bool, _VERBOSE], False)


def _is_group(kind: Any) -> bool:
    """Whether a parameter of this type stands for several options."""
    return isinstance(kind, type) and is_dataclass(kind) and kind is not Request


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
