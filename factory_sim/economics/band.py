"""The band of what money may come to where prices are known by ranges only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from factory_sim.economics.bill import Bill
from factory_sim.scenario.money import Range

DRAWS = 20_000
"""Of all components: the ends of the band are then sure to about 1 % of its width."""


def draw(
    amounts: Mapping[str, float], ranges: Mapping[str, Range], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return DRAWS of each amount by its name, as far off as its range says; all independent.

    An amount with a range comes from a triangle with its top at the amount; others stay.
    """
    found = {}
    for place, (name, usd) in enumerate(amounts.items()):
        factors = np.ones(DRAWS)
        if name in ranges:
            span = ranges[name]
            source = np.random.default_rng(np.random.SeedSequence([seed, place]))
            factors = source.triangular(span.low, 1.0, span.high, DRAWS)
        found[name] = usd * factors
    return found


def band(
    bill: Bill,
    earned_usd: float | None,
    ranges: Mapping[str, Range],
    seed: int,
    over: Mapping[str, float],
    profit_over: float,
) -> dict[str, list[float]]:
    """Return the 5th and the 95th percentile of the cost over each of `over`, by its name.

    Where something is earned, of the profit over `profit_over` (MW x years) too.
    """
    amounts = dict(bill) if earned_usd is None else {**bill, "revenue": earned_usd}
    drawn = draw(amounts, ranges, seed)
    cost = sum((drawn[name] for name in bill), start=np.zeros(DRAWS))
    figures = {name: cost / each for name, each in over.items()}
    if earned_usd is not None:
        figures["profit_usd_per_mw_year"] = (drawn["revenue"] - cost) / profit_over
    return {
        name: [float(end) for end in np.percentile(values, (5.0, 95.0))]
        for name, values in figures.items()
    }
