"""The recorder counts requests as they leave, so that their rows need not be kept."""

from __future__ import annotations

from functools import partial

import numpy as np

from factory_sim.factory.build import Factory
from factory_sim.factory.gateway import ROW, Counter
from factory_sim.factory.results.stays import Stays, stays_of
from factory_sim.factory.seeds import sample_seed
from factory_sim.metrics.requests import Terms
from factory_sim.metrics.tally import Tally


class Counts:
    """What one gateway, or a part of it, has handed over: a tally, stays, and rows drawn.

    lags_s: of the way in of each stream. A row is drawn by a hash of the seed and the request's
    number: the same ones whoever serves them, and in whatever pieces they come.
    """

    def __init__(
        self,
        deployment: str,
        terms: Terms,
        pod: int,
        share: float,
        seed: int,
        lags_s: np.ndarray,
    ) -> None:
        self.deployment, self._lags_s = deployment, lags_s
        self.tally, self.stays = Tally(terms, pod=pod), Stays()
        self.drawn = list[np.ndarray]()
        self._share, self._seed = share, np.uint64(seed)

    def __call__(self, rows: np.ndarray, now_s: float) -> None:
        """Count rows (dtype `ROW`), which the caller may then use again."""
        self.tally.add(self.deployment, rows)
        self.stays = self.stays.plus(stays_of(rows, self._lags_s, now_s))
        if self._share:
            drawn = _hashed(rows["number"], self._seed) < self._share
            self.drawn.append(rows[drawn])

    def merge(self, other: Counter) -> None:
        """Add what another has counted of the same run."""
        assert isinstance(other, Counts)
        self.tally.merge(other.tally)
        self.stays = self.stays.plus(other.stays)
        self.drawn += other.drawn


class Recorder:
    """Counts the requests of a whole factory. terms: what the run says of them."""

    def __init__(self, factory: Factory, terms: Terms) -> None:
        self._factory, self._terms = factory, terms
        self._lags_s = np.array([stream.lag_s for stream in factory.streams])
        self._counts: list[Counts] = []
        for name, gateway in factory.fronts.items():
            gateway.count_by(partial(self._counter, name))

    def hand_over(self, least: int = 1) -> None:
        """Count those who have left until now, where they are at least so many."""
        for gateway in self._factory.fronts.values():
            gateway.hand_over(least)

    def tally(self) -> Tally:
        """Return the tally of all requests."""
        whole = Tally(self._terms)
        for counts in self._counts:
            whole.merge(counts.tally)
        return whole

    def stays(self) -> dict[str, Stays]:
        """Return the stays in each deployment."""
        found = dict.fromkeys(self._factory.fronts, Stays())
        for counts in self._counts:
            found[counts.deployment] = found[counts.deployment].plus(counts.stays)
        return found

    def drawn(self) -> dict[str, np.ndarray]:
        """Return the rows of each deployment that the sample holds."""
        return {
            name: np.concatenate(
                [np.zeros(0, ROW)]
                + [rows for own in self._counts if own.deployment == name for rows in own.drawn]
            )
            for name in self._factory.fronts
        }

    def _counter(self, name: str) -> Counter:
        """Return what counts the rows of a gateway, or of a part that hands over on its own."""
        scenario = self._factory.scenario
        place = list(self._factory.fronts).index(name)
        seed = sample_seed(scenario, place)
        pod = sum(counts.deployment == name for counts in self._counts)
        share = scenario.recording.sampled
        counts = Counts(name, self._terms, pod, share, seed, self._lags_s)
        self._counts.append(counts)
        return counts


def _hashed(numbers: np.ndarray, seed: np.uint64) -> np.ndarray:
    """Return a number in [0, 1) for each request: SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + seed
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) * 2.0**-64
