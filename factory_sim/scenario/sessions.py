"""Sessions: conversations of several turns, each asking on from all that was said before.

sessions: {turns: 8, think_time: 20 s}
sessions: {turns: {uniform: {low: 2, high: 40}}, think_time: 30 s, tools: {share: 80 %, delay: 2 s}}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.lengths import Fixed, Length, shortest
from factory_sim.units import NonNegativeSeconds, Share


class Tools(Frozen):
    """Turns that a program sends, not a person: an agent's tool has been called.

    share: of the turns after the first, each drawn apart. delay: seconds from the answer that calls
    the tool to the next prompt, which brings its result.
    """

    share: Annotated[Share, Field(gt=0, le=1)]
    delay: NonNegativeSeconds


class Sessions(Frozen):
    """How many turns a session has, and how long it pauses between them.

    turns: of a session, where nothing ends it early. think_time: from an answer's arrival at the
    client to the next turn. thinking: every pause the same, or exponential with mean `think_time`.
    tools: turns that are sent sooner (left out: none).
    """

    turns: Length
    think_time: NonNegativeSeconds = 0.0
    thinking: Literal["fixed", "exponential"] = "fixed"
    tools: Tools | None = None

    @model_validator(mode="after")
    def _turns_are_several(self) -> Sessions:
        if shortest(self.turns) < 1:
            raise ValueError(
                f"turns can be {shortest(self.turns):g}; a session has one turn at the least"
            )
        if self.turns == Fixed(fixed=1):
            raise ValueError(
                "turns: 1 makes every session one request; leave out sessions, or give it more"
            )
        return self

    @model_validator(mode="after")
    def _pauses_are_used(self) -> Sessions:
        all_tools = self.tools is not None and self.tools.share == 1.0
        if all_tools and (self.think_time or self.thinking != "fixed"):
            raise ValueError(
                "with tools.share: 100 % nobody ever thinks; leave out think_time and thinking, or "
                "lower the share"
            )
        if self.thinking == "exponential" and not self.think_time and not all_tools:
            raise ValueError(
                "thinking: exponential needs the mean of the pauses, for example 'think_time: 20 s'"
            )
        return self
