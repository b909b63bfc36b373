"""The page on clusters, where workers are started by other means: its commands are run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.executors.job import JobFolder
from harness.runs.folders import RunFolder
from test_grid import STUDY, environment, harness

PAGE = (Path(__file__).parent.parent / "docs" / "clusters.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Kubernetes, PBS and ssh")[2]
RUNS = 3


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    """A job that the page's command has made, in the folder of its study."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yaml").write_text(STUDY)
    (command,) = re.findall(r"^    \$ harness (run-grid .*)$", SECTION, re.MULTILINE)
    done = harness(folder, *command.split())
    assert done.returncode == 0, done.stderr
    path = folder / "runs" / "tiny" / ".jobs" / "1"
    assert done.stdout == f"harness work {path}\n"
    return JobFolder(path)


def there(text: str, job: JobFolder) -> str:
    """What the page says, with this study in the place of its own."""
    folder = job.root.parent.parent
    return text.replace("/data/study", str(folder)).replace("runs/emoji/.jobs/3", str(job.path.relative_to(folder)))


def block(kind: str, what: str) -> str:
    (found,) = (
        text for text in re.findall(rf"^```{kind}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL) if what in text
    )
    return str(found)


def programs(folder: Path) -> str:
    """A folder for PATH, with `harness` as it is here and a stand-in for ssh."""
    folder.mkdir()
    (folder / "harness").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m harness "$@"\n')
    (folder / "ssh").write_text('#!/bin/sh\necho "$1" >>"$0.hosts"\nexec bash -c "$2"\n')
    for path in folder.iterdir():
        path.chmod(0o755)
    return str(folder)


def start(words: list[str], job: JobFolder, path: str, **variables: str) -> subprocess.Popen[str]:
    base = environment()
    base |= {"PATH": f"{path}:{base['PATH']}", "PYTHONPATH": str(Path(__file__).parent.parent), **variables}
    where = job.root.parent.parent
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=where, env=base, stdout=pipe, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_an_indexed_job_of_kubernetes_and_then_pbs_and_ssh(job: JobFolder, tmp_path: Path) -> None:
    path = programs(tmp_path / "bin")
    wanted: dict[str, Any] = YAML(typ="safe").load(there(block("yaml", "kind: Job"), job))
    spec = wanted["spec"]
    assert (wanted["apiVersion"], spec["completionMode"]) == ("batch/v1", "Indexed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "as a limit for each index demands"
    (container,) = spec["template"]["spec"]["containers"]
    assert container["workingDir"] == str(job.root.parent.parent)
    assert {each["name"] for each in container["volumeMounts"]} == {
        each["name"] for each in spec["template"]["spec"]["volumes"]
    }
    # The first two of its pods at once.
    pods = [start(container["command"], job, path, JOB_COMPLETION_INDEX=str(index)) for index in (0, 1)]
    for index, pod in enumerate(pods):
        told, _ = pod.communicate(timeout=240)
        assert pod.returncode == 0 and f"worker {index} of tiny.1: " in told, told
    assert [worker.number for worker in job.workers()] == [0, 1]
    runs = [RunFolder(folder.parent) for folder in job.root.glob("*/run.json")]
    assert len(runs) == RUNS and {(run.status().state, run.status().attempt) for run in runs} == {("done", 1)}
    assert (job.root.parent.parent / "reports" / "tiny" / "report.md").exists() and job.is_over
    # A pod that is started again keeps its number.
    again = start(container["command"], job, path, JOB_COMPLETION_INDEX="1")
    assert "worker 1 of tiny.1: " in again.communicate(timeout=240)[0] and len(job.workers()) == 2
    script = tmp_path / "job.pbs"
    script.write_text(there(block("bash", "#PBS"), job))
    of_array = start(["bash", str(script)], job, path, PBS_ARRAY_INDEX="3")
    told = of_array.communicate(timeout=240)[0]
    assert of_array.returncode == 0 and "worker 3 of tiny.1: " in told and "it started 0 runs" in told, told
    loop = start(["bash", "-c", there(block("bash", "ssh "), job) + "\nwait"], job, path)
    assert loop.communicate(timeout=240)[0] == "" and loop.returncode == 0
    assert (tmp_path / "bin" / "ssh.hosts").read_text().split() == ["gpu1", "gpu2"]
    assert [worker.number for worker in job.workers()] == [0, 1, 2, 3, 4]
    for host in ("gpu1", "gpu2"):
        assert "it started 0 runs" in (job.root.parent.parent / f"worker-{host}.log").read_text()
