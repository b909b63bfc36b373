"""`python -m tools.docs`: write all pages of the site into build/pages, for mkdocs."""

from __future__ import annotations

from tools.docs import tree
from tools.docs.generated import pages

tree.write(tree.ROOT / "build" / "pages", pages())
