"""Capital written off: what a thing that is bought costs for every second of its life."""

from __future__ import annotations

from math import expm1, log1p

YEAR_S = 365.25 * 86_400.0
HOUR_S = 3600.0


def per_second(life_s: float, cost_of_capital: float, method: str = "annuity") -> float:
    """Return the share of its price that a thing costs in a second, 1/s.

    cost_of_capital: of a year. annuity: equal payments at the ends of n years that are worth the
    price today, r / (1 - (1 + r)^-n). straight-line: 1 / n, and interest on half of the price,
    which is bound in the mean. Without cost of capital both are 1 / n.
    """
    years = life_s / YEAR_S
    if method == "straight-line":
        return (1.0 / years + cost_of_capital / 2.0) / YEAR_S
    if not cost_of_capital:
        return 1.0 / life_s
    return cost_of_capital / -expm1(-years * log1p(cost_of_capital)) / YEAR_S
