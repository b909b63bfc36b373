"""What records and replays what a device is asked for: CUDA's graphs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch

from harness.processes import no_collection


class Recorder(Protocol):
    """What records on a device."""

    measures: bool
    """Whether a part that gains nothing by it is taken by its function."""

    def generator(self) -> torch.Generator:
        """A random stream that a recorded part may draw from."""

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], object]:
        """What does again all that `work` asks the device for. The work itself is not done. Raises RuntimeError."""

    def mark(self) -> Any:
        """A moment in the device's time."""

    def ms(self, begin: Any, end: Any) -> float | None:
        """Milliseconds between two moments; None while the device has not come to them."""

    def is_short(self) -> bool:
        """Whether what is computed beside recorded parts may find no memory."""

    def release(self) -> None:
        """The memory of all that was recorded, none of which is replayed any more."""


class CudaRecorder:
    """CUDA's own graphs, which share their memory."""

    def __init__(self, measures: bool) -> None:
        self.measures = measures
        self._pool: Any = None

    def generator(self) -> torch.Generator:
        return torch.Generator("cuda")

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], object]:
        graph, self._pool = torch.cuda.CUDAGraph(), self._pool or torch.cuda.graph_pool_handle()
        for generator in generators:
            graph.register_generator_state(generator)
        # The thread that reads batches pins memory meanwhile, which is no part of this.
        gc.collect()  # a graph of another part, long forgotten, that is taken down meanwhile would break the recording
        with no_collection(), torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        replay: Callable[[], object] = graph.replay
        return replay

    def mark(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def ms(self, begin: Any, end: Any) -> float | None:
        return float(begin.elapsed_time(end)) if end.query() else None

    def is_short(self) -> bool:
        free, whole = torch.cuda.mem_get_info()
        return free * 2 < whole

    def release(self) -> None:
        self._pool = None
        gc.collect()
        torch.cuda.empty_cache()


def recorder(device: torch.device, graphs: Literal["auto", "on", "off"]) -> Recorder | None:
    """What `train.graphs` asks for on this device; None: nothing is recorded."""
    return CudaRecorder(graphs == "auto") if device.type == "cuda" and graphs != "off" else None
