"""Money: what a million tokens cost, by component, and what sales leave of it."""

from __future__ import annotations

import streamlit as st

from factory_sim.app.charts import bars
from factory_sim.app.results import Result
from factory_sim.app.show import blocks, chart
from factory_sim.app.state import Checked, Session
from factory_sim.report.money import money as told
from factory_sim.report.plots import money


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show costs by component, and the figures."""
    if result is None or result.run is None:
        return
    run = result.run
    if money.applies(run):
        chart(bars.costs(run), money.answer(run), "money")
    else:
        st.info("Nothing costs anything here. Under Money, choose costs such as us-2025.")
    blocks(told(run.summary))
