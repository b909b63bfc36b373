"""What a training script of one's own may import: its job, its metrics, its images, and how it is stopped.

It is a convenience. A script that imports nothing of the harness reads and writes the same files, see
docs/own-script.md. Nothing here loads torch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

_BATCH = 64
"""Images that are drawn at once."""


class Job:
    """The job that HARNESS_JOB names. Made before training begins: from then on SIGTERM sets `is_stopping`.

    args: the settings of `command.args`, a - in a name as _; seed; resolution: images are R x R;
    study: the folder of the study file; folder: the script's own, the same again after a stop;
    state: the file in it for what a resumed script goes on from; is_stopping: whether it shall save and end.
    """

    def __init__(self) -> None:
        """Raises KeyError where HARNESS_JOB is not set: the harness has not started this script."""
        job: dict[str, Any] = json.loads(Path(os.environ["HARNESS_JOB"]).read_text(encoding="utf-8"))
        self.args = SimpleNamespace(**{name.replace("-", "_"): value for name, value in job["args"].items()})
        self.seed, self.resolution, self.snapshots = int(job["seed"]), int(job["resolution"]), int(job["snapshots"])
        self.study, self.folder, self.samples = Path(job["study"]), Path(job["folder"]), Path(job["samples"])
        self.state = self.folder / "state"
        self.prompts = [json.loads(line) for line in Path(job["prompts"]).read_text(encoding="utf-8").splitlines()]
        self._metrics, self.is_stopping = Path(job["metrics"]), False
        signal.signal(signal.SIGTERM, self._note_stop)

    def _note_stop(self, *_: object) -> None:
        self.is_stopping = True

    def report(self, step: int, total: int, **values: float) -> None:
        """A line of metrics: `step` steps of `total` are done, and these are the values of the newest."""
        self._append({"step": step, "total": total, **values})

    def is_snapshot(self, step: int, total: int) -> bool:
        """Whether images are to be drawn at this step on the way; those of the end are drawn at the end."""
        return any(step == round(total * part / self.snapshots) for part in range(1, self.snapshots)) and step < total

    def draw(self, images: Callable[[Sequence[str], Sequence[int]], Any], step: int | None = None) -> None:
        """An image for every prompt, at the end or, with a `step`, on the way.

        images(captions, seeds) -> uint8 array [n,R,R,3], for up to 64 at once. Needs Pillow.
        """
        from PIL import Image

        folder = self.samples if step is None else self.samples / str(step)
        folder.mkdir(parents=True, exist_ok=True)
        for begin in range(0, len(self.prompts), _BATCH):
            part = self.prompts[begin : begin + _BATCH]
            drawn = images([prompt["caption"] for prompt in part], [prompt["seed"] for prompt in part])
            for prompt, pixels in zip(part, drawn, strict=True):
                Image.fromarray(pixels).save(folder / f"{prompt['index']:06d}.png")
        if step is not None:
            self._append({"step": step, "samples": True})

    def save(self, write: Callable[[Path], object]) -> None:
        """write(path) makes the file `state`, which is replaced as a whole: a kill meanwhile leaves the one before."""
        new = self.state.with_name(f"{self.state.name}.new")
        write(new)
        os.replace(new, self.state)

    def stop(self, write: Callable[[Path], object]) -> NoReturn:
        """`save`, and end as a script that was asked to stop."""
        self.save(write)
        sys.exit(143)

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, default=float)  # numbers of numpy and torch too
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
