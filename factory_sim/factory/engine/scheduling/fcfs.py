"""First come, first served: a deque, with a preempted request back at its head."""

from __future__ import annotations

from collections import deque

from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.scheduling.queue import Hooks


class Fcfs(Hooks, deque[Request]):
    """The queue of vLLM's default policy, for a batch that wants more than a deque."""
