"""What Slurm's own programs say of a cluster, and what is refused by it: stand-ins for the programs, no Slurm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.executors.executor import NoAnswer
from harness.executors.slurm import Slurm
from harness.finding import Finding
from harness.study.resources import Resources, SlurmResources
from slurm_jobs import make_folder, slurm

_PROGRAM = """\
#!/bin/sh
case "$*" in
  ping) echo "Slurmctld(primary) at head is UP";;
  "show config") echo "MaxArraySize            = {most}"; echo "SLURM_VERSION           = 22.05.8";;
  --noheader*) echo "main|main*|1:00:00|up|(null)|4|4000";;
esac
"""


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, most: int, workers: int = 1, **asked: Any) -> list[Finding]:
    """As a Slurm of this MaxArraySize, with one partition of an hour, answers."""
    for name in ("sbatch", "scontrol", "sinfo"):
        (folder / name).write_text(_PROGRAM.format(most=most))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return Slurm(Resources(executor="slurm", workers=workers, slurm=SlurmResources(**asked)), {}).check()


def test_an_array_has_as_many_workers_as_its_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = check(tmp_path, monkeypatch, 1)  # index 0 alone
    assert (found.detail, found.fix) == ("22.05.8, up to 1 worker in one job, partitions main (default)", "")
    _, many = check(tmp_path, monkeypatch, 1, workers=2)
    assert many.detail == "2 workers are more than this Slurm's MaxArraySize allows"
    assert many.fix.startswith("ask for at most 1:")


def test_a_slurm_without_arrays_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = check(tmp_path, monkeypatch, 0)
    assert found.detail == "22.05.8, which allows no job arrays here (MaxArraySize=0), as workers are"
    assert "--executor folder" in found.fix


@pytest.mark.parametrize("time", ["0", "00:00:00"])
def test_no_time_of_its_own_is_the_longest_of_the_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time: str
) -> None:
    assert not [each for each in check(tmp_path, monkeypatch, 1001, time=time) if each.fix]
    (short,) = [each for each in check(tmp_path, monkeypatch, 1001, time="1") if each.fix]
    assert short.detail.startswith("a worker of 60 s would be stopped as soon as it begins")


def test_a_controller_that_is_down_is_told_without_stars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stars = "*" * 41
    down = ("Slurmctld(primary) at head is DOWN", stars, "** RESTORE SLURMCTLD DAEMON TO SERVICE **", stars)
    monkeypatch.setattr(f"{__name__}._PROGRAM", "#!/bin/sh\nprintf '%s\\n' " + " ".join(f"'{line}'" for line in down))
    (found,) = check(tmp_path, monkeypatch, 1001)
    assert found.detail.endswith(
        "does not answer: Slurmctld(primary) at head is DOWN; RESTORE SLURMCTLD DAEMON TO SERVICE"
    )


def submitting(folder: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str, sinfo: str) -> HarnessError:
    """What is raised where these are what the programs do."""
    for name, does in (("sbatch", sbatch), ("sinfo", sinfo)):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    with pytest.raises(HarnessError) as raised:
        slurm(extra=("--tyme=3",)).submit(make_folder(folder), 2)
    return raised.value


@pytest.mark.parametrize(
    "sbatch",
    [
        *("kill -TERM $$", "kill -INT $$", "exit 0", "echo the job was put into a queue"),
        *(
            f"echo 'sbatch: error: Batch job submission failed: {why}' >&2; exit 1"
            for why in (
                "Socket timed out on send/recv operation",
                "Unable to contact slurm controller (connect failure)",
                "Zero Bytes were transmitted or received",
                "Message receive failure",
                "Header lengths are longer than data received",
                "Connection reset by peer",
            )
        ),
    ],
)
def test_sbatch_that_lost_its_connection_has_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str
) -> None:
    error = submitting(tmp_path, monkeypatch, sbatch, "exit 1")
    assert isinstance(error, NoAnswer) and "refused" not in str(error)
    assert str(error).endswith("`squeue --name=demo.1` shows them")


@pytest.mark.parametrize(
    ("sinfo", "rooms"),
    [
        ("echo 'main|main*|1:00:00|up|(null)|4|4000'", "partitions: main (nodes of up to 4 cores, 4,000 MB)"),
        ("echo 'sinfo: error: Zero Bytes were received' >&2; exit 1", "sinfo: sinfo: error: Zero Bytes were received"),
        ("", "sinfo: no answer within 2 min"),
    ],
)
def test_a_refusal_stays_one_whatever_sinfo_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sinfo: str, rooms: str
) -> None:
    def late(words: list[str]) -> str:
        raise NoAnswer(rooms)

    if not sinfo:
        monkeypatch.setattr("harness.executors.slurm._answer", late)
    sbatch = """echo "sbatch: unrecognized option '--tyme=3'" >&2; exit 1"""
    error = submitting(tmp_path, monkeypatch, sbatch, sinfo)
    assert not isinstance(error, NoAnswer)
    first, value, last = str(error).splitlines()
    assert first == "sbatch refused the workers: sbatch: unrecognized option '--tyme=3'"
    assert (value, last) == ('resources.slurm.extra: ["--tyme=3"]', rooms)
