"""Sales: what tokens earn, what is left of it, and what that says of a megawatt and an hour."""

from __future__ import annotations

from factory_sim.economics.capital import HOUR_S, YEAR_S


def sales(
    revenue_per_s: float, cost_per_s: float, power_per_s: float, utility_w: float
) -> dict[str, float]:
    """Return profit and its kin as keys of a summary.

    revenue_per_s, cost_per_s: USD/s. power_per_s: the part of the cost that goes with what is
    drawn. utility_w: provisioned. `breakeven_utilisation` is the share of this run's tokens that
    pays for the cost, as if no cost fell with the load; above 1 there is a loss. A `contribution`
    is what is left after power alone: what one more MW of the same would earn towards its capital.
    An hour of downtime costs the revenue, less the power that is then not drawn.
    """
    profit = revenue_per_s - cost_per_s
    earned = revenue_per_s - power_per_s
    found = {"profit_usd_per_h": profit * HOUR_S, "downtime_usd_per_h": earned * HOUR_S}
    if utility_w:
        year_mw = YEAR_S / (utility_w / 1e6)
        found["profit_usd_per_mw_year"] = profit * year_mw
        found["contribution_usd_per_mw_year"] = earned * year_mw
    if revenue_per_s > 0.0:
        found["breakeven_utilisation"] = cost_per_s / revenue_per_s
    return found
