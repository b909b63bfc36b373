"""Which slot a run gets, and what the end of a run says about its device."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.runs.record import SETTLED, Run, Status
from harness.scheduler.attempt import Attempt, End
from harness.scheduler.failures import POLICIES, is_mps_unusable, may_be_of_neighbours
from harness.scheduler.gpus import card_of, cards
from harness.scheduler.memory import GpuMemory
from harness.scheduler.mps import Mps
from harness.scheduler.slots import CPU, Slot, free_slot, slot_of_its_own
from harness.text import listed

FAULTS = 2
"""So many runs in a row that end with a fault of their GPU close it: it would go on to swallow runs, free at once."""
Beside = Mapping[Slot, tuple[Run, Status]]
"""The runs that are under way, by slot."""
_log = logging.getLogger(__name__)


class Devices:
    """The slots on devices that work."""

    def __init__(self, slots: Sequence[Slot], memory: GpuMemory | None = None) -> None:
        """`memory`: decides how many runs share a GPU; None: as many as it has slots."""
        self.open = tuple(slots)
        self._memory, self._mps = memory, Mps((), 0.0)
        self._faults: Counter[str] = Counter()
        self._last_fault: dict[str, float] = {}
        self._faulty: dict[str, str] = {}
        self._alone: set[str] = set()
        self._without_mps: set[str] = set()
        self._exclusive: set[str] = set()

    @property
    def shared(self) -> list[str]:
        """The GPUs with several slots."""
        counts = Counter(slot.device for slot in self.open if slot.device != CPU)
        return [device for device, count in counts.items() if count > 1]

    def share_by(self, mps: Mps) -> None:
        """Say how GPUs are shared. One that takes a single process gets one run at a time, unless MPS serves it."""
        self._mps = mps
        if mps.reason:
            _log.info("%s", mps.reason)
        states = cards() if self.shared else {}
        cards_of = {device: card_of(device, states) for device in self.shared}
        self._exclusive = {device for device, card in cards_of.items() if card is not None and card.is_exclusive}
        for device in self._exclusive:
            if not mps.serves(device):
                first = next(slot for slot in self.open if slot.device == device)
                self.open = tuple(slot for slot in self.open if slot.device != device or slot == first)
                _log.warning("%s: 1 run at a time: its compute mode lets one process have it (nvidia-smi -c)", device)

    def slot_for(self, run: Run, beside: Beside) -> Slot | None:
        """A free slot for the run, if there is one, on a GPU that has room for it."""
        slot = slot_of_its_own(self.open, beside) if run.id in self._alone else self._slot_beside(run, beside)
        if slot is None or run.id in self._without_mps:
            return slot
        return replace(slot, mps=self._mps.environment(slot.device))

    def _slot_beside(self, run: Run, beside: Beside) -> Slot | None:
        closed = [slot for slot, (other, _) in beside.items() if other.id in self._alone]
        steady = {slot: self._has_shown(*other) for slot, other in beside.items()}
        while slot := free_slot(self.open, steady, closed, self._faulty.get(run.id, "")):
            here = [other for used, other in beside.items() if used.device == slot.device]
            if self._memory is None or slot.device == CPU or self._memory.has_room(run, slot.device, here):
                return slot
            closed.append(slot)
        return None

    def _has_shown(self, run: Run, status: Status) -> bool:
        """Whether it is known what memory a run will need. A script never shows it, so nothing waits for that."""
        if self._memory is not None and run.cell in self._memory.held:
            return True
        return bool(status.images_per_s or run.settings.command.run)

    def in_words(self, device: str) -> str:
        """How runs share a device; empty where each has it to itself."""
        if device not in self.shared:
            return ""
        count = sum(slot.device == device for slot in self.open)
        how = "as memory allows" if self._memory is not None else "as asked for"
        return f"up to {count} runs at a time, {how}, {'by MPS' if self._mps.serves(device) else 'in turns'}"

    def learn(self, beside: Beside) -> None:
        """Note what runs hold of their GPUs; the first that shows it is told."""
        memory = self._memory
        for slot, (run, status) in beside.items() if memory is not None else ():
            assert memory is not None
            is_first = not memory.held
            if memory.learn(run, status) and is_first:
                most = sum(other.device == slot.device for other in self.open)
                held, need = status.memory_mib / 1024, memory.held[run.cell].need_mib / 1024
                text = f"{run.cell} seed {run.seed} holds {held:.1f} GiB of {slot.device}"
                _log.info("%s: with %.1f GiB a run as many join it as fit, %d at most", text, need, most)

    # What the end of a run says.

    def judge(self, active: Attempt, end: End, beside: Beside) -> End:
        """How an attempt ended, seen beside the others on its device; from now on the device is used accordingly."""
        run, device = active.run, active.slot.device
        here, text = sum(slot.device == device for slot in beside), end.log or end.error
        is_served = bool(active.slot.mps) or (self._mps.serves(device) and not self._mps.environment(device))
        if is_served and end.failure in ("code", "device") and may_be_of_neighbours(text):
            if end.failure == "code" and run.id not in self._alone:
                end = replace(end, failure="device", error=f"under MPS, perhaps by another run's fault: {end.error}")
            self._set_apart(run, active.slot)
        fault = end.failure == "device"
        if fault:
            self._faulty[run.id] = device
        if end.failure == "out_of_memory" and here:
            self._take_away(active.slot, here)
        if end.failure and POLICIES[end.failure].alone:
            self._alone.add(run.id)
        if active.slot.mps and is_mps_unusable(text) and self._mps.give_up(device):
            _log.warning("%s: MPS does not serve runs there, which take turns from now on", device)
        elif fault or end.state in SETTLED:
            self._note_end(active, fault)
        return end

    def _set_apart(self, run: Run, slot: Slot) -> None:
        """Where faults of others cannot reach it: without MPS or, where a GPU cannot do without, without others."""
        if slot.mps and slot.device not in self._exclusive:
            self._without_mps.add(run.id)
        else:
            self._alone.add(run.id)

    def _take_away(self, slot: Slot, others: int) -> None:
        """A slot of a device that had no memory for it."""
        left = sum(other.device == slot.device for other in self.open if other != slot)
        if left and slot in self.open:
            self.open = tuple(other for other in self.open if other != slot)
            text = f"{slot.device}: out of memory with {others + 1} runs at a time"
            _log.warning("%s; at most %d from now on, and the run is tried again by itself", text, left)

    def _note_end(self, active: Attempt, fault: bool) -> None:
        """Close a device that was at fault twice in a row; runs that were under way at a fault died of the same one."""
        device = active.slot.device
        if not fault or device == CPU:
            del self._faults[device]
            return
        if active.began < self._last_fault.get(device, -math.inf):
            return
        self._last_fault[device] = time.monotonic()
        self._faults[device] += 1
        if self._faults[device] < FAULTS:
            return
        if self._mps.give_up(device):
            self._faults[device] = 0
            _log.warning("%s: %d faults in a row under MPS; runs there take turns from now on", device, FAULTS)
            return
        before = self.open
        self.open = tuple(slot for slot in before if slot.device != device)
        if self.open != before:
            message = f"{device} is closed: {FAULTS} runs in a row met a fault of it (nvidia-smi, dmesg)"
            left = list(dict.fromkeys(slot.device for slot in self.open))
            _log.warning("%s; %s", message, f"runs go on with {listed(left)}" if left else "no device is left")
