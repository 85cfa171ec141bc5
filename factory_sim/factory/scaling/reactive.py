"""Reactive: as many replicas as bring the load of each to its target.

    desired = ceil(load / target), unless load / (replicas * target) is within the tolerance of 1

With load summed over replicas that is the rule of the Kubernetes HorizontalPodAutoscaler,
ceil(replicas * metric / target) (kubernetes.io/docs, Horizontal Pod Autoscaling, "Algorithm
details"); of several metrics the largest answer counts. Fewer replicas are taken only when no look
within the stabilisation window asked for more.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from factory_sim.factory.scaling.protocol import Look
from factory_sim.scenario.autoscaling import Reactive as Spec


class Reactive:
    """Follows outstanding requests, the KV cache in use, or both. most: replicas there are."""

    wakes = True

    def __init__(self, spec: Spec, most: int) -> None:
        self._spec, self._most = spec, most
        self._asked: deque[tuple[float, int]] = deque()  # when, and how many, within the window

    def first(self) -> int:
        """Return how many are up at the start."""
        return self._spec.min if self._spec.initial is None else self._spec.initial

    def decide(self, look: Look) -> int:
        """Return how many should be up from now on."""
        spec = self._spec
        desired = max(self._desired(look), spec.min, 1 if look.outstanding else 0)
        desired = min(desired, self._most)
        asked = self._asked
        asked.append((look.now_s, desired))
        while asked[0][0] < look.now_s - spec.stabilisation:
            asked.popleft()
        if desired >= look.replicas:
            return desired
        return min(look.replicas, max(many for _, many in asked))

    def _desired(self, look: Look) -> int:
        spec = self._spec
        answers = []
        for load, target in ((look.outstanding, spec.outstanding), (look.kv_use, spec.kv_use)):
            if target is not None:
                ratio = load / (target * look.replicas) if look.replicas else float("inf")
                near = abs(ratio - 1.0) <= spec.tolerance + 1e-9
                answers.append(look.replicas if near else ceil(load / target - 1e-9))
        return max(answers)
