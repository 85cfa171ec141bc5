"""Lowest: the deployment that is nearest, or whose site has the cheapest or the cleanest energy.

Like a shopper who compares one figure on the tags. The first counts among equals; a deployment
that is not open is asked only where none is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from factory_sim.factory.dispatch.protocol import Ask, Once, Surroundings


class _Lowest(Once, ABC):
    def __init__(self, spec: object, around: Surroundings) -> None:
        self._offers, self._round_trips = around.offers, around.round_trips

    def first(self, ask: Ask) -> int:
        """Return the place with the lowest figure."""
        offers = self._offers
        return min(range(len(offers)), key=lambda at: (not offers[at].open, self._figure(at, ask)))

    @abstractmethod
    def _figure(self, at: int, ask: Ask) -> float:
        """Return what is compared."""


class Nearest(_Lowest):
    """Asks where the round trip from the request's region is shortest."""

    def _figure(self, at: int, ask: Ask) -> float:
        return self._round_trips[at][ask.region]


class Cheapest(_Lowest):
    """Asks where energy has the lowest price now."""

    def _figure(self, at: int, ask: Ask) -> float:
        return self._offers[at].price(ask.now)


class Cleanest(_Lowest):
    """Asks where energy has the least carbon now."""

    def _figure(self, at: int, ask: Ask) -> float:
        return self._offers[at].carbon(ask.now)
