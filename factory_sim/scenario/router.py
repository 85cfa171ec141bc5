"""How requests are dealt out among the replicas of a pool."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.units import NonNegativeSeconds


class Router(Frozen):
    """How the gateway picks a replica. staleness: age of the load figures it looks at.

    pods: groups of replicas, each with such a router of its own; requests are dealt to them at
    random, by their replicas.
    """

    policy: Literal[
        "round-robin",
        "random",
        "least-outstanding",
        "power-of-two",
        "power-aware",
        "cache-aware",
        "sticky",
    ] = "least-outstanding"
    staleness: NonNegativeSeconds = 0.0
    pods: Annotated[int, Field(gt=0, strict=True)] = 1

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"policy": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _staleness_has_a_use(self) -> Router:
        if self.staleness and self.policy in ("round-robin", "random"):
            raise ValueError(f"{self.policy} looks at no load figures; leave out 'staleness'")
        return self

    @model_validator(mode="after")
    def _pods_keep_nobody_together(self) -> Router:
        if self.pods > 1 and self.policy in ("cache-aware", "sticky"):
            raise ValueError(
                f"{self.policy} sends a session where it was, and pods are dealt requests at "
                "random; leave out 'pods', or take another policy"
            )
        return self
