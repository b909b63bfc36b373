"""The ideas of one file, read from its syntax tree: the file is not run.

Every mention of a mark is either the idea of a function, class or name at the top of the file, or a mistake that is
told: nothing that is marked is passed over.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness import ideas as marks
from harness.errors import choices
from harness.ideas import IdeaKind
from harness.ideas.forms import FORMS, NETWORK
from harness.ideas.names import PACKAGE, Names, bound_at_top, called
from harness.ideas.signature import settings_of
from harness.ideas.values import Refused, checked, literal, setting, written
from harness.models.objective import PLAYERS, TERMS, Player
from harness.models.toggles import TOGGLES
from harness.settings import IdeaSetting

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TAKEN = {
    **dict.fromkeys(TOGGLES, "of a built-in toggle"),
    **dict.fromkeys((term.name for term in TERMS), "of a built-in term"),
    **dict.fromkeys(("origin", "full"), "of a cell"),
    **dict.fromkeys(("adversarial", "total", "r1", "path_length"), "of a built-in loss"),
    **dict.fromkeys(("generator", "discriminator"), "of a network"),
    **dict.fromkeys(("f_c", "f_res", "f_img", "f_txt", "h", "h_tokens", "r", "w", "x"), "of a symbol"),
    **dict.fromkeys(
        ("on", "kind", "reads", "networks", "weight", "every", "at", "network", "size"), "of a setting of ideas"
    ),
}
"""Name that no idea may have -> what it is the name of."""
_OF_TORCH = frozenset(
    """
    add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys load_state_dict
    modules mtia named_buffers named_children named_modules named_parameters parameters pop register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory state_dict to to_empty train training type update values xpu zero_grad
    """.split()  # noqa: SIM905
)
"""What torch's modules have, so that no module among them can be called so."""
_MODULES = ("load", "step")
"""Of the package, which an idea may import beside marks and types."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Idea:
    """A marked function or class, or a feature."""

    name: str
    kind: IdeaKind
    player: Player | None
    reads: tuple[str, ...]
    doc: str
    """First line of its docstring."""
    file: str
    """As `code` names it."""
    where: str
    """File and line, as messages begin."""
    settings: Mapping[str, Any]
    """Name -> default; the first is `on`, which features lack, as they are read or not."""
    types: Mapping[str, Any]
    """Name -> type of a dataclass's field."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Its settings that name a frozen network."""
        return tuple(name for name, kind in self.types.items() if kind == NETWORK)

    def in_run(self, settings: Mapping[str, IdeaSetting]) -> dict[str, IdeaSetting]:
        """Its settings as a run has them, with what its file says that a run has to know."""
        networks = {"networks": self.networks} if self.networks and self.kind != "feature" else {}
        return {**settings, "kind": self.kind, "reads": self.reads, **networks}


def ideas_of(source: Mapping[str, str], files: Iterable[str]) -> Iterator[Idea]:
    """The ideas of these files, of text that has been read without mistakes before."""
    for file in files:
        reader = FileReader(ast.parse(source[file]), file, file)
        reader.read()
        yield from reader.ideas.values()


class FileReader:
    """Reads the ideas of one file."""

    def __init__(self, tree: ast.Module, file: str, shown: str) -> None:
        """`file`: as `code` names it; `shown`: as messages do."""
        self._tree, self._file, self._shown = tree, file, shown
        self._names = Names(tree)
        self._read_mentions: set[int] = set()
        self.problems: list[str] = []
        self.ideas: dict[str, Idea] = {}

    def read(self) -> None:
        for statement in self._tree.body:
            target = getattr(statement, "target", *getattr(statement, "targets", [])[:1] or (None,))
            name = getattr(statement, "name", getattr(target, "id", ""))
            try:
                if idea := self._idea(statement, name):
                    self.ideas.setdefault(name, idea)
                    if what := _TAKEN.get(name) or ("of a part of torch's modules" if _hides(statement) else ""):
                        raise Refused(statement, f"this is the name {what}; rename it")
                    if not _NAME.fullmatch(name):
                        raise Refused(
                            statement, "an idea's name is a letter, then up to 63 of a-z, 0-9 and _; rename it"
                        )
            except Refused as error:
                self._refuse(error.line, f"{name}: {error}")
        for name, line in bound_at_top(self._tree):
            if name in self.ideas and f"{self._shown}:{line}" != self.ideas[name].where:
                self._refuse(line, f"{name}: is defined again; first at {self.ideas[name].where}; rename one")
        for mention, around in self._names.mentions(self._tree):
            if id(mention) not in self._read_mentions:
                self._refuse(mention.lineno, _misplaced(mention, around))
        self._check_imports()

    def _refuse(self, line: int, text: str) -> None:
        self.problems.append(f"{self._shown}:{line}: {text}")

    def _check_imports(self) -> None:
        allowed = [*marks.__all__, *_MODULES]
        for node in self._names.imports:
            if isinstance(node, ast.ImportFrom) and node.module == PACKAGE and not node.level:
                for alias in node.names:
                    if alias.name not in (*allowed, "*"):
                        self._refuse(node.lineno, f"{PACKAGE} has no {alias.name!r}{choices(alias.name, allowed)}")

    def _idea(self, statement: ast.stmt, name: str) -> Idea | None:
        if isinstance(statement, Definition):
            return self._marked(statement)
        value = getattr(statement, "value", None)
        if not isinstance(value, ast.Call) or self._names.mark(value) != "feature" or not name.isidentifier():
            return None
        if isinstance(statement, ast.Assign) and len(statement.targets) > 1:
            return None
        self._read_mentions.add(id(value.func))
        return self._made(statement, name, value, "feature")

    def _mark(self, thing: Definition) -> tuple[ast.expr, IdeaKind] | None:
        """The decorator that makes an idea of it, and its kind."""
        marked = [(node, kind) for node in thing.decorator_list if (kind := self._names.mark(node))]
        self._read_mentions |= {id(called(node)) for node, _ in marked}
        if not marked:
            return None
        mark, kind = marked[0]
        if len(marked) > 1:
            raise Refused(thing, "has two marks; an idea has one")
        if mark is not thing.decorator_list[0]:
            raise Refused(thing, f"@{kind} must be its first decorator; the others go below it")
        if kind == "feature":
            raise Refused(thing, f"feature is no decorator; write {thing.name} = feature(NETWORK)")
        if isinstance(mark, ast.Call) != bool(FORMS[kind].first):
            rest = ", at=8" if kind == "layer" else ""
            example = " or ".join(f'@{kind}("{player}"{rest})' for player in PLAYERS)
            raise Refused(mark, f"write {example}" if FORMS[kind].first else f"write @{kind}, without brackets")
        return mark, kind

    def _marked(self, thing: Definition) -> Idea | None:
        if (marked := self._mark(thing)) is None:
            return None
        if isinstance(thing, ast.AsyncFunctionDef):
            raise Refused(thing, "must be an ordinary function, without async")
        mark, kind = marked
        idea = self._made(thing, thing.name, mark, kind)
        settings, types = dict(idea.settings), dict(idea.types)
        for parameter, default in settings_of(thing, FORMS[kind], idea.reads):
            name = parameter.arg
            try:
                if name in ("kind", "reads", "networks", *idea.settings):
                    raise Refused(parameter, f"{name} is a setting of every {kind}; call the parameter otherwise")
                if name.startswith("_") or not name.isascii():
                    raise Refused(parameter, f"{name}: a setting's name is a letter, then letters, digits and _")
                settings[name], types[name] = setting(parameter, default, self._names)
                if types[name] == NETWORK and isinstance(thing, ast.FunctionDef):
                    text = "a frozen network is given to a constructor, and a function has none"
                    raise Refused(parameter, f"{name}: {text}: make it class {thing.name}(nn.Module)")
            except Refused as error:
                self._refuse(error.line, f"{thing.name}: {error}")
        return replace(idea, doc=(ast.get_docstring(thing) or "").partition("\n")[0], settings=settings, types=types)

    def _made(self, statement: ast.stmt, name: str, mark: ast.expr, kind: IdeaKind) -> Idea:
        """An idea with what its mark says."""
        form = FORMS[kind]
        given = _given(mark, kind) if isinstance(mark, ast.Call) else {}
        player: Player | None = None
        if form.first == "player":
            written_player = literal(given["player"], "the player") if "player" in given else None
            player = next((each for each in PLAYERS if each == written_player), None)
            if player is None:
                text = f"the player must be 'generator' or 'discriminator', not {written_player!r}"
                example = next((each for each in PLAYERS if str(written_player)[:1].lower() == each[0]), PLAYERS[0])
                raise Refused(mark, f'{text}: @{kind}("{example}", ...)')
        settings: dict[str, Any] = {} if kind == "feature" else {"on": False}
        for key, argument in form.settings.items():
            if key not in given and argument.default is None:
                raise Refused(mark, f"{kind} needs {key}, which is {argument.type.words}")
            settings[key] = checked(given[key], key, argument.type) if key in given else argument.default
        types = {key: form.settings[key].type.type if key in form.settings else bool for key in settings}
        reads = _reads(given["reads"], kind, player) if "reads" in given else ()
        return Idea(name, kind, player, reads, "", self._file, f"{self._shown}:{statement.lineno}", settings, types)


def _hides(statement: ast.stmt) -> bool:
    """Whether it would be a module with the name of something that the module around it has."""
    return isinstance(statement, ast.ClassDef) and statement.name in _OF_TORCH


def _given(mark: ast.Call, kind: IdeaKind) -> dict[str, ast.expr]:
    """Argument of a mark -> what is written for it."""
    form = FORMS[kind]
    allowed = [form.first, *(name for name in form.settings if name != form.first)] + ["reads"] * bool(form.reads)
    if len(mark.args) > 1 or any(isinstance(each, ast.Starred) for each in mark.args):
        others = ", ".join(f"{name}=..." for name in allowed[1:])
        raise Refused(mark, f"{kind} has one argument without a name, its {form.first}; the others: {others}")
    given: dict[str, ast.expr] = dict(zip([form.first], mark.args, strict=False))
    for keyword in mark.keywords:
        if keyword.arg not in allowed or keyword.arg in given:
            what = keyword.arg or f"**{written(keyword.value)}"
            raise Refused(mark, f"{kind} has no further {what!r}{choices(what, allowed)}")
        given[keyword.arg] = keyword.value
    return given


def _reads(node: ast.expr, kind: IdeaKind, player: Player | None) -> tuple[str, ...]:
    """Names, of which those of features that a study may have are checked later."""
    names = literal(node, "reads")
    if isinstance(names, str):
        raise Refused(node, f"reads is a list of names: write reads=({names!r},)")
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise Refused(node, f"reads must be a list of names, such as reads=('f_res',), not {written(node)}")
    if kind == "layer":
        allowed = FORMS[kind].reads if player == "generator" else ()
        for name in names:
            if name not in allowed:
                why = choices(name, allowed) if allowed else ", as D sees an image before it is told of a text"
                raise Refused(node, f"a layer of the {player} cannot read {name!r}{why}")
    return tuple(dict.fromkeys(names))


def _misplaced(mention: ast.expr, around: tuple[ast.AST, ...]) -> str:
    """What to say of a mark that makes no idea."""
    mark = written(mention)
    inner = around[-1] if not isinstance(around[-1], ast.Call) else around[-2]
    if isinstance(inner, Definition) and any(mention is called(each) for each in inner.decorator_list):
        outer = around[around.index(inner) - 1]
        of = f"{type(outer).__name__.lower()} {outer.name}" if isinstance(outer, Definition) else "a condition or loop"
        place = of.replace("functiondef", "function").replace("classdef", "class").replace("async", "")
        return f"{inner.name}: is marked inside {place}, and ideas stand at the top of the file: move it there"
    if mark.endswith("feature"):
        return f"{mark}: a feature has its name at the top of the file: f_mine = feature(NETWORK)"
    return f"{mark}: is a mark, which stands above a function or class at the top of the file and nowhere else"
