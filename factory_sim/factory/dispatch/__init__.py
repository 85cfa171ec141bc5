"""Dispatch: which deployment of a service takes a request. A small class each, one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from factory_sim.factory.dispatch.by_class import ByClass
from factory_sim.factory.dispatch.cascade import Cascade
from factory_sim.factory.dispatch.fallback import Fallback
from factory_sim.factory.dispatch.least_outstanding import LeastOutstanding
from factory_sim.factory.dispatch.lowest import Cheapest, Cleanest, Nearest
from factory_sim.factory.dispatch.protocol import Dispatcher, Surroundings
from factory_sim.factory.dispatch.weighted import Weighted

DISPATCH: dict[str, Callable[[Any, Surroundings], Dispatcher]] = {
    "fallback": Fallback,
    "cascade": Cascade,
    "by-class": ByClass,
    "weighted": Weighted,
    "least-outstanding": LeastOutstanding,
    "nearest": Nearest,
    "cheapest": Cheapest,
    "cleanest": Cleanest,
}
