"""What the shell offers after Tab: presets, and profiles, cells and settings of the study that the line names.

A line that is not finished is wrong more often than not: what cannot be read offers nothing, and prints nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.study.schema import Study

DEFAULT_STUDY = Path("ablations.yaml")
Offer = Callable[[typer.Context, str], list[str]]
"""What is offered for the beginning of a word."""


def presets(incomplete: str) -> list[str]:
    from harness.cli.presets import names

    return _beginning_with(incomplete, names())


def _of_study(names: Callable[[Study], Iterable[str]]) -> Offer:
    """Offers names of the study as it is under the profile and settings that the line has so far."""

    def offered(context: typer.Context, incomplete: str) -> list[str]:
        from harness.study.load import load_study

        path, given = _path(context), context.params
        try:
            study = load_study(path, given.get("profile"), given.get("overrides") or ())
            return _beginning_with(incomplete, names(study))
        except (HarnessError, OSError, ValueError):
            return []

    return offered


def profiles(context: typer.Context, incomplete: str) -> list[str]:
    from harness.study.load import profiles_of

    try:
        return _beginning_with(incomplete, profiles_of(_path(context)))
    except (HarnessError, OSError):
        return []


def _settings(study: Study) -> list[str]:
    """All that `--set` takes, each with its equals sign; the settings of the study's own ideas among them."""
    own = study.settings.flat
    of_study = {"design": study.design, "resources": study.resources, "tracking": study.tracking, "tune": study.tune}
    more = (f"{section}.{name}" for section, values in of_study.items() for name in vars(values))
    return [f"{key}=" for key in dict.fromkeys((*own, *more))]


def _cells(study: Study) -> list[str]:
    return [cell.name for cell in study.layout.cells]


cells, settings = _of_study(_cells), _of_study(_settings)


def _path(context: typer.Context) -> Path:
    # Of a line that ends in an option whose value is not there yet, words that are no options are not sorted yet.
    words = [word for word in context.args if word.endswith((".yaml", ".yml"))]
    return Path(words[0] if words else context.params.get("study") or DEFAULT_STUDY)


def _beginning_with(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


_BASH = r"""
%(complete_func)s() {
    # Bash parts words at = and :, as in tau=0.1: put together what has no blank between, and answer with the last part.
    local IFS=$'\n' line=$COMP_LINE words=() last=-1 word typed i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        ((i)) && [[ $line != [[:space:]]* ]] || ((++last))
        words[last]+=$word
        line=${line#*"$word"}
    done
    typed=${words[last]%%"${word##[=:]}"}
    COMPREPLY=( $( env COMP_WORDS="${words[*]}" \
                   COMP_CWORD=$last \
                   %(autocomplete_var)s=complete_bash $1 ) )
    COMPREPLY=("${COMPREPLY[@]#"${typed#-*=}"}")
    [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace
}

complete -o default -F %(complete_func)s %(prog_name)s
"""


def teach_bash() -> None:
    """Print a script of ours for bash, in place of typer's, for which `tau=0.1` is three words."""
    with contextlib.suppress(ImportError, AttributeError):  # a typer that keeps it elsewhere prints its own
        from typer import _completion_shared

        _completion_shared._completion_scripts["bash"] = _BASH
