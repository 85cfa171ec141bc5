"""Scheduled: as many replicas as the timetable says."""

from __future__ import annotations

from math import ceil

from factory_sim.factory.scaling.protocol import Look
from factory_sim.scenario.autoscaling import Scheduled as Spec


class Scheduled:
    """Follows a signal, rounded up; it knows no load, so that a request may wait for its hour."""

    wakes = False

    def __init__(self, spec: Spec, most: int) -> None:
        self._replicas, self._most = spec.replicas, most

    def first(self) -> int:
        """Return how many are up at the start."""
        return self._at(0.0)

    def decide(self, look: Look) -> int:
        """Return how many should be up from now on."""
        return self._at(look.now_s)

    def _at(self, now_s: float) -> int:
        return min(self._most, ceil(self._replicas.at(now_s) - 1e-9))
