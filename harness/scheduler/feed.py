"""Runs that are decided on while others run, as a search of weights does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.runs.record import Run, State


class Feed:
    """What a scheduler asks for more runs; this one has none."""

    @property
    def open(self) -> bool:
        """Whether more runs may come."""
        return False

    def more(self) -> Sequence[Run]:
        """Runs to begin now that a slot is free; none for the moment is no end."""
        return ()

    def unwanted(self) -> Mapping[str, State]:
        """Runs that are to stop, after a checkpoint, by id, and the state in which they are left."""
        return {}

    def refused(self, name: str) -> None:
        """The run of this id could not even be started."""
