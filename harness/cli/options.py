"""What all commands share: options for the study, its profile and overrides, and for how much is printed."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from harness import api
from harness.cli import complete
from harness.cli.complete import DEFAULT_STUDY
from harness.errors import HarnessError
from harness.exit_codes import REQUEUE, STOPPED
from harness.study.resources import ExecutorName
from harness.terminal.streams import PIPE_CLOSED, drop_answer

if TYPE_CHECKING:
    from harness.study.schema import Study

AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, all else on standard error.")]
NoCode = Annotated[bool, typer.Option("--no-code", help="Refuse a study or run that brings code of its own.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer and errors.")]
_Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more.")]
_PROFILE = typer.Option(
    "--profile",
    "-p",
    metavar="NAME",
    envvar="HARNESS_PROFILE",
    help="A profile of the study file instead of its own.",
    autocompletion=complete.profiles,
)
_SET = typer.Option(
    "--set",
    metavar="KEY.PATH=VALUE",
    help="Change one value, such as train.kimg=2; may be repeated.",
    autocompletion=complete.settings,
)
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="CELL", help="Only this cell; may be repeated.", autocompletion=complete.cells),
]


def _checked_png(out: Path) -> Path:
    if out.suffix.lower() != ".png" or not out.parent.is_dir() or out.is_dir():
        raise HarnessError(f"--out {out}: must be a .png file in a folder that exists")
    return out


Png = Annotated[Path, typer.Option(help="The PNG to write.", callback=_checked_png)]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"harness {version('gan-ablation-harness')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
]


def with_option(overrides: Sequence[str] | None, option: str, override: str) -> list[str]:
    """These changes, then that for which an option is short. Raises HarnessError where another one says otherwise."""
    from harness.study.load import parse_override

    setting = override.partition("=")[0]
    for other in overrides or ():
        value = parse_override(other).plain()
        for key in setting.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and other != override:
            raise HarnessError(f"{option} sets {setting}, and so does --set {other}: leave one of the two out")
    return [*(overrides or ()), override]


@dataclass(frozen=True)
class Request:
    """The study that a command line names."""

    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")] = DEFAULT_STUDY
    profile: Annotated[str | None, _PROFILE] = None
    overrides: Annotated[list[str] | None, _SET] = None

    def load(self) -> Study:
        """Raises SpecError."""
        return api.load(self.study, self.profile, self.overrides or ())


@dataclass(frozen=True)
class RequestToRun(Request):
    """As `Request`, of a command that may run code which the study brings."""

    no_code: NoCode = False

    def load(self) -> Study:
        """Raises SpecError, also for a study with code where the user wants none."""
        return api.load(self.study, self.profile, self.overrides or (), no_code=self.no_code)


_EXECUTOR = typer.Option(help="Where runs train; default: the study's resources.executor.")
_WORKERS = typer.Option(min=1, help="Workers to start; default: the study's resources.workers.")


@dataclass(frozen=True)
class RequestElsewhere(RequestToRun):
    """As `RequestToRun`, of a command whose runs may train elsewhere."""

    executor: Annotated[ExecutorName | None, _EXECUTOR] = None
    workers: Annotated[int | None, _WORKERS] = None

    def load(self) -> Study:
        """Raises SpecError."""
        overrides = self.overrides
        for option, override in self.more_overrides().items():
            overrides = with_option(overrides, option, override)
        study = RequestToRun(self.study, self.profile, overrides, self.no_code).load()
        if self.workers is not None and study.resources.executor == "local":
            place = study.places.get("resources.executor", "the default")
            raise HarnessError(
                f"--workers {self.workers}: runs train in this call, as resources.executor is local ({place}); "
                "add --executor slurm, ray or folder, or say with --slots how many run at a time"
            )
        return study

    def more_overrides(self) -> dict[str, str]:
        """What the other options set."""
        named = {"executor": self.executor, "workers": self.workers}
        return {f"--{name}": f"resources.{name}={value}" for name, value in named.items() if value is not None}


_UNTIL_DECIDED = typer.Option(
    "--until-decided", help="Add seeds until each effect is decided: short for --set design.seeds=auto."
)
_MAX_SEEDS = typer.Option(metavar="N", help="The most seeds, with seeds that are added: --set design.max_seeds=N.")


@dataclass(frozen=True)
class RequestOfGrid(RequestElsewhere):
    """As `RequestElsewhere`, of a command that may add seeds."""

    until_decided: Annotated[bool, _UNTIL_DECIDED] = False
    max_seeds: Annotated[int | None, _MAX_SEEDS] = None

    def more_overrides(self) -> dict[str, str]:
        seeds = {"--until-decided": "design.seeds=auto"} if self.until_decided else {}
        most = {} if self.max_seeds is None else {"--max-seeds": f"design.max_seeds={self.max_seeds}"}
        return super().more_overrides() | seeds | most


@dataclass(frozen=True)
class RequestOfSeveral:
    """Several studies; the profile and the changes hold for each of them."""

    studies: Annotated[
        list[Path] | None, typer.Argument(metavar="STUDY.yaml", help=f"The study files; default: {DEFAULT_STUDY}.")
    ] = None
    profile: Annotated[str | None, _PROFILE] = None
    overrides: Annotated[list[str] | None, _SET] = None

    def load(self) -> list[Study]:
        """Raises SpecError."""
        paths = {os.path.abspath(path): path for path in self.studies or [DEFAULT_STUDY]}  # each once
        return [Request(path, self.profile, self.overrides).load() for path in paths.values()]


@dataclass(frozen=True)
class RequestByOption(Request):
    """As `Request`, of a command whose arguments are something else, and which may run code that a run brings."""

    study: Annotated[Path, typer.Option("--study", metavar="STUDY.yaml", help="The study file.")] = DEFAULT_STUDY
    no_code: NoCode = False

    def check_run(self, folder: Path) -> None:
        """Raises SpecError for a run with code where the user wants none, and RecordError."""
        from harness.runs.folders import RunFolder
        from harness.study import strangers

        if self.no_code:
            strangers.refuse_code_of_run(RunFolder(folder).run(), folder)


def names_study(context: typer.Context) -> bool:
    """Whether the command line itself names or changes a study; a profile of the environment is meant for any."""
    sources = map(context.get_parameter_source, ("study", "profile", "overrides"))
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def say_how_to_go_on(exit_code: int) -> None:
    """After a call that somebody has stopped, which has written checkpoints."""
    from harness.terminal import console

    if exit_code > STOPPED or exit_code == REQUEUE:
        console.note("stopped; run the same command to go on from the checkpoints")


def standard_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command -q and -v, and turn each parameter of a dataclass into one for each of its fields."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    @functools.wraps(function)
    def command(*, quiet: bool, verbose: bool, **values: Any) -> None:
        from harness.terminal import console

        console.configure(quiet, verbose)
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        try:
            function(**values)
        except BrokenPipeError:  # the reader, such as `head`, has stopped reading
            drop_answer()
            raise typer.Exit(PIPE_CLOSED) from None

    options: list[tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            inside = get_type_hints(groups[name], include_extras=True)
            options += [(field.name, inside[field.name], field.default) for field in fields(groups[name])]
        else:
            options.append((name, hints[name], parameter.default))
    options += [("quiet", _Quiet, False), ("verbose", _Verbose, False)]
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, kind, default in options
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {name: kind for name, kind, _ in options}
    return command
