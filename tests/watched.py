"""A study of four tiny runs that go on when they are told to: `python watched.py FOLDER` trains them, two at a time."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from PIL import Image

from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck
from harness.runs.record import Point, Result
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from hostile import SMALL, write_images

SCRIPT = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
TOTAL = 10
STAGES = ("measure", "draw", "end")
"""Each run goes on to the next once there is a file of that name, or of its cell's, in `gates`."""


def planned(folder: Path) -> Plan:
    """The study in the folder, which is written if there is none."""
    if not (folder / "watched.yaml").exists():
        write_images(folder / "images")
        (folder / "watched.yaml").write_text(SMALL + "toggles: [transform_w]\ndesign: {seeds: 2}\n")
        (folder / "gates").mkdir()
    return make_plan(load_study(folder / "watched.yaml"))


def go_on(folder: Path, stage: str, cell: str = "") -> None:
    (folder / "gates" / f"{stage}{cell}").touch()


def draw(folder: Path, name: str, colour: str) -> None:
    """A row of 16 images of 8 pixels."""
    (folder / "samples").mkdir(exist_ok=True)
    Image.new("RGB", (8 * 16, 8), colour).save(folder / "samples" / f"{name}.png")


def act(folder: Path, slot: Slot, claim: ClaimCheck) -> None:
    """In the place of training: log, losses, a measurement, samples, and an end; the last run fails."""
    own, gates = RunFolder(folder), folder.parent.parent.parent / "gates"
    run = own.run()

    def wait_for(stage: str) -> None:
        while not any((gates / name).exists() for name in (stage, f"{stage}{run.cell}")):
            time.sleep(0.02)

    print(SCRIPT)
    draw(folder, "real", "white")
    columns = [{"caption": f"{SCRIPT} {number}", "image_id": number} for number in range(16)]
    (folder / "samples" / "captions.json").write_text(json.dumps(columns))
    for step in range(1, 6):
        own.append(Point(step, step * 0.016, time.time(), {"generator/total": 9.0 - step, "discriminator/total": 1.0}))
    own.update(step=5, total_steps=TOTAL, images_per_s=16.0, last={"G": 4.0, "D": 1.0}, seconds=5.0)
    wait_for("measure")
    own.update(measuring=True)
    wait_for("draw")
    draw(folder, "000000005", "red")
    own.append(Point(5, 0.08, time.time(), {"metrics/fd": 12.5}))
    own.update(measuring=False, scores={"fd": 12.5}, measuring_s=0.5)
    wait_for("end")
    if (run.cell, run.seed) == ("transform_w", 1):
        raise ValueError(SCRIPT)
    own.update(step=TOTAL, seconds=10.0)
    own.finish(Result({"fd": 12.5}, {}, {}))


if __name__ == "__main__":
    import watched  # by the name under which the runs' processes find it

    made = planned(Path(sys.argv[1]))
    slots = tuple(Slot(index, "cpu", 1) for index in range(2))
    Scheduler(made.study.root, slots, watched.act, 0).run(made.queue(made.runs), lambda statuses: None)
