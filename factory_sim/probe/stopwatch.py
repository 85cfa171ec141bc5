"""Timing batches of calls, on the processor or on a CUDA device.

On CUDA the calls are captured in a graph and replayed between two events, as serving engines
replay theirs, so that the time is the device's and not that of launching from Python.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from factory_sim.probe.device import Lap

Launch = Callable[[], Callable[[], float]]
"""Start a batch; what it returns waits for the end and tells the seconds the device took."""

MOST_NODES = 2048
"""Calls in one CUDA graph: enough to hide the start of its replay, few enough to capture soon."""

TRIAL = 4
"""Calls that the number in a batch is estimated from, after one that warms up."""


class Stopwatch(Protocol):
    """Runs calls of a lap, one copy after the other, and tells how long they took."""

    def trial_s(self, lap: Lap) -> float:
        """Return the seconds of one call, roughly, once everything is warm.

        Always by the same number of calls: processes that reduce together would otherwise part.
        """

    def batches(self, lap: Lap, calls: int) -> Launch:
        """Return how to run a batch of so many calls, again and again."""


class HostWatch:
    """Calls one after another, timed by the processor's clock."""

    def trial_s(self, lap: Lap) -> float:
        """See `Stopwatch.trial_s`."""
        self.batches(lap, 1)()()
        return self.batches(lap, TRIAL)()() / TRIAL

    def batches(self, lap: Lap, calls: int) -> Launch:
        """See `Stopwatch.batches`."""
        around = itertools.cycle(lap)

        def launch() -> Callable[[], float]:
            start_s = time.perf_counter()
            for call in itertools.islice(around, calls):
                call()
            took_s = time.perf_counter() - start_s
            return lambda: took_s

        return launch


class CudaWatch:
    """Calls captured in a CUDA graph, timed by events on the stream that replays it."""

    def trial_s(self, lap: Lap) -> float:
        """See `Stopwatch.trial_s`. Launched call by call: an upper bound for short ones.

        The first run is on a side stream, as PyTorch's notes on CUDA graphs ask for.
        """
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for call in itertools.islice(itertools.cycle(lap), TRIAL):
                call()
        torch.cuda.current_stream().wait_stream(side)
        started, ended = _event(), _event()
        started.record()
        for call in itertools.islice(itertools.cycle(lap), TRIAL):
            call()
        ended.record()
        ended.synchronize()
        return 1e-3 * float(started.elapsed_time(ended)) / TRIAL

    def batches(self, lap: Lap, calls: int) -> Launch:
        """See `Stopwatch.batches`. The batch is a whole number of replays of one graph."""
        graph: Any = torch.cuda.CUDAGraph()
        replays = math.ceil(calls / MOST_NODES)
        inside = math.ceil(calls / replays)
        # Other threads (NCCL's watchdog) may talk to the driver while this one captures.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for call in itertools.islice(itertools.cycle(lap), inside):
                call()

        def launch() -> Callable[[], float]:
            started, ended = _event(), _event()
            started.record()
            for _ in range(replays):
                graph.replay()
            ended.record()

            def wait() -> float:
                ended.synchronize()
                return 1e-3 * float(started.elapsed_time(ended)) * calls / (inside * replays)

            return wait

        return launch


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)
