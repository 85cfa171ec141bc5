"""How an engine orders its queue, and what becomes of requests that it preempts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen

Weight = Annotated[int, Field(gt=0, strict=True)]


class Scheduling(Frozen):
    """Who at a replica is served next.

    fcfs: first come. priority: the lowest `priority` of the classes first. fair: the tenant that
    was served least, a prompt token counting input_weight (1 if left out) and an output token
    output_weight (2). edf: whose first token is promised soonest; refuse_late turns away on
    arrival those whose first token would come too late.
    """

    policy: Literal["fcfs", "priority", "fair", "edf"] = "fcfs"
    input_weight: Weight | None = None
    output_weight: Weight | None = None
    refuse_late: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"policy": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Scheduling:
        weighs = self.input_weight is not None or self.output_weight is not None
        if weighs and self.policy != "fair":
            raise ValueError(
                f"{self.policy} counts no tokens; leave out input_weight and output_weight, or "
                "take policy 'fair'"
            )
        if self.refuse_late and self.policy != "edf":
            raise ValueError(
                f"{self.policy} looks at no deadlines; leave out refuse_late, or take policy 'edf'"
            )
        return self
