"""Stand-ins for nvidia-smi and nvidia-cuda-mps-control, as executables; what they are asked is in the file `asked`."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil
import pytest

import fakes
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck
from harness.scheduler.memory import CONTEXT_MIB
from harness.scheduler.slots import Slot

NVIDIA = "nvidia"
"""The folder of the stand-ins, beside that of the runs."""
_SMI = """#!/bin/sh
case "$1" in
-L) cat "{state}/listing" ;;
-q) cat "{state}/xml" ;;
--query-gpu*)
  while IFS=, read -r index uuid total mode mig; do
    free=$total
    for file in "{state}/held/$uuid."*; do
      pid=${{file##*.}}
      [ -d "/proc/$pid" ] && free=$((free - $(cat "$file")))
    done
    [ "$mig" = Enabled ] && free="[N/A]"
    echo "$uuid, $free, $total, $mode, $mig"
  done <"{state}/cards" ;;
*) exit 2 ;;
esac
"""
_MPS = """#!/bin/sh
pipe=${{CUDA_MPS_PIPE_DIRECTORY:-{state}/nobody}}
daemon=$(cat "$pipe/nvidia-cuda-mps-control.pid" 2>/dev/null)
case "$1" in
-d)
  echo "start $CUDA_VISIBLE_DEVICES" >>"{state}/asked"
  [ -e "{state}/broken" ] && {{ echo "the driver says no" >"$CUDA_MPS_LOG_DIRECTORY/control.log"; exit 1; }}
  setsid "$0" daemon </dev/null >/dev/null 2>&1 &
  echo $! >"$pipe/nvidia-cuda-mps-control.pid" ;;
daemon)
  while [ ! -e "$pipe/quit" ]; do sleep 0.05; done
  kill "$(cat "$pipe/server")"
  rm -f "$pipe/nvidia-cuda-mps-control.pid" ;;
server) while :; do sleep 0.5; done ;;
*)
  read -r line
  [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null || {{ echo "Cannot find MPS control daemon process"; exit 1; }}
  echo "$line" >>"{state}/asked"
  case "$line" in
  start_server*)
    [ -e "{state}/serverless" ] && exit 0
    setsid "$0" server </dev/null >/dev/null 2>&1 &
    echo $! >"$pipe/server" ;;
  get_server_list) cat "$pipe/server" 2>/dev/null || : ;;
  quit*) [ -e "{state}/deaf" ] || touch "$pipe/quit" ;;
  esac ;;
esac
"""


class Nvidia:
    """A machine with GPUs, as far as its tools tell."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, cards: dict[str, int], **options: str) -> None:
        """`cards`: UUID -> MiB. `options`: `mode` of computing, `listing` and `xml` in the place of the usual ones."""
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        (folder / "held").mkdir()
        (folder / "asked").touch()
        rows = [
            f"{index},{uuid},{total},{options.get('mode', 'Default')},{'Enabled' if 'xml' in options else 'Disabled'}\n"
            for index, (uuid, total) in enumerate(cards.items())
        ]
        names = [f"GPU {index}: NVIDIA H100 80GB HBM3 (UUID: {uuid})\n" for index, uuid in enumerate(cards)]
        for name, text in (("cards", "".join(rows)), ("listing", options.get("listing", "".join(names)))):
            (folder / name).write_text(text)
        (folder / "xml").write_text(options.get("xml", ""))
        self.add("nvidia-smi", _SMI)
        monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
            monkeypatch.delenv(name, raising=False)

    def add(self, name: str, text: str) -> None:
        tool = self.folder / "bin" / name
        tool.write_text(text.format(state=self.folder))
        tool.chmod(0o755)

    def with_mps(self) -> Nvidia:
        self.add("nvidia-cuda-mps-control", _MPS)
        return self

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()

    @property
    def mps_processes(self) -> list[int]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_ours = any(str(self.folder / "bin" / "nvidia-cuda-mps") in word for word in process.cmdline())
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def use(self, uuid: str, mib: int) -> None:
        """This process takes so much of a GPU, as that of somebody else would."""
        (self.folder / "held" / f"{uuid}.{os.getpid()}").write_text(str(mib))


def act(folder: Path, slot: Slot, claim: ClaimCheck) -> None:
    """A run whose cell, such as `even-3000-4`, tells how many MiB it takes and after how many starts of runs it ends.

    It fails as CUDA does where these are not there. `wrong-...` makes a fault, which under MPS ends all others.
    """
    name, size, starts = RunFolder(folder).run().cell.split("-")
    state = folder.parent.parent / NVIDIA
    files = [file for file in (state / "held").glob(f"{slot.device}.*") if psutil.pid_exists(int(file.suffix[1:]))]
    held = [int(file.read_text()) for file in files]
    total = next(int(row.split(",")[2]) for row in (state / "cards").read_text().split() if slot.device in row)
    with (folder / "calls").open("a") as file:
        file.write(f"{len(held)} {os.environ.get('CUDA_MPS_PIPE_DIRECTORY', 'turns')}\n")
    taken = int(size) + CONTEXT_MIB
    if sum(held) + taken > total:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    (state / "held" / f"{slot.device}.{os.getpid()}").write_text(str(taken))
    RunFolder(folder).update(step=1, total_steps=fakes.TOTAL_STEPS, images_per_s=1.0, memory_mib=float(size))
    while sum(map(fakes.calls, folder.parent.iterdir())) < int(starts):
        time.sleep(0.02)
        if slot.mps and (state / "fault").exists():
            raise RuntimeError("CUDA error: unspecified launch failure in the MPS server")
    if name == "wrong":
        (state / "fault").touch()
        time.sleep(0.2 if slot.mps else 0)
        raise RuntimeError("CUDA error: device-side assert triggered")
    fakes.finish(folder)
