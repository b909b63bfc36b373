"""What Slurm's own programs say of a cluster, and what is refused by it: stand-ins for the programs, no Slurm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.executors.slurm import Slurm
from harness.finding import Finding
from harness.study.resources import Resources, SlurmResources

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
