"""Service classes and tenants: what is promised to whom, at what price, and who sends."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.deployment import Slo
from factory_sim.scenario.lengths import Proportion
from factory_sim.scenario.money import Price

TenantName = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][\w .+-]*$")]

MOST_TENANTS = 1000
"""Of one workload: each has its line in the summary."""


class ServiceClass(Frozen):
    """A tier of service that workloads name as their `class`.

    priority: for the scheduling policy of that name, the lowest number first (0 if left out). slo:
    the promise, in place of the deployment's. price: of its tokens.
    """

    priority: Annotated[int, Field(strict=True)] | None = None
    slo: Slo | None = None
    price: Price | None = None


class Tenants(Frozen):
    """Who sends the requests of a workload: each is drawn apart, by session where there are any.

    count: so many, of which the k-th sends in proportion to 1 / k^skew (Zipf; 0: all the same).
    shares: by name, in proportion; a name that several workloads give is one tenant.
    """

    count: Annotated[int, Field(ge=2, le=MOST_TENANTS, strict=True)] | None = None
    skew: Annotated[float, Field(ge=0)] | None = None
    shares: (
        Annotated[
            dict[TenantName, Proportion],
            Field(min_length=1, max_length=MOST_TENANTS),
        ]
        | None
    ) = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"count": given} if isinstance(given, int) else given

    @model_validator(mode="after")
    def _one_form(self) -> Tenants:
        if (self.count is None) == (self.shares is None):
            raise ValueError(
                "give either count or shares, for example {count: 20, skew: 1.1} or "
                "{shares: {acme: 3, small: 1}}"
            )
        if self.skew is not None and self.count is None:
            raise ValueError("shares say who sends how much; leave out skew, or give count")
        return self

    def weights(self, workload: str) -> dict[str, float]:
        """Return how much each tenant of this workload sends, by name."""
        if self.shares is not None:
            return dict(self.shares)
        assert self.count is not None
        skew = self.skew or 0.0
        return {f"{workload}-{k}": float(k**-skew) for k in range(1, self.count + 1)}
