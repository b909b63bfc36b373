"""The parameters of a marked function or class: what it is called with, then its settings."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from harness.ideas.forms import WIDTHS, Form
from harness.ideas.values import Refused, written

Setting = tuple[ast.arg, ast.expr | None]
"""A keyword-only parameter and its default."""


def settings_of(idea: ast.FunctionDef | ast.ClassDef, form: Form, reads: Sequence[str]) -> Iterator[Setting]:
    """The keyword-only parameters; all others must be those that the kind is called with. Raises Refused."""
    calls = (*form.calls, *(reads if form.makes == ("channels",) else ()))
    made_with = form.made_with(reads)
    if isinstance(idea, ast.FunctionDef):
        if form.makes is not None:
            raise Refused(
                idea, f"must be a class: class {idea.name}(nn.Module), whose __init__ gets {_list(made_with)}"
            )
        yield from _checked(idea, calls, idea.name)
        return
    if not idea.bases:
        raise Refused(idea, f"must be a network: class {idea.name}(nn.Module)")
    methods = {each.name: each for each in idea.body if isinstance(each, ast.FunctionDef)}
    for name in ("forward", "__call__"):
        if name in methods and any(True for _ in _checked(methods[name], ("self", *calls), name)):
            raise Refused(methods[name], f"{name} has no settings; they are parameters of __init__")
    # Without one of its own it is made by that of a class that is defined elsewhere.
    if "__init__" in methods:
        arguments = methods["__init__"].args
        by_place = [*arguments.posonlyargs, *arguments.args]
        made_with = (*made_with, *(name for name in form.asks if name in [each.arg for each in by_place]))
        for each in by_place:
            readable = [name for name in form.reads if WIDTHS.get(name) == each.arg]
            if readable and each.arg not in made_with:
                text = f"{each.arg} is for a layer that reads {' or '.join(readable)}"
                raise Refused(each, f"{text}: write reads=({readable[0]!r},) in its mark, or leave {each.arg} out")
        yield from _checked(methods["__init__"], ("self", *made_with), "__init__")


def _checked(function: ast.FunctionDef, gets: Sequence[str], name: str) -> Iterator[Setting]:
    arguments = function.args
    for more, stars in ((arguments.vararg, "*"), (arguments.kwarg, "**")):
        if more:
            raise Refused(more, f"{stars}{more.arg} is not allowed: write each setting out, behind a `*`")
    by_place = [*arguments.posonlyargs, *arguments.args]
    form = f"def {name}({_list(gets)}{', ' if gets else ''}*, ...)"
    if len(by_place) > len(gets):
        extra = [each for each in by_place if each.arg not in gets][
            len(gets) - len(by_place)
        ]  # as many as are too many
        annotation = f": {written(extra.annotation)}" if extra.annotation else ""
        text = f"{extra.arg} stands among what it is called with; a setting stands behind `*`"
        raise Refused(extra, f"{text}: {form.replace('...', f'{extra.arg}{annotation} = ...')}")
    wrong = len(gets) - gets.count("self") > 1 and [each.arg for each in by_place] != [*gets]
    if len(by_place) < len(gets) or wrong:
        raise Refused(function, f"must be {form}, not def {name}({_list([each.arg for each in by_place])})")
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
