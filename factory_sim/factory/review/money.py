"""What a site costs before it runs: all that does not depend on what it does."""

from __future__ import annotations

from factory_sim.economics.bill import bills, total
from factory_sim.economics.capital import HOUR_S
from factory_sim.factory.layout import Layout
from factory_sim.factory.results.books import everything
from factory_sim.factory.review import Section


def costs(layout: Layout) -> Section:
    """Return the dollars of an hour, without electricity; nothing where no costs are given."""
    if layout.terms is None:
        return {}
    site = everything(layout)
    bill = bills(layout.terms, [site], HOUR_S, 0.0, 0.0)[site.name]
    usd, apart = total(bill), "" if "rent" in bill else ", before electricity"
    parts = ", ".join(f"{name} {each:,.2f}" for name, each in bill.items() if each)
    return {
        "an hour": f"{usd:,.2f} USD{apart}: {parts}",
        "a GPU-hour": f"{usd / site.many:,.3f} USD",
    }
