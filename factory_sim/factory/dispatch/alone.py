"""Alone: a workload that names a deployment and no service."""

from __future__ import annotations

from factory_sim.factory.dispatch.protocol import Ask, Once


class Alone(Once):
    """Asks the only deployment there is."""

    def first(self, ask: Ask) -> int:
        """Return the first place."""
        return 0
