"""The site file: resources for all studies of a machine, such as an account and a partition.

`$HARNESS_SITE` names it (empty: there is none), else it is `harness/site.yaml` in the user's configuration folder, else
/etc/harness/site.yaml. What a study, its profile or --set says goes before it.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from harness.errors import SpecError
from harness.files import user_path
from harness.study.overlay import shown
from harness.study.yaml import Node, parse_file, read_text

VARIABLE = "HARNESS_SITE"
_OF_ALL_USERS = Path("/etc/harness/site.yaml")


def site_path() -> Path | None:
    """The site file; None where there is none. Raises HarnessError."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return user_path(named, VARIABLE) if named else None
    return next((path for path in (own_path(), _OF_ALL_USERS) if path.is_file()), None)


def own_path() -> Path:
    """Where the user's own site file belongs."""
    return Path(platformdirs.user_config_dir("harness")) / "site.yaml"


def read_site() -> Node:
    """The site file as a patch of a study's settings, empty without one. Raises HarnessError."""
    path = site_path()
    if path is None:
        return Node({}, "defaults", "defaults")
    try:
        text = read_text(path)
    except SpecError as error:
        raise SpecError(f"{error}; the site file is named by {VARIABLE}, or make it readable") from error
    root = parse_file(text, path)
    if root.value is None:
        return Node({}, root.where, root.key_where)
    if not isinstance(root.value, dict):
        raise SpecError(f"{root.where}: a site file is a mapping that holds `resources:`, not {shown(root.plain())}")
    for key, node in root.value.items():
        if key != "resources":
            raise SpecError(f"{node.key_where}: {key}: not allowed in a site file; allowed: resources")
    return root
