"""A real Slurm cluster of two nodes on this machine, on loopback alone, without systemd, cgroups or a database.

Each cluster has its own folder and ports, so that several can run at once. What it starts it ends by process id.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from waiting import until

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
PACKAGES = "slurmctld slurmd slurm-client munge"
NODES = ("n1", "n2")
KILL_WAIT_S = 20
REQUEUE_S = 120
"""Slurm lets a job that was queued again wait until the credential of its last start has run out."""
_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
MailProg=/bin/true
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire={requeue_s}
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=0
MaxArraySize=1001
KillWait={kill_wait_s}
OverTimeLimit=0
SlurmctldTimeout=30
SlurmdTimeout={node_silent_s}
MessageTimeout=10
ReturnToService=2
GresTypes=gpu
PropagateResourceLimits=NONE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=60 DefaultTime=10 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=closed Nodes=ALL MaxTime=60 State=DOWN
"""
_GRES = "NodeName=n[1-2] Name=gpu File=/dev/null\nNodeName=n[1-2] Name=gpu File=/dev/zero\n"
"""GPUs that are none: Slurm asks for character devices."""


def missing() -> str:
    """What is not on this machine, and how to get it; empty if nothing is."""
    absent = [name for name in PROGRAMS if not (shutil.which(name) or Path("/usr/sbin", name).exists())]
    return f"no {', '.join(absent)}: apt-get install --no-install-recommends {PACKAGES}" if absent else ""


class SlurmCluster:
    """Its programs, by name: munged, slurmctld and the nodes n1 and n2."""

    def __init__(self, folder: Path, *, requeue_s: int = REQUEUE_S, node_silent_s: int = 30) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool-n1", "spool-n2", "log"):
            (folder / name).mkdir(parents=True)
        for path in (folder, folder / "log"):
            path.chmod(0o755)
        (folder / "munge.key").touch(0o600)
        (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        conf = _CONF.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            user=pwd.getpwuid(os.getuid()).pw_name,
            ports=_free_ports(3),
            requeue_s=requeue_s,
            node_silent_s=node_silent_s,
            kill_wait_s=KILL_WAIT_S,
        )
        (folder / "slurm.conf").write_text(conf)
        (folder / "gres.conf").write_text(_GRES)
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        socket_, key = self.folder / "munge.sock", self.folder / "munge.key"
        self.begin(
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_}", "--num-threads=2"),
            *(f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munge.seed"),
            f"--log-file={self.folder}/log/munged.log",
        )
        until(socket_.exists, "munged listens")
        self.begin_controller()
        for name in NODES:
            self.begin_node(name)
        self.until_idle(*NODES)

    def begin(self, name: str, *arguments: str) -> None:
        program = "slurmd" if name in NODES else name
        words = [shutil.which(program) or f"/usr/sbin/{program}", *arguments]
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes[name] = process

    def begin_controller(self) -> None:
        self.begin("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))

    def begin_node(self, name: str) -> None:
        self.begin(name, "-D", "-N", name, "-f", str(self.folder / "slurm.conf"))

    def ask(self, *words: str) -> str:
        """What a program of Slurm prints, errors too, however it ends."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Of one program alone: a node's jobs live on."""
        process = self.processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill_node(self, name: str) -> None:
        """As if its power had gone: slurmd, and all that runs there, without a chance to write anything."""
        self.end(name, signal.SIGKILL)
        self.kill_jobs(name)

    def kill_jobs(self, *nodes: str) -> None:
        """SIGKILL to all that runs on these nodes for jobs."""
        doomed = [process for name in nodes for step in self._steps(name) for process in _with_children(step)]
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, 10)

    def cancel_all(self) -> None:
        """Of all jobs nothing is left, and all nodes are free."""
        self.ask("scancel", f"--user={pwd.getpwuid(os.getuid()).pw_name}")
        until(lambda: not self.ask("squeue", "-h"), "no jobs are left")
        self.until_idle(*NODES)

    def until_idle(self, *nodes: str) -> None:
        until(lambda: {*self.ask("sinfo", "-hN", "-pmain", "-tidle", "-o%N").split()} >= {*nodes}, f"{nodes} are idle")

    def _steps(self, node: str) -> list[psutil.Process]:
        """The processes that look after jobs of a node."""
        log = str(self.folder / "log" / f"{node}.log")
        named = psutil.process_iter(["name"])  # empty for one that ends meanwhile
        return [each for each in named if each.info["name"] == "slurmstepd" and _has_open(each, log)]

    def stop(self) -> None:
        if "slurmctld" in self.processes and "UP" in self.ask("scontrol", "ping"):
            self.ask("scancel", f"--user={pwd.getpwuid(os.getuid()).pw_name}")
        for name in [name for name in (*NODES, "slurmctld") if name in self.processes]:
            self.end(name)
        self.kill_jobs(*NODES)
        if "munged" in self.processes:
            self.end("munged")


@contextmanager
def slurm_cluster(folder: Path, *, requeue_s: int = REQUEUE_S, node_silent_s: int = 30) -> Iterator[SlurmCluster]:
    """A cluster that has started, and that is ended afterwards."""
    cluster = SlurmCluster(folder, requeue_s=requeue_s, node_silent_s=node_silent_s)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _free_ports(count: int) -> list[int]:
    """Next to each other, and below those that the system gives to connections."""
    for _ in range(100):
        first = 10_000 + secrets.randbelow(20_000)
        ports, held = list(range(first, first + count)), []
        try:
            for port in ports:
                held.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        finally:
            for each in held:
                each.close()
        return ports
    raise OSError("no free ports for a cluster")


def _has_open(process: psutil.Process, path: str) -> bool:
    with suppress(psutil.Error):
        return any(each.path == path for each in process.open_files())
    return False


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []
