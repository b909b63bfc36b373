"""A copy of the package as it is now, so that jobs that wait do not change when its files are edited."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from harness.code import checkout
from harness.files import write_json

PACKAGE = Path(__file__).parent.parent


def copy_code(folder: Path) -> None:
    """The package's files below `folder`, and beside them `code.json`, which says where they come from.

    Of a checkout these are the files as they lie there, edits included; `harness/models`, a link there, is a folder in
    the copy as in an installed package.
    """
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    digest = hashlib.sha256()
    for path in sorted(path for path in (folder / PACKAGE.name).rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    write_json(folder / checkout.OF_COPY, {**checkout.code(), "copy": digest.hexdigest()[:16]})
