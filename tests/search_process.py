"""A search in a process of its own, on the objective of `searched`: FOLDER [KEY.PATH=VALUE ...]."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import searched
from harness.errors import HarnessError
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from harness.tuning.loop import Loop
from harness.tuning.search import Search
from harness.tuning.trials import Trials, storage_errors


def main(folder: Path, overrides: list[str]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        searched.name_for_content(patch)
        patch.setattr("harness.scheduler.scheduler.TICK_S", searched.PAUSE_S / 2)
        search = searched.search_in(folder, *overrides)
        with storage_errors(search):
            return carry_out(search)


def carry_out(search: Search) -> int:
    loop = Loop(search, Trials(search), [])
    slots = (Slot(0, "cpu", 1),)
    scheduler = Scheduler(search.study.root, slots, searched.train, 0, ("searched",), feed=loop, grace_s=5.0)
    try:
        scheduler.run((), lambda _: loop.settle())
    finally:
        loop.drop_all()
    loop.sweep()
    return scheduler.stop.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
    except HarnessError as error:
        print(error)
        sys.exit(2)
