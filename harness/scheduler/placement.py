"""Which free slot a run gets, and which devices get none any more. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from harness.scheduler.slots import CPU, Slot, free_memory

FAULTS = 2
"""So many runs in a row that end with a fault of their GPU close it: it would go on to swallow runs, free at once."""


class Devices:
    """The slots on devices that work."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.open = tuple(slots)
        self._faults: Counter[str] = Counter()

    def tell(self, device: str, *, fault: bool) -> bool:
        """A run has ended there, with a fault of the device or well; whether that closes the device."""
        if not fault or device == CPU:
            del self._faults[device]
            return False
        self._faults[device] += 1
        was_open = any(slot.device == device for slot in self.open)
        if self._faults[device] >= FAULTS:
            self.open = tuple(slot for slot in self.open if slot.device != device)
        return was_open and self._faults[device] >= FAULTS


def free(
    slots: Sequence[Slot], used: Mapping[Slot, bool], reserved: Collection[Slot], avoided: str = ""
) -> Slot | None:
    """A free slot on the least busy device, none on those of reserved slots.

    `used`: slot -> whether its run has taken its first steps. Until then nothing joins it on a GPU: how much memory it
    needs has not been seen. `avoided`: the device that comes last, since this run has met a fault there.
    """
    busy = Counter(slot.device for slot in used)
    closed = {slot.device for slot in reserved}
    closed |= {slot.device for slot, steady in used.items() if not steady and slot.device != CPU}
    left = [slot for slot in slots if slot not in used and slot.device not in closed]
    return min(left, key=lambda slot: (slot.device == avoided, busy[slot.device], slot.index), default=None)


def alone(slots: Sequence[Slot], used: Collection[Slot]) -> Slot | None:
    """A slot of a device that no run of ours is on, the one with the most free memory."""
    busy = {slot.device for slot in used}
    left = [slot for slot in slots if slot.device not in busy]
    if len({slot.device for slot in left}) < 2:
        return next(iter(left), None)
    memory = free_memory()
    return max(left, key=lambda slot: (memory.get(slot.device, 0), -slot.index))
