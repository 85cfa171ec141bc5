"""By class: each class of requests has its deployment."""

from __future__ import annotations

from factory_sim.factory.dispatch.protocol import Ask, Once, Surroundings
from factory_sim.scenario.dispatch import ByClass as Spec


class ByClass(Once):
    """Asks the deployment that the routes name."""

    def __init__(self, spec: Spec, around: Surroundings) -> None:
        self._at = around.names.index(spec.routes[around.class_name])

    def first(self, ask: Ask) -> int:
        """Return the place of that deployment."""
        return self._at
