"""The batch script of a worker, run by a shell without Slurm: what comes before the worker can heed anything."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from harness.executors.job import JobFolder
from harness.executors.slurm_script import batch_script
from harness.exit_codes import INTERRUPTED
from harness.study.resources import SlurmResources
from slurm_jobs import events, make_folder
from waiting import until


def start(folder: JobFolder, *setup: str) -> subprocess.Popen[bytes]:
    script = folder.path / "job.sh"
    script.write_text(batch_script(folder, SlurmResources(setup=setup), []))
    told = {**os.environ, "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7"}
    return subprocess.Popen(["bash", script], env=told, stdout=subprocess.DEVNULL)


def test_a_stop_while_the_set_up_runs_starts_no_worker(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    shell = start(folder, "touch begun", "sleep 0.5")
    until((folder.path / "begun").exists, "the set-up runs")
    shell.send_signal(signal.SIGTERM)
    assert shell.wait(20) == INTERRUPTED and events(folder, 0) == []


def test_a_worker_that_dies_of_a_call_for_checkpoints_before_it_could_heed_one_is_started_again(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    young = tmp_path / "young"
    noted = '"$5/events-0.txt"'
    young.write_text(f"#!/bin/sh\necho begin >>{noted}\n[ $(wc -l <{noted}) = 2 ] || kill -USR1 $$\n")
    young.chmod(0o755)
    folder.write(replace(folder.read(), python=str(young)))
    assert start(folder).wait(20) == 0 and events(folder, 0) == ["begin", "begin"]


def test_no_path_and_no_option_becomes_a_line_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "a\ntouch path #").mkdir()
    folder = make_folder(tmp_path / "a\ntouch path #")
    script = folder.path / "job.sh"
    script.write_text(batch_script(folder, SlurmResources(), ["--mail-user=a\ntouch option #"]))
    (folder.path / "end").touch()
    subprocess.run(["bash", script], cwd=tmp_path, env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}, check=True)
    assert events(folder, 0) == ["begin", "end"] and not {"path", "option"} & {*os.listdir(tmp_path)}
    assert not {"path", "option"} & {*os.listdir(folder.path)}
