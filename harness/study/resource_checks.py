"""What Ray or Slurm would refuse of the resources in words of its own, or take for something else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from harness.study.overlay import shown
from harness.study.resources import Resources
from harness.study.search_space import Problems

_LEAST_OF_RAY = 0.0001
_OF_RAY = {
    "CPU": "write resources.ray.cpus",
    "GPU": "write resources.ray.gpus",
    "memory": "leave it out",
    "object_store_memory": "leave it out",
    "bundle": "leave it out",
}
"""Names of resources that are Ray's own -> what to do instead."""
_ONE_PROCESS = "a worker is one process on one node, so ask for more of them in resources.workers"
_OF_HARNESS = {
    "--array": "resources.workers says how many workers there are",
    "--nodes": _ONE_PROCESS,
    "--ntasks": _ONE_PROCESS,
    "--signal": "resources.slurm.signal_s says when checkpoints are written",
    **dict.fromkeys(("--chdir", "--comment", "--export", "--job-name", "--open-mode", "--output"), "leave it out"),
    **dict.fromkeys(("--no-requeue", "--parsable", "--requeue", "--wait", "--wrap"), "leave it out"),
    **dict.fromkeys(("--help", "--test-only", "--usage", "--version"), "nothing is submitted with it; leave it out"),
}
"""Options of sbatch on which the harness relies -> what to do instead."""
_SHORT = {
    **{"-a": "--array", "-D": "--chdir", "-J": "--job-name", "-N": "--nodes"},
    **{"-n": "--ntasks", "-o": "--output", "-W": "--wait", "-h": "--help", "-V": "--version"},
}
_ALONE = (
    *("--contiguous", "--exclusive", "--get-user-env", "--hold", "--ignore-pbs", "--nice", "--no-kill", "--overcommit"),
    *("--oversubscribe", "--propagate", "--quiet", "--reboot", "--spread-job", "--use-min-nodes"),
    *("--verbose", "-H", "-O", "-Q", "-k", "-s", "-v"),
)
"""Options of sbatch that take no value from the word after them."""


def problems(resources: Resources) -> Problems:
    """What is wrong whichever engine is asked, so that it is not met only once another one is."""
    for name, amount in resources.ray.resources.items():
        path = ("resources", "ray", "resources", name)
        if name in _OF_RAY:
            yield path, f"is counted by Ray itself; {_OF_RAY[name]}"
        elif not (amount == 0 or _LEAST_OF_RAY <= amount <= 1 or (amount > 1 and float(amount).is_integer())):
            allowed = f"a whole number, or from {_LEAST_OF_RAY} to 1, as Ray counts no other parts"
            yield path, f"must be {allowed}; not {amount:g}"
    yield from _extra(resources.slurm.extra)


def _extra(words: Sequence[str]) -> Problems:
    before = ""
    for place, word in enumerate(words):
        path = ("resources", "slurm", "extra", place)
        if before and not word.startswith("-"):
            before = ""
            continue
        if not word.strip("-") or word[0] != "-":
            fix = "write an option with its value, as --exclude=node7"
            yield path, f"{shown(word)} is no option, and sbatch would take it for the script of the workers; {fix}"
        elif option := _of_harness(word):
            yield path, f"{option} is set by the harness itself; {_OF_HARNESS[option]}"
        takes_next = (word[:2] == "--" and "=" not in word) or len(word) == 2
        before = word if takes_next and word not in _ALONE else ""


def _of_harness(word: str) -> str:
    """The option on which the harness relies that sbatch would read there, which it may be given cut short."""
    if word[:2] != "--":
        # Several of one letter may stand behind one dash, until one of them takes the rest as its value.
        flags = takewhile(lambda flag: flag in _ALONE, (f"-{letter}" for letter in word[1:]))
        last = word[1 + len(list(flags)) :][:1]
        return _SHORT.get(f"-{last}", "")
    name = word.partition("=")[0]
    return next((option for option in _OF_HARNESS if option.startswith(name)), "")
