"""Workers as jobs of Slurm, by its own programs: one array a submission, whose indices are the workers' numbers.

Nothing here needs Slurm's accounting (`sacct`), which many clusters do not have.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from harness.errors import HarnessError, choices
from harness.executors.executor import NoAnswer, WorkerState
from harness.executors.job import JobFolder
from harness.executors.slurm_script import batch_script, sbatch_options
from harness.executors.slurm_text import NODE_FORMAT, STATE_FORMAT, Partition, partitions, seconds, worker_states
from harness.files import write_text
from harness.finding import Finding
from harness.study.resources import Resources
from harness.text import at_place, duration, quantity, shortened

LOOK_S = 30.0
ANSWER_S = 120.0
"""Seconds after which a program of Slurm has failed."""
SIGNAL_EARLY_S = 60
"""Slurm may send its signal so much earlier than it was asked to."""
INSTALL = "apt-get install slurm-client on a machine of the cluster (slurm on other systems than Debian and Ubuntu)"
_FORGOTTEN = re.compile(r"Invalid job id|already complet", re.IGNORECASE)
"""What is said of jobs that have ended long ago."""
_CONNECTION = re.compile(
    r"contact slurm controller|communication|connection|message|timed out|zero bytes|data received|broken pipe",
    re.IGNORECASE,
)
"""What is said where the controller may have what it was sent; in doubt it has, as a folder too many does no harm."""


class Slurm:
    """The ids of its workers are `<array>_<index>`."""

    name = "slurm"
    look_s = LOOK_S
    outlives_caller = True

    def __init__(self, resources: Resources, places: Mapping[str, str]) -> None:
        """`places`: dotted setting -> where it is written, for messages."""
        self.resources, self.places = resources, places

    def check(self) -> list[Finding]:
        """Its programs, its controller, and whether what is asked for can be had."""
        if shutil.which("sbatch") is None:
            fix = f"go to a machine that submits jobs, or --executor local; {INSTALL}"
            return [Finding("slurm", "this machine has no sbatch", fix)]
        try:
            _ping()
            config = _settings(_answer(["scontrol", "show", "config"]))
            listed = partitions(_answer(["sinfo", "--noheader", f"--format={NODE_FORMAT}"]))
        except HarnessError as error:
            fix = "ask those who run the cluster; SLURM_CONF names its configuration where there are several"
            return [Finding("slurm", str(error), fix)]
        most = int(config.get("MaxArraySize", "1001"))  # the highest index is one less, and the lowest 0
        named = ", ".join(f"{each.name} (default)" if each.is_default else each.name for each in listed)
        version = config.get("SLURM_VERSION", "of unknown version")
        if not most:
            fix = (
                "ask those who run the cluster, or --executor folder: you submit a script with `harness work` yourself"
            )
            return [
                Finding("slurm", f"{version}, which allows no job arrays here (MaxArraySize=0), as workers are", fix)
            ]
        found = Finding("slurm", f"{version}, up to {quantity(most, 'worker')} in one job, partitions {named}")
        return [found, *self._time(), *self._workers(most), *self._partition(listed)]

    def submit(self, job: JobFolder, workers: int) -> tuple[str, ...]:
        """By one call of sbatch."""
        asked = self.resources.slurm
        options = sbatch_options(job, asked, workers)
        script = job.path / "job.sh"
        write_text(script, batch_script(job, asked, options))
        done = _run(["sbatch", *options, str(script)])
        array = re.match(r"\d+", done.stdout)
        if done.returncode == 0 and array:
            return tuple(f"{array[0]}_{index}" for index in range(workers))
        if done.returncode <= 0 or _CONNECTION.search(done.stderr):  # below 0: a signal has ended it
            look = f"`squeue --name={job.title}` shows them"
            raise NoAnswer(f"sbatch does not say whether Slurm has the workers: {_first_line(done)}; {look}")
        raise HarnessError(self._refusal(_first_line(done)))

    def look(self, ids: Sequence[str]) -> dict[str, WorkerState]:
        _ping()
        arrays = sorted({name.partition("_")[0] for name in ids})
        done = _run(
            [
                "squeue",
                "--noheader",
                "--array",
                "--states=all",
                f"--format={STATE_FORMAT}",
                f"--jobs={','.join(arrays)}",
            ]
        )
        if done.returncode and not _FORGOTTEN.search(done.stderr):
            raise HarnessError(f"squeue: {_first_line(done)}")
        wanted = set(ids)
        return {name: state for name, state in worker_states(done.stdout).items() if name in wanted}

    def cancel(self, ids: Sequence[str]) -> None:
        """Slurm sends SIGTERM to all processes of a worker, and SIGKILL after its KillWait."""
        self._signal(ids)

    def save(self, ids: Sequence[str]) -> None:
        """To the batch script alone, which passes it on: other processes of a job might die of it."""
        self._signal(ids, "--batch", "--signal=USR1", "--state=RUNNING")

    def _signal(self, ids: Sequence[str], *options: str) -> None:
        _ping()
        arrays: dict[str, list[str]] = {}
        for name in ids:
            array, _, index = name.partition("_")
            arrays.setdefault(array, []).append(index)
        jobs = [f"{array}_[{','.join(indices)}]" for array, indices in arrays.items()]
        done = _run(["scancel", "--quiet", *options, *jobs])
        # Where no job is in that state it says nothing, and ends with 1.
        if done.returncode and done.stderr.strip() and not _FORGOTTEN.search(done.stderr):
            raise HarnessError(f"scancel: {_first_line(done)}")

    def _time(self) -> Iterator[Finding]:
        asked = self.resources.slurm
        if asked.time is None:
            return
        given, least = seconds(asked.time), asked.signal_s + SIGNAL_EARLY_S
        if given is None:
            fix = 'write minutes, hours:minutes:seconds or days-hours:minutes:seconds, such as "04:00:00"'
            yield Finding(self._place("time"), f"{asked.time!r} is no time that Slurm reads", fix)
        elif 0 < given <= least:  # 0 is the longest that the partition gives
            fix = f"ask for more time, or for a smaller signal_s than {asked.signal_s}"
            detail = f"a worker of {duration(given)} would be stopped as soon as it begins: it is asked to end signal_s"
            yield Finding(self._place("time"), f"{detail} before that, and Slurm may ask a minute earlier", fix)

    def _workers(self, most: int) -> Iterator[Finding]:
        asked = self.resources
        if asked.workers > most:
            fix = f"ask for at most {most:,}: workers take runs until none is left, so fewer do the same work"
            detail = f"{quantity(asked.workers, 'worker')} are more than this Slurm's MaxArraySize allows"
            yield Finding(self._place("workers", ""), detail, fix)

    def _partition(self, listed: Sequence[Partition]) -> Iterator[Finding]:
        """What sbatch would refuse without saying what there is, and what it would take and never start."""
        asked = self.resources.slurm
        for name in asked.partition.split(",") if asked.partition else []:
            found = next((each for each in listed if each.name == name), None)
            if found is None:
                near = choices(name, [each.name for each in listed])
                yield Finding(self._place("partition"), f"no partition {name!r} here{near}", "`sinfo` lists them")
            elif not found.is_up:
                yield Finding(self._place("partition"), f"{name} is closed", "name another, or wait until it is opened")
        of_job = [each for each in listed if each.name in (asked.partition or "").split(",")]
        of_job = of_job or [each for each in listed if each.is_default and not asked.partition]
        given = seconds(asked.time) if asked.time else None
        longest = max((each.longest_s for each in of_job), default=float("inf"))
        if given and given > longest:
            names, give = shortened([each.name for each in of_job]), "gives" if len(of_job) == 1 else "give"
            detail = f"{asked.time} is more than {names} {give}, {duration(longest)}"
            fix = "ask for less: a worker is queued again at the end of its time, so nothing is lost"
            yield Finding(self._place("time"), detail, fix)

    def _refusal(self, message: str) -> str:
        """With the settings that it may be about, and where they are written."""
        asked = self.resources.slurm
        words = {"partition": "partition", "account": "account", "qos": "qos", "feature": "constraint"}
        words |= {"memory": "mem", "time": "time", "option": "extra", "gres": "gpus"}
        about = [key for word, key in words.items() if word in message.lower() and getattr(asked, key)]
        about = about or [
            key for key in ("partition", "gpus", "cpus", "mem", "constraint", "extra") if getattr(asked, key)
        ]
        values = {key: getattr(asked, key) for key in about}
        lines = [
            f"{self._place(key)}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            for key, value in values.items()
        ]
        return "\n".join([f"sbatch refused the workers: {message}", *lines, self._rooms()])

    def _rooms(self) -> str:
        """In words. Raises nothing, which would hide the refusal."""
        try:
            listed = partitions(_answer(["sinfo", "--noheader", f"--format={NODE_FORMAT}"]))
        except HarnessError as error:
            return str(error)
        return f"partitions: {', '.join(map(str, listed))}"

    def _place(self, key: str, section: str = "slurm.") -> str:
        return at_place(f"resources.{section}{key}", self.places)


def _ping() -> None:
    """Raises HarnessError at once where no controller answers; the other programs would try for up to 100 s."""
    done = _run(["scontrol", "ping"])
    if " UP" not in done.stdout:
        raise HarnessError(f"Slurm's controller does not answer: {_first_line(done)}")


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Of a program of Slurm. Raises HarnessError where there is none or no answer."""
    # What Slurm tells a job about itself would make a job of another kind of what is submitted inside one, and its GPUs
    # those of a worker that was granted none; what users set for squeue, scancel and sinfo would leave out jobs.
    told = ("SLURM_", "SLURMD_", "SQUEUE_", "SCANCEL_", "SINFO_")
    hidden = {name for name in os.environ if name.startswith(told)} - {"SLURM_CONF"} | {"SBATCH_WAIT"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise HarnessError(f"{words[0]}: not on this machine; go to one that submits jobs") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(
            f"{words[0]}: no answer within {duration(ANSWER_S)}; see whether `scontrol ping` answers"
        ) from error


def _answer(words: Sequence[str]) -> str:
    done = _run(words)
    if done.returncode:
        raise HarnessError(f"{words[0]}: {_first_line(done)}")
    return done.stdout


def _first_line(done: subprocess.CompletedProcess[str]) -> str:
    """What the program says, in one line, without the stars that Slurm puts around it."""
    lines = [line.strip("* \t") for line in [*done.stderr.splitlines(), *done.stdout.splitlines()]]
    return "; ".join([line for line in lines if line][:3]) or f"ended with {done.returncode}"


def _settings(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}
