"""What the user did wrong, said so that it can be put right. All else is a fault of ours and keeps its traceback."""

from __future__ import annotations


class HarnessError(Exception):
    """The user's input cannot be used: the message names the value, what is allowed and the fix. Exit code 2."""


class SpecError(HarnessError):
    """A study file or an override is wrong."""


class DataError(HarnessError):
    """A data set is missing, unreadable or unfit."""


class MissingWeights(HarnessError):
    """The weights of an encoder are not there or cannot be read."""


class RecordError(HarnessError):
    """A run folder is damaged or was written for something else."""


class Diverged(Exception):
    """A loss or gradient is no longer finite. A result, not a fault: the run ends as `diverged`."""
