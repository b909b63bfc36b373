"""The pages that are generated, by their place in the site."""

from __future__ import annotations

from tools.docs import commands, python, settings, tables


def pages() -> dict[str, str]:
    """Place -> text."""
    return {
        "reference/settings.md": settings.page(),
        "reference/commands.md": commands.page(),
        "reference/objective.md": tables.objective(),
        "reference/metrics.md": tables.metrics(),
        "reference/python.md": python.page(),
    }
