"""The code of a study: its files of ideas and what they import, read and checked without running any of it."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import keyword
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.errors import HarnessError, choices, nearest
from harness.files import open_regular
from harness.ideas.forms import FORMS
from harness.ideas.imports import absent_libraries, imported_files, installed, lost_imports, module_name
from harness.ideas.meaning import meaning
from harness.ideas.syntax import FileReader, Idea

MAX_BYTES = 1_000_000
"""Of all files together: run.json of each run carries them."""
MAX_FILES = 200
"""Named ones and what they import."""


class CodeError(HarnessError):
    """A study's code cannot be used. `of_names`: (place in the list of files, text) of mistakes in a file's name."""

    def __init__(self, problems: Sequence[str], of_names: Sequence[tuple[int, str]] = ()) -> None:
        self.problems, self.of_names = tuple(problems), tuple(of_names)
        super().__init__("\n".join([*(text for _, text in of_names), *problems]))


@dataclass(frozen=True)
class Code:
    """What a study's `code` holds."""

    files: tuple[str, ...] = ()
    """As the study names them, relative to its folder."""
    ideas: Mapping[str, Idea] = field(default_factory=dict)
    """By name, in the order of the files and of their lines."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Relative path -> text, of the files and of all that they import from the study's folder."""
    unmarked: Mapping[str, str] = field(default_factory=dict)
    """Function or class at the top of a file that the study names, without a mark -> file and line."""
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """File -> relative paths of itself and of all that it imports, through other modules too."""

    @functools.cached_property
    def _digests(self) -> dict[str, str]:
        forms = {path: meaning(text) for path, text in self.source.items()}
        contents = {
            file: json.dumps([[path, forms[path]] for path in sorted(paths)]) for file, paths in self.uses.items()
        }
        return {file: hashlib.sha256(content.encode()).hexdigest() for file, content in contents.items()}

    def digest(self, file: str) -> str:
        """64 hex digits of a file and all that it imports, without comments, docstrings and blank lines."""
        return self._digests[file]

    def absent_libraries(self, file: str, folder: Path) -> Iterator[tuple[str, int, str]]:
        """(path, line, name) of libraries that this file and what it imports need and that are not installed here."""
        for path in self.uses[file]:
            for line, name in absent_libraries(ast.parse(self.source[path]), folder):
                yield path, line, name

    def source_of(self, files: Iterable[str]) -> dict[str, str]:
        """Relative path -> text of these files and of what they import."""
        return {path: self.source[path] for path in sorted({path for file in files for path in self.uses[file]})}


def read_code(files: Sequence[str], folder: Path) -> Code:
    """The ideas of these files, which `folder` holds, and their source. Raises CodeError with every mistake."""
    of_names = [(place, text) for place, name in enumerate(files) if (text := _wrong_name(name, files[:place]))]
    reader = _Reader(folder)
    named = [str(PurePosixPath(name)) for name in files]
    for place, name in enumerate(named):
        if all(place != other for other, _ in of_names):
            try:
                reader.add(name)
            except (OSError, ValueError) as error:
                of_names.append((place, str(error)))
    if not of_names:
        reader.read(named)
    if of_names or reader.problems:
        raise CodeError(reader.problems, of_names)
    uses = {name: reader.used_by(name) for name in named}
    return Code(tuple(named), reader.ideas, reader.source, reader.unmarked, uses)


def _wrong_name(name: str, earlier: Sequence[str]) -> str:
    """What is wrong with a file's name as the study has it; empty if nothing is."""
    path = PurePosixPath(name)
    beside = "name a .py file in the study's folder, relative to it, such as my_ideas.py"
    if not name or "://" in name or "\\" in name or path.is_absolute() or ".." in path.parts:
        return f"{name!r} is not a file in the study's folder; {beside}"
    if path.suffix != ".py":
        return f"{name!r} is not a .py file; {beside}"
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in path.with_suffix("").parts):
        return f"{name!r} cannot be imported: call it by letters, digits and _ alone, a letter first"
    return f"{name!r} is here twice" if path in map(PurePosixPath, earlier) else ""


class _Reader:
    """Reads files below a folder, and what they import from there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trees: dict[str, ast.Module] = {}
        self._imports: dict[str, dict[str, int]] = {}
        self._left = MAX_BYTES
        self.source: dict[str, str] = {}
        self.ideas: dict[str, Idea] = {}
        self.unmarked: dict[str, str] = {}
        self.problems: list[str] = []

    def add(self, file: str) -> None:
        """Read a file. Raises ValueError or OSError where it is no text file of that size."""
        path = self._folder / file
        if path.is_symlink() and not path.exists():
            raise ValueError(f"{path} is a link to {os.readlink(path)}, which is not there")
        if not path.exists():
            others = sorted(each.name for each in path.parent.glob("*.py")) if path.parent.is_dir() else []
            holds = f"the folder {path.parent} holds {', '.join(others[:8]) or 'no .py file'}"
            raise ValueError(f"{path} is not there{nearest(path.name, others) or ';'} {holds}")
        if not path.is_file():
            raise ValueError(f"{path} is a folder or no regular file; name a .py file")
        with open_regular(path) as stream:
            content = stream.read(self._left + 1)
        if len(content) > self._left:
            raise ValueError(
                f"{path}: code of more than {MAX_BYTES:,} bytes in all is too much: runs keep a copy of it"
            )
        self._left -= len(content)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path}:{line}: is not UTF-8 text ({error.reason}); save it as UTF-8") from None
        self.source[file] = text.replace("\r\n", "\n").replace("\r", "\n")
        self._imports[file] = {}

    def read(self, named: Sequence[str]) -> None:
        """The ideas of the named files, and all that these import."""
        waiting = list(named)
        for file in waiting:
            if (tree := self._parsed(file)) is None:
                continue
            self._read_ideas(tree, file, file in named)
            lost = lost_imports(tree, file, self._folder)
            self.problems += [f"{self._folder / file}:{line}: {text}" for line, text in lost]
            for there, line in imported_files(tree, file, self._folder):
                where = f"{self._folder / file}:{line}"
                self._imports[file].setdefault(there, line)
                if there in self.source:
                    continue
                try:
                    self.add(there)
                except (OSError, ValueError) as error:
                    self.problems.append(f"{where}: imports a file that cannot be used: {error}")
                    continue
                waiting.append(there)
                if len(waiting) > MAX_FILES:
                    self.problems.append(f"{where}: more than {MAX_FILES} files are imported; runs keep a copy of them")
                    return
        for file in waiting:
            if hidden := installed(module_name(file).partition(".")[0], self._folder):
                self.problems.append(f"{self._folder / file}:1: has the name of {hidden}; rename the file")
        self._check_reads()

    def used_by(self, file: str) -> tuple[str, ...]:
        """The file itself, then what it imports."""
        used = [file]
        for each in used:
            used += [there for there in self._imports[each] if there not in used]
        return tuple(used)

    def _parsed(self, file: str) -> ast.Module | None:
        path = self._folder / file
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Compiling runs nothing, and refuses what parsing lets pass, such as a `return` at the top.
                compile(self.source[file], str(path), "exec", dont_inherit=True)
                return ast.parse(self.source[file], str(path))
        except SyntaxError as error:
            self.problems.append(f"{path}:{error.lineno or 1}: is not valid Python: {error.msg}")
        except (ValueError, RecursionError, MemoryError) as error:
            self.problems.append(f"{path}:1: is not valid Python: {error or type(error).__name__}")
        return None

    def _read_ideas(self, tree: ast.Module, file: str, is_named: bool) -> None:
        reader = FileReader(tree, file, str(self._folder / file))
        reader.read()
        self.problems += reader.problems
        defined = [each for each in tree.body if isinstance(each, ast.FunctionDef | ast.ClassDef) and is_named]
        self.unmarked |= {
            each.name: f"{self._folder / file}:{each.lineno}" for each in defined if each.name not in reader.ideas
        }
        for name, idea in reader.ideas.items():
            if not is_named:
                text = f"is marked in a file that `code` does not name; write code: [..., {file}], or take the mark off"
                self.problems.append(f"{idea.where}: {name}: {text}")
            elif name in self.ideas:
                text = f"is the name of an idea at {self.ideas[name].where} too; rename one of the two"
                self.problems.append(f"{idea.where}: {name}: {text}")
            else:
                self.ideas[name] = idea

    def _check_reads(self) -> None:
        features = [name for name, idea in self.ideas.items() if idea.kind == "feature"]
        for idea in self.ideas.values():
            allowed = [*FORMS[idea.kind].reads, *(features if idea.kind != "layer" else ())]
            for name in idea.reads:
                if name not in allowed:
                    text = f"{idea.name}: reads {name!r}, which is no feature{choices(name, allowed)}"
                    self.problems.append(f"{idea.where}: {text}")
