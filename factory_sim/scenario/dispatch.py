"""Services: one name for several deployments, and who of them is asked.

chat: {policy: fallback, deployments: [own, rented], outstanding: 64}
ask: {policy: cascade, deployments: [small, large], escalate: 30 %}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.lengths import ProperShare, Proportion
from factory_sim.units import PositiveSeconds

Count = Annotated[int, Field(ge=1, strict=True)]
Weights = dict[str, Proportion]


class _Service(Frozen):
    """Several deployments behind one name. deployments: each once, in an order that may count."""

    deployments: tuple[str, ...]

    @model_validator(mode="after")
    def _several(self) -> _Service:
        if len(self.deployments) < 2:
            raise ValueError(
                "a service has two deployments at least; a workload can name a single one itself"
            )
        twice = [name for name in self.deployments if self.deployments.count(name) > 1]
        if twice:
            raise ValueError(f"deployments names '{twice[0]}' twice; a request asks each once")
        return self

    def _covers(self, field: str, given: Mapping[str, object]) -> None:
        """Raise ValueError unless a mapping has the service's deployments for its keys."""
        if set(given) != set(self.deployments):
            raise ValueError(
                f"{field} must name each of {', '.join(self.deployments)}, and no other"
            )


class Fallback(_Service):
    """The first deployment that is open and has room; the next where a request is refused.

    outstanding: requests at a deployment, or on their way to it, from which on the next one is
    asked; the last takes what is left (left out: no limit). patience: how long a deployment but
    the last has for the whole answer before the next one is asked (left out: for ever).
    """

    policy: Literal["fallback"]
    outstanding: Count | None = None
    patience: PositiveSeconds | None = None


def _form(given: Any) -> str:
    return "tuple[stage]" if isinstance(given, list | tuple) else "literal[one]"


Escalate = Annotated[
    Annotated[ProperShare, Tag("literal[one]")]
    | Annotated[tuple[ProperShare, ...], Tag("tuple[stage]")],
    Discriminator(_form),
]


class Cascade(_Service):
    """The first deployment, and with a probability the next, once the whole answer is there.

    escalate: the probability that an answer does not do, of each stage but the last, or of all.
    """

    policy: Literal["cascade"]
    escalate: Escalate

    @model_validator(mode="after")
    def _for_each_stage(self) -> Cascade:
        stages = len(self.deployments) - 1
        if isinstance(self.escalate, tuple) and len(self.escalate) != stages:
            raise ValueError(
                f"escalate must be one probability, or one for each of the {stages} deployments "
                "before the last"
            )
        if not any(self.probabilities):
            raise ValueError("nothing is ever escalated; give escalate, or name one deployment")
        return self

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Return the probability of going on from each deployment but the last."""
        given = self.escalate
        return given if isinstance(given, tuple) else (given,) * (len(self.deployments) - 1)


class ByClass(_Service):
    """To each class of requests its deployment. routes: by class, or workload where it has none."""

    policy: Literal["by-class"]
    routes: dict[str, str]

    @model_validator(mode="after")
    def _to_these(self) -> ByClass:
        self._covers("the values of routes", dict.fromkeys(self.routes.values()))
        return self


class Weighted(_Service):
    """Each deployment in proportion to its weight, drawn for each request."""

    policy: Literal["weighted"]
    weights: Weights

    @model_validator(mode="after")
    def _for_these(self) -> Weighted:
        self._covers("weights", self.weights)
        return self


class LeastOutstanding(_Service):
    """The deployment with the fewest requests for its weight. weights: without, all the same."""

    policy: Literal["least-outstanding"]
    weights: Weights | None = None

    @model_validator(mode="after")
    def _for_these(self) -> LeastOutstanding:
        if self.weights is not None:
            self._covers("weights", self.weights)
            if len(set(self.weights.values())) == 1:
                raise ValueError(
                    "weights are all the same, as they are without; leave them out, or give one "
                    "deployment more"
                )
        return self


class Nearest(_Service):
    """The deployment with the shortest round trip from the region of the request."""

    policy: Literal["nearest"]


class Cheapest(_Service):
    """The deployment at whose site energy has the lowest price now."""

    policy: Literal["cheapest"]


class Cleanest(_Service):
    """The deployment at whose site energy has the least carbon now."""

    policy: Literal["cleanest"]


Service = Annotated[
    Fallback | Cascade | ByClass | Weighted | LeastOutstanding | Nearest | Cheapest | Cleanest,
    Field(discriminator="policy"),
]
