"""What was served: tokens, their cost and what they earned, told as keys of a summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from factory_sim.economics.bill import Bill, together, total
from factory_sim.economics.capital import HOUR_S
from factory_sim.economics.sales import sales
from factory_sim.economics.tokens import Tokens, costs


class Served(NamedTuple):
    """Tokens that were served in a stretch of time, the bill for them, the dollars they earned.

    Without costs there is no bill, without prices nothing earned.
    """

    bill: Bill | None
    tokens: Tokens = Tokens()
    earned_usd: float | None = None

    def told(self, seconds: float, gpus: float = 0.0, utility_w: float = 0.0) -> dict[str, Any]:
        """Return its keys of a summary. gpus, utility_w: that it holds, where it does."""
        found: dict[str, Any] = {}
        if self.earned_usd is not None:
            found["revenue_usd_per_h"] = self.earned_usd / seconds * HOUR_S
        if self.bill is not None:
            found |= costs(self.bill, gpus, seconds, self.tokens)
            if self.earned_usd is not None:
                power = sum(self.bill.get(name, 0.0) for name in ("electricity", "demand"))
                earned, paid = self.earned_usd / seconds, total(self.bill) / seconds
                found |= sales(earned, paid, power / seconds, utility_w)
        return found


def merged(parts: Sequence[Served]) -> Served:
    """Return what several served; the bill of one without tokens is split as that of the others."""
    tokens = [part.tokens for part in parts]
    usd = [total(part.bill) if part.bill and part.tokens.output else 0.0 for part in parts]
    prompts = sum(each * t.prompt_share for each, t in zip(usd, tokens, strict=True))
    whole = Tokens(
        sum(t.input for t in tokens),
        sum(t.cached for t in tokens),
        sum(t.output for t in tokens),
        prompts / sum(usd) if sum(usd) else 0.0,
    )
    known = [part.bill for part in parts if part.bill is not None]
    earned = [part.earned_usd for part in parts if part.earned_usd is not None]
    return Served(together(known) if known else None, whole, sum(earned) if earned else None)
