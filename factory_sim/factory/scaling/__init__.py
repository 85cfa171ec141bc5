"""Autoscaling policies: how many replicas are up. One file each, one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from factory_sim.factory.scaling.protocol import Look, Policy
from factory_sim.factory.scaling.reactive import Reactive
from factory_sim.factory.scaling.scheduled import Scheduled

SCALING: dict[str, Callable[[Any, int], Policy]] = {
    "reactive": Reactive,
    "scheduled": Scheduled,
}

__all__ = ["SCALING", "Look", "Policy"]
