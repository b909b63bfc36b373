"""Runs that are decided on while others run, as a search of weights does. No torch here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.records import Run


class Feed:
    """What a scheduler asks for more runs; this one has none."""

    @property
    def open(self) -> bool:
        """Whether more runs may come."""
        return False

    def more(self) -> Sequence[Run]:
        """Runs to begin now that a slot is free; none for the moment is no end."""
        return ()

    def unwanted(self) -> Collection[str]:
        """Ids of runs that are of no use any more: they are stopped with a checkpoint."""
        return ()
