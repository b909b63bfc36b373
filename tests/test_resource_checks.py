"""What Ray or Slurm would refuse of the resources is refused on loading, with its place; and what Ray refuses later."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import HarnessError, SpecError
from harness.executors.ray_connection import Connection
from harness.study.load import load_study


def refused(folder: Path, resources: str) -> str:
    (folder / "s.yaml").write_text(f"study: s\nresources: {resources}\n")
    with pytest.raises(SpecError) as caught:
        load_study(folder / "s.yaml")
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ("CPU: 2", "CPU: is counted by Ray itself; write resources.ray.cpus"),
        ("GPU: 1", "GPU: is counted by Ray itself; write resources.ray.gpus"),
        ("memory: 5", "memory: is counted by Ray itself; leave it out"),
        ("large: -1", "large: must be a whole number, or from 0.0001 to 1, as Ray counts no other parts; not -1"),
        ("large: 1.5", "large: must be a whole number, or from 0.0001 to 1, as Ray counts no other parts; not 1.5"),
        (
            "large: 0.00001",
            "large: must be a whole number, or from 0.0001 to 1, as Ray counts no other parts; not 1e-05",
        ),
    ],
)
def test_amounts_that_ray_does_not_take(tmp_path: Path, own: str, why: str) -> None:
    text = refused(tmp_path, f"{{ray: {{resources: {{{own}}}}}}}")
    assert text.startswith("s.yaml:2:") and text.endswith(f": resources.ray.resources.{why}")


@pytest.mark.parametrize(
    ("words", "place", "why"),
    [
        ("node7", 0, "'node7' is no option, and sbatch would take it for the script of the workers"),
        ("--hold, node7", 1, "'node7' is no option"),
        ("--exclude=node7, node8", 1, "'node8' is no option"),
        ("-xnode7, node8", 1, "'node8' is no option"),
        ("-x, node7, node8", 2, "'node8' is no option"),
        ('"--", node8', 0, "'--' is no option"),
        ("--output=log", 0, "--output is set by the harness itself; leave it out"),
        ("-J, mine", 0, "--job-name is set by the harness itself"),
        ("-N2", 0, "--nodes is set by the harness itself; a worker is one process on one node"),
        ("--nta=2", 0, "--ntasks is set by the harness itself"),
        ("-Hn2", 0, "--ntasks is set by the harness itself"),
        ("-vW", 0, "--wait is set by the harness itself"),
        ("--test-only", 0, "--test-only is set by the harness itself; nothing is submitted with it"),
        ("-h", 0, "--help is set by the harness itself"),
        ("--array=0-3%2", 0, "--array is set by the harness itself; resources.workers says how many workers there are"),
        ("--signal=B:USR1@60", 0, "--signal is set by the harness itself; resources.slurm.signal_s says when"),
    ],
)
def test_options_that_sbatch_would_take_otherwise(tmp_path: Path, words: str, place: int, why: str) -> None:
    text = refused(tmp_path, f"{{slurm: {{extra: [{words}]}}}}")
    assert text.startswith("s.yaml:2:") and f": resources.slurm.extra[{place}]: {why}" in text and "\n" not in text


def test_what_they_take_is_loaded(tmp_path: Path) -> None:
    fit = "[--exclude=node7, -x, n7, --exclude, n7, -xn7, --hold, --nodelist=n1, --error=e, -c4, --gres, gpu:1, -H]"
    fit = fit.replace("]", ", -Hv, -pWn]")
    (tmp_path / "s.yaml").write_text(
        f"study: s\nresources: {{slurm: {{extra: {fit}}}, ray: {{resources: {{a: 0, b: 0.5, c: 3}}}}}}\n"
    )
    resources = load_study(tmp_path / "s.yaml").resources
    assert len(resources.slurm.extra) == 15 and resources.ray.resources == {"a": 0, "b": 0.5, "c": 3}


def told(folder: Path, text: str) -> Connection:
    log = (folder / "log").open("a+")
    log.write(text)
    log.flush()
    return Connection("h:1", log)


def test_an_error_of_a_cluster_that_has_answered_is_none_of_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: SimpleNamespace(poll=lambda: 2))
    error = '{"error": "ValueError: of the worker"}\n'
    with pytest.raises(HarnessError, match=r"^Ray refuses the connection to h:1 \(ValueError: of the worker\)"):
        told(tmp_path, error).answer()
    (tmp_path / "log").unlink()
    connection = told(tmp_path, '{"nodes": []}\n' + error)
    assert connection.answer() == {"nodes": []}
    with pytest.raises(HarnessError, match=r"^Ray at h:1 starts no workers \(ValueError: of the worker\)"):
        connection.answer()


DRIVER = """
import os
for number in range(20_000):
    os.write(1, b'{"number": %d}' % number)
    os.write(2, b"\\n")
"""


def test_no_answer_is_lost_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver writes, in pieces, into the file that is read meanwhile."""
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", DRIVER], **options))
    with tempfile.TemporaryFile("w+") as log:
        connection = Connection("h:1", log)
        while connection.process.poll() is None:
            connection._text()
        text = connection._text()
    assert text == "".join(f'{{"number": {number}}}\n' for number in range(20_000))
