"""Power against the cap, and the ledger of where it went."""

from __future__ import annotations

from factory_sim.app.charts import power as charts
from factory_sim.app.results import Result
from factory_sim.app.show import chart, dark
from factory_sim.app.state import Checked, Session
from factory_sim.report.plots.power import answer


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show power by level over time."""
    if result is None or result.run is None:
        return
    chart(charts.levels(result.run, dark()), answer(result.run), "power")
