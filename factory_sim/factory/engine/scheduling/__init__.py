"""Scheduling policies: who at a replica is served next. One file each, one line here."""

from __future__ import annotations

from collections.abc import Callable

from factory_sim.factory.engine.scheduling.edf import Edf
from factory_sim.factory.engine.scheduling.fair import CountedFair, Fair
from factory_sim.factory.engine.scheduling.fcfs import Fcfs
from factory_sim.factory.engine.scheduling.priority import Priority
from factory_sim.factory.engine.scheduling.queue import Queue
from factory_sim.scenario.scheduling import Scheduling

SCHEDULING: dict[str, Callable[[Scheduling, float, bool], Queue]] = {
    "fcfs": lambda spec, rate, drafts: Fcfs(),
    "priority": lambda spec, rate, drafts: Priority(),
    "fair": lambda spec, rate, drafts: (CountedFair if drafts else Fair)(
        spec.input_weight or 1, spec.output_weight or 2
    ),
    "edf": lambda spec, rate, drafts: Edf(rate if spec.refuse_late else None),
}
"""By name; each is given its settings, the prompt tokens/s of a replica, and whether it drafts."""

__all__ = ["SCHEDULING", "Queue"]
