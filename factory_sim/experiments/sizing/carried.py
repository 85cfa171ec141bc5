"""The most traffic that each of many scenarios carries, sought for all of them side by side.

Every scenario has a ladder of loads and climbs it until a promise breaks. All take a step at a time
together, so that a crew has as many runs in hand as there are scenarios still climbing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, inf, log
from typing import NamedTuple

from factory_sim.experiments.runs.crews import Crew
from factory_sim.experiments.runs.gather import gather
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Failed, Figures, Task
from factory_sim.experiments.sizing.promises import kept, unpromised
from factory_sim.experiments.sizing.search import Search, search

Told = Callable[[int, int], None]
"""Told how many scenarios of how many have their answer."""

_FARTHEST = log(10.0)
"""How far from its limit, in the logarithm, a promise counts at the most."""


class Ladder(NamedTuple):
    """Loads to look at. at: the run at a rung; load: what a rung stands for. Rungs are looked at
    from `start`, in strides that double, between `lowest` and `highest`."""

    at: Callable[[int], Task]
    load: Callable[[int], float]
    start: int
    lowest: int
    highest: int
    stride: int = 1


class Rung(NamedTuple):
    """A load that was looked at. strain: the logarithm of the promise nearest to its limit, or
    farthest beyond it, over that limit; above 0 it is broken."""

    place: int
    load: float
    figures: Figures
    strain: float

    @property
    def held(self) -> bool:
        """Tell whether every promise was kept."""
        return self.strain <= 0.0


class Carried(NamedTuple):
    """What was found of a scenario: every load that was looked at, the lowest first.

    held: the highest that keeps every promise, with none lower that breaks one; broken: the next
    rung. None where the ladder ends first.
    """

    looked: list[Rung]
    held: Rung | None
    broken: Rung | None

    @property
    def load(self) -> float:
        """Return the load at which a promise is just kept: between the two rungs, straight in
        logarithms of load and latency. 0 where none keeps them; the highest where none breaks."""
        if self.held is None:
            return 0.0
        return self.held.load * exp(self._share * self._step)

    @property
    def goodput_output_tokens_per_s(self) -> float:
        """Return the goodput there: that of the rung that keeps its promises, times the load."""
        if self.held is None:
            return 0.0
        own = float(self.held.figures["goodput_output_tokens_per_s"])
        return own * self.load / self.held.load

    def figure(self, name: str) -> float | None:
        """Return a figure of the run there, straight between the two rungs; None if it has none."""
        if self.held is None or name not in self.held.figures:
            return None
        low = float(self.held.figures[name])
        if self.broken is None or name not in self.broken.figures:
            return low
        return low + self._share * (float(self.broken.figures[name]) - low)

    @property
    def _step(self) -> float:
        if self.held is None or self.broken is None:
            return 0.0
        return log(self.broken.load / self.held.load)

    @property
    def _share(self) -> float:
        if self.held is None or self.broken is None:
            return 0.0
        return self.held.strain / (self.held.strain - self.broken.strain)


def carried(
    ladders: Mapping[str, Ladder], crew: Crew, store: Store, progress: Told | None = None
) -> dict[str, Carried | Failed]:
    """Return the most traffic that each scenario carries, or why a run of it failed.

    Raises InputError where nothing is promised.
    """
    searches = {name: search(*ladder[2:]) for name, ladder in ladders.items()}
    asked = {name: next(own) for name, own in searches.items()}
    looked: dict[str, dict[int, Rung]] = {name: {} for name in ladders}
    ended: dict[str, Carried | Failed] = {}
    while asked:
        tasks = {name: ladders[name].at(place) for name, place in asked.items()}
        outcomes = gather({task.key: task for task in tasks.values()}, crew, store)
        for name, place in list(asked.items()):
            outcome = outcomes[tasks[name].key]
            if isinstance(outcome, Failed):
                ended[name] = outcome
                del asked[name]
                continue
            rung = Rung(place, ladders[name].load(place), outcome, strain(outcome))
            looked[name][place] = rung
            _go_on(name, searches[name], rung, asked)
            if name not in asked:
                ended[name] = _found(looked[name])
        if progress is not None:
            progress(len(ended), len(ladders))
    return {name: ended[name] for name in ladders}


def _go_on(name: str, own: Search, rung: Rung, asked: dict[str, int]) -> None:
    """Ask for the next rung of a search, or end it."""
    try:
        asked[name] = own.send(not rung.held)
    except StopIteration:
        del asked[name]


def _found(looked: Mapping[int, Rung]) -> Carried:
    rungs = [looked[place] for place in sorted(looked)]
    first = next((index for index, rung in enumerate(rungs) if not rung.held), len(rungs))
    held = rungs[first - 1] if first else None
    return Carried(rungs, held, rungs[first] if first < len(rungs) else None)


def strain(figures: Figures) -> float:
    """Return the strain on the promises of a run, as of `Rung`; InputError without a promise."""
    promises = kept([figures])
    if not promises:
        raise unpromised()
    strains = []
    for promise in promises:
        if promise.value_ms == inf:
            strains.append(_FARTHEST)
            continue
        far = log(promise.value_ms / promise.limit_ms) if promise.value_ms else -_FARTHEST
        # Never on the wrong side of its limit by a rounding.
        bounds = (-_FARTHEST, 0.0) if promise.met else (1e-9, _FARTHEST)
        strains.append(min(max(far, bounds[0]), bounds[1]))
    return max(strains)
