"""What a run keeps of its requests: a row of each, a row of some, or sums and percentiles only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from factory_sim.errors import Problem
from factory_sim.frozen import Frozen
from factory_sim.units import Efficiency

if TYPE_CHECKING:
    from factory_sim.scenario.scenario import Scenario

SHARE = 0.01
"""Of requests, whose rows a sample keeps unless it says otherwise."""


class Recording(Frozen):
    """What a run keeps of its requests: `full`, `sample` or `aggregate`, or {keep, share}.

    keep: full, a row of every request; sample, the rows of a `share` of them, drawn by the seed;
    aggregate, none. Without all rows the summary comes from exact counts and sums and from sketches
    with a stated error, in memory that does not grow with the requests.
    """

    keep: Literal["full", "sample", "aggregate"] = "full"
    share: Efficiency | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"keep": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _share_has_a_use(self) -> Recording:
        if self.share is not None and self.keep != "sample":
            raise ValueError(f"'{self.keep}' draws no sample; leave out 'share', or keep a sample")
        return self

    @property
    def sampled(self) -> float:
        """Return the share of requests whose rows are kept."""
        drawn = SHARE if self.share is None else self.share
        return {"full": 1.0, "sample": drawn, "aggregate": 0.0}[self.keep]


def beyond_counting(scenario: Scenario) -> Iterator[Problem]:
    """Yield what of a scenario can only be told from a row of every request."""
    if scenario.recording.keep == "full":
        return
    found = [f"sessions (workload.{n})" for n, spec in scenario.workload.items() if spec.sessions]
    found += [name for name in ("services", "regions") if getattr(scenario, name) is not None]
    found += [
        f"uploads (deployments.{name}.users_link)"
        for name, spec in scenario.deployments.items()
        if spec.users_link is not None
    ]
    if found:
        yield Problem(
            "recording",
            f"'{scenario.recording.keep}' counts requests one by one as they leave, and "
            f"{' and '.join(found)} need a row of each; say 'recording: full'",
        )
