"""How requests are dealt out among the replicas of a pool."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from factory_sim.frozen import Frozen
from factory_sim.units import NonNegativeSeconds


class Router(Frozen):
    """How the gateway picks a replica. staleness: age of the load figures it looks at."""

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

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"policy": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _staleness_has_a_use(self) -> Router:
        if self.staleness and self.policy in ("round-robin", "random"):
            raise ValueError(f"{self.policy} looks at no load figures; leave out 'staleness'")
        return self
