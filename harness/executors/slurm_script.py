"""The batch script of a job's workers, and the options that `sbatch` gets with it."""

from __future__ import annotations

import shlex
import signal

from harness.executors.job import JobFolder
from harness.exit_codes import INTERRUPTED, REQUEUE, STOPPED
from harness.study.resources import SlurmResources

NO_FOLDER = 66
"""The script's exit code where a node does not see the job's folder (EX_NOINPUT)."""
SETUP_FAILED = 78
"""The script's exit code where a line of `resources.slurm.setup` has failed (EX_CONFIG)."""
_NUMBER = "$SLURM_ARRAY_TASK_ID"
_SCRIPT = """\
#!/bin/bash
# A worker of the job in this folder. Slurm makes an array of it: the index is the worker's number.
# It was submitted with: sbatch {options}
cd {folder} || {{ echo "harness: $(hostname) does not see this job's folder; put the study where every node does" >&2
  exit {no_folder}; }}
echo "harness: worker {number} on $(hostname), Slurm job ${{SLURM_ARRAY_JOB_ID}}_{number}, \
start $((${{SLURM_RESTART_COUNT:-0}} + 1)), $(date '+%F %T')"

# Slurm asks this script (TERM: end, USR1: checkpoint, USR2: time nearly over), and a shell would die of it.
worker='' asked=''
pass() {{
  asked=$1
  [ -z "$worker" ] || kill -s "$1" "$worker" 2>/dev/null
}}
for name in TERM USR1 USR2; do trap "pass $name" "$name"; done

trap 'echo "harness: a line of resources.slurm.setup has ended with $?; line || true lets it go on" >&2
  exit {setup_failed}' ERR
{setup}
trap - ERR

{variables}
[ "$asked" != TERM ] || exit {interrupted}
start() {{
  {command} &
  worker=$!
}}
start
while :; do
  asked=''
  wait "$worker"
  now=$?
  [ "$now" = 127 ] || code=$now # 127: bash has told it before
  [ -z "$asked" ] || continue # a signal has ended the waiting, not the worker
  [ "$code" = {too_early} ] || break # USR1 came before the worker could heed it
  start
done

# Of this worker alone: the number of the array without an index would queue all workers again.
if [ "$code" = {requeue} ] || [ "$code" = {time_over} ]; then
  echo "harness: the time of this worker is over, it is queued again"
  if scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_{number}"; then
    sleep 60  # until Slurm ends this script
  fi
fi
exit "$code"
"""


def batch_script(job: JobFolder, asked: SlurmResources, options: list[str]) -> str:
    """What each worker runs. `options`: those of `sbatch`, for the reader."""
    words = [f'"{_NUMBER}"' if word == _NUMBER else shlex.quote(word) for word in job.command(_NUMBER)]
    return _SCRIPT.format(
        # A word may have line ends, and no part of it may become a line of the script.
        options=shlex.join([*options, str(job.path / "job.sh")]).replace("\n", "\n# "),
        folder=shlex.quote(str(job.path)),
        no_folder=NO_FOLDER,
        setup_failed=SETUP_FAILED,
        interrupted=INTERRUPTED,
        too_early=STOPPED + signal.SIGUSR1,
        requeue=REQUEUE,
        time_over=STOPPED + signal.SIGUSR2,
        number=_NUMBER,
        setup="\n".join(asked.setup),
        variables="\n".join(f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()),
        command=" ".join(words),
    )


def sbatch_options(job: JobFolder, asked: SlurmResources, workers: int) -> list[str]:
    """What a worker needs, as the study asks for it; then what the harness relies on, which therefore comes last."""
    choices = {
        "--partition": asked.partition,
        "--account": asked.account,
        "--qos": asked.qos,
        "--time": asked.time,
        "--mem": asked.mem,
        "--constraint": asked.constraint,
        "--gres": f"gpu:{asked.gpus}" if asked.gpus else None,
    }
    log = f"{str(job.path).replace('%', '%%')}/{job.log('%a').name}"
    return [
        *(f"{option}={value}" for option, value in choices.items() if value is not None),
        *("--nodes=1", "--ntasks=1", f"--cpus-per-task={asked.cpus}", "--kill-on-invalid-dep=yes"),
        *asked.extra,
        *("--parsable", f"--array=0-{workers - 1}", f"--job-name={job.title}"),
        f"--comment=harness: study {job.read().study.path}, job {job.path.name}; the index is the worker's number",
        *(f"--chdir={job.path}", f"--output={log}"),
        # Without append a worker that starts again would write over its log.
        *("--open-mode=append", "--requeue", f"--signal=B:USR2@{asked.signal_s}", "--export=ALL"),
    ]
