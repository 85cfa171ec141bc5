"""Runs that are wanted, from the store where they are kept, else from a crew."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from factory_sim.experiments.runs.crews import Crew
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Done, Failed, Figures, Task

Progress = Callable[[int, int], None]
"""Told how many of how many runs are there."""

Results = dict[str, Figures | Failed]
"""What came of runs, by their keys."""


def gather(
    wanted: Mapping[str, Task], crew: Crew, store: Store, progress: Progress | None = None
) -> Results:
    """Return what came of the runs that are wanted, in their order. What is done is kept at once.

    A run that could not be kept has failed: it would be missed when the sweep goes on later.
    """
    found: Results = {}
    missing: list[str] = []
    for key, task in wanted.items():
        kept = store.figures(key, task)
        if kept is None:
            missing.append(key)
        else:
            found[key] = kept
    for place, outcome in crew.outcomes([wanted[key] for key in missing]):
        key = missing[place]
        found[key] = _kept(store, key, outcome) if isinstance(outcome, Done) else outcome
        if progress is not None:
            progress(len(found), len(wanted))
    return {key: found[key] for key in wanted}


def _kept(store: Store, key: str, done: Done) -> Figures | Failed:
    try:
        store.keep(key, done)
    except OSError as error:
        return Failed(f"could not be kept: {error.strerror or error}")
    return done.figures
