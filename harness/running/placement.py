"""Which free slot a run gets. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from harness.running.slots import CPU, Slot, free_memory


def free(slots: Sequence[Slot], used: Mapping[Slot, bool], reserved: Collection[Slot]) -> Slot | None:
    """A free slot on the least busy device, none on those of reserved slots.

    `used`: slot -> whether its run has taken its first steps. Until then nothing joins it on a GPU: how much memory it
    needs has not been seen.
    """
    busy = Counter(slot.device for slot in used)
    closed = {slot.device for slot in reserved}
    closed |= {slot.device for slot, steady in used.items() if not steady and slot.device != CPU}
    left = [slot for slot in slots if slot not in used and slot.device not in closed]
    return min(left, key=lambda slot: (busy[slot.device], slot.index), default=None)


def alone(slots: Sequence[Slot], used: Collection[Slot]) -> Slot | None:
    """A slot of a device that no run of ours is on, the one with the most free memory."""
    busy = {slot.device for slot in used}
    left = [slot for slot in slots if slot.device not in busy]
    if len({slot.device for slot in left}) < 2:
        return next(iter(left), None)
    memory = free_memory()
    return max(left, key=lambda slot: (memory.get(slot.device, 0), -slot.index))
