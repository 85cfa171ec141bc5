"""Who does the runs: this process, a pool of processes, or the workers of a Dask cluster.

Outcomes come in any order, each with the place of its task, and are the same from every crew.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from multiprocessing.context import BaseContext
from typing import Any, Protocol

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.task import Failed, Outcome, Task, execute

DIED = "the worker process died each time it was tried: out of memory, or killed"

Do = Callable[[Task], Outcome]

PATIENCE_S = 10.0
"""How long a scheduler may take to answer."""

DESERTED_S = 300.0
"""How long a cluster that had workers may be without any."""


class Crew(Protocol):
    """Does tasks."""

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Yield the place of each task and its outcome, as they end."""
        ...


@contextlib.contextmanager
def crew_of(workers: int | None = None, dask: Any = None) -> Iterator[Crew]:
    """Lend a crew of so many processes (one: this one; by default one for each core) or a cluster.

    dask: the address of its scheduler, the cluster as an object, or a `distributed.Client`.

    Raises InputError for a cluster that cannot be reached.
    """
    if dask is not None:
        if workers is not None:
            raise InputError(Problem("--workers", "a cluster has workers of its own; leave it out"))
        with client_of(dask) as client:
            yield Cluster(client)
        return
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield Alone()
        return
    with Pool(workers) as pool:
        yield pool


class Alone:
    """This process does one after the other."""

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Yield the place of each task and its outcome, in order."""
        yield from ((place, execute(task)) for place, task in enumerate(tasks))


class Pool:
    """Processes on this machine, which end with the `with` that the pool is used in.

    When one dies, nobody knows at which run: those in hand are tried again, each by a process of
    its own. Only one that then kills that too has failed.
    """

    def __init__(self, workers: int, do: Do = execute) -> None:
        self.workers = workers
        self._do = do
        self._pool = _processes(workers)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Yield the place of each task and its outcome, as they end."""
        waiting = deque(range(len(tasks)))
        running: dict[Future[Outcome], int] = {}
        while waiting or running:
            with contextlib.suppress(BrokenExecutor):  # those in hand will say so too
                while waiting and len(running) < 2 * self.workers:
                    future = self._pool.submit(self._do, tasks[waiting[0]])
                    running[future] = waiting.popleft()
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            suspects = []
            for future in ended:
                place = running.pop(future)
                try:
                    yield place, future.result()
                except BrokenExecutor:
                    suspects.append(place)
            if suspects or not (ended or running):
                suspects += running.values()
                running.clear()
                self._pool.shutdown(cancel_futures=True)
                self._pool = _processes(self.workers)
                yield from ((place, self._tried(tasks[place])) for place in sorted(suspects))

    def _tried(self, task: Task) -> Outcome:
        """Return what comes of a run that may kill its process."""
        with _processes(1) as pool:
            try:
                return pool.submit(self._do, task).result()
            except BrokenExecutor:
                return Failed(DIED)


class Cluster:
    """The workers of a Dask cluster. A run whose worker dies goes to another, three times.

    Dask suspects all that waited at that worker too: who is given up is tried again by itself.
    """

    def __init__(self, client: Any, do: Do = execute) -> None:
        self._client = client
        self._do = do

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Yield the place of each task and its outcome, as they end.

        Raises InputError where the cluster has lost its workers for good.
        """
        places = {self._submit(task): place for place, task in enumerate(tasks)}
        suspects = []
        for future in as_they_end(self._client, list(places)):
            place, outcome = places.pop(future), _result(future)
            if outcome == Failed(DIED):
                suspects.append(place)
            else:
                yield place, outcome
        for place in sorted(suspects):
            for future in as_they_end(self._client, [self._submit(tasks[place])]):
                yield place, _result(future)

    def _submit(self, task: Task) -> Any:
        return self._client.submit(self._do, task, pure=False)


def as_they_end(client: Any, futures: Sequence[Any]) -> Iterator[Any]:
    """Yield futures of a cluster as they end.

    Workers may come late, but those who leave must come again: a cluster of `distributed` gives up
    workers that died and are not there 15 s later, and tasks would wait for others for ever.
    Raises InputError after `DESERTED_S` without any.
    """
    from distributed import as_completed

    ended = as_completed(futures, loop=client.loop)
    looked, manned = -math.inf, math.inf
    while not ended.is_empty():
        if batch := ended.next_batch(block=False):
            yield from batch
            continue
        time.sleep(0.02)
        if (now := time.monotonic()) > looked + 1.0:
            looked = now
            if workers_of(client):
                manned = now
            elif now > manned + DESERTED_S:
                said = f"the cluster lost its last worker and had no other for {DESERTED_S:.0f} s; "
                said += (
                    "start some and give the command again (runs of a sweep that ended are kept)"
                )
                raise InputError(Problem("--dask", said))


def workers_of(client: Any) -> list[str]:
    """Return the addresses of a cluster's workers, in order; none if no scheduler answers."""
    try:
        return sorted(client.nthreads())
    except OSError:
        return []


def _result(future: Any) -> Outcome:
    from distributed import KilledWorker

    try:
        outcome: Outcome = future.result()
        return outcome
    except KilledWorker:
        return Failed(DIED)
    except Exception as error:
        return Failed(f"the cluster lost it: {type(error).__name__}: {error}")


def _processes(workers: int) -> ProcessPoolExecutor:
    """Return a pool that has begun, before this process has more threads."""
    pool = ProcessPoolExecutor(workers, _way(), initializer=settle)
    pool.submit(int).result()
    return pool


def _way() -> BaseContext | None:
    """Return how to start processes: as usual, unless this one has threads.

    A fork would take along the locks that they hold, and wait for them for ever.
    """
    if threading.active_count() == 1:
        return None
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    way = multiprocessing.get_context("forkserver")
    way.set_forkserver_preload(["factory_sim.experiments.runs.ready"])
    return way


def settle() -> None:
    """Have this worker end with who started it, and without words on Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def client_of(dask: Any) -> Iterator[Any]:
    """Lend a client of a cluster; one that is given stays open."""
    try:
        from distributed import Client
        from distributed.comm import parse_address
        from distributed.comm.addressing import parse_host_port
    except ImportError:
        said = "needs distributed; install it with: pip install 'factory-sim[dask]'"
        raise InputError(Problem("--dask", said)) from None
    if isinstance(dask, Client):
        yield dask
        return
    try:
        if isinstance(dask, str):  # a client would still try to end after it has said no
            parse_host_port(parse_address(dask)[1])
        client = Client(dask, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            Problem(
                "--dask", f"no scheduler answers at {dask} ({error}); start one: dask scheduler"
            )
        ) from None
    with client:
        yield client
