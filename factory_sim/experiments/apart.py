"""One run whose pods the workers of a Dask cluster serve.

The meter, the building and whatever may fail are minded here; each worker serves some of the pods,
and is asked about them whenever the meter is read. The result is that of a run on one machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.crews import as_they_end, client_of, workers_of
from factory_sim.experiments.runs.task import release
from factory_sim.factory.build import step_time_of
from factory_sim.factory.hands import Answers, Call, Elsewhere, Wire
from factory_sim.factory.pools import StepTimes
from factory_sim.factory.run import Progress, Run
from factory_sim.factory.run import simulate as simulate_here
from factory_sim.scenario.scenario import Scenario

TRIES = 3
"""How often a run begins, where a worker is lost with its pods."""


class _Lost(Exception):
    """A worker is gone, and its pods with it."""


def simulate(
    scenario: Scenario,
    progress: Callable[[Progress], None] | None = None,
    *,
    step_time: StepTimes = step_time_of,
    debug: bool = False,
    workers: int | None = None,
    dask: Any = None,
) -> Run:
    """Run the factory that `scenario` describes and return what it recorded.

    progress: called a few hundred times in a run. step_time: makes the step-time model of a
    fleet at a clock, in place of the one that its deployment names. debug: recount
    requests, tokens and KV blocks at every boundary. workers: threads that serve the pods of a
    deployment (`router.pods`) where the compiled kernel does, one for each core without. dask: has
    a cluster serve them instead: the address of its scheduler, the cluster as an object, or a
    `distributed.Client`. None of these changes the result.
    Raises InputError, before anything runs, for a scenario that cannot be built, and for a cluster
    that cannot be reached or has nothing to do.
    """
    if dask is None:
        return simulate_here(scenario, progress, step_time=step_time, debug=debug, workers=workers)
    if workers is not None:
        raise InputError(Problem("--workers", "a cluster has workers of its own; leave it out"))
    with client_of(dask) as client, client.as_current():
        for _ in range(TRIES):
            with contextlib.suppress(_Lost), _cluster(client, scenario, step_time) as elsewhere:
                return simulate_here(
                    scenario, progress, step_time=step_time, debug=debug, elsewhere=elsewhere
                )
    said = f"workers were lost in each of {TRIES} tries: out of memory, or killed"
    raise InputError(Problem("--dask", said))


@contextlib.contextmanager
def _cluster(client: Any, scenario: Scenario, step_time: StepTimes) -> Iterator[Elsewhere]:
    """Lend workers of a cluster, each of which serves some pods of a scenario."""
    made: list[Any] = []

    def elsewhere(pods: Mapping[str, int]) -> Sequence[tuple[Mapping[str, range], Wire]]:
        addresses = workers_of(client)
        if not addresses:
            said = "the cluster has no workers, or its scheduler is gone; start some: "
            said += "dask worker ADDRESS --nthreads 1"
            raise InputError(Problem("--dask", said))
        shares = dealt(pods, len(addresses))
        made.extend(
            client.submit(
                Workshop,
                scenario,
                mine,
                step_time,
                release(),
                actor=True,
                pure=False,
                workers=[at],
                allow_other_workers=True,  # it may be gone by now
            )
            for mine, at in zip(shares, addresses, strict=False)
        )
        return [(mine, _wire(client, future)) for mine, future in zip(shares, made, strict=True)]

    try:
        yield elsewhere
    finally:
        client.cancel(made)


def dealt(pods: Mapping[str, int], workers: int) -> list[dict[str, range]]:
    """Return, for each of at most so many workers, which pods of each deployment it serves."""
    shares: list[dict[str, range]] = [{} for _ in range(workers)]
    for name, many in pods.items():
        edges = np.linspace(0, many, min(workers, many) + 1).round().astype(int).tolist()
        for share, start, end in zip(shares, edges, edges[1:], strict=False):
            share[name] = range(start, end)
    return [share for share in shares if share]


def _wire(client: Any, future: Any) -> Wire:
    """Return what leads to a workshop that is being made."""
    workshop: list[Any] = []

    def send(calls: Sequence[Call]) -> Answers:
        if not workshop:
            workshop.extend(_waited(made) for made in as_they_end(client, [future]))
        answer = workshop[0].converse(list(calls))
        return lambda: _waited(answer)

    return send


def _waited(future: Any) -> Any:
    """Return what comes of a future; `_Lost` where its worker is gone."""
    from distributed import KilledWorker

    try:
        return future.result()
    except (InputError, MemoryError):
        raise
    except (CancelledError, KilledWorker, OSError, ValueError) as error:
        raise _Lost from error


class Workshop:
    """Serves pods at a worker. See `Shard`, which it has."""

    def __init__(
        self, scenario: Scenario, mine: Mapping[str, range], step_time: StepTimes, asked: str
    ) -> None:
        if asked != release():
            said = f"the run asks for factory_sim {asked}, a worker has {release()}; install the "
            raise InputError(Problem("--dask", said + "same on every worker"))
        # Here, since numba takes a second to import.
        from factory_sim.factory.kernel.shard import Shard

        self._shard = Shard(scenario, mine, step_time)

    def converse(self, calls: Sequence[Call]) -> list[Any]:
        """Do what is called for, in order, and return what came of each."""
        return self._shard.converse(calls)
