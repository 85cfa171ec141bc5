"""Power against the cap, and the ledger of where it went."""

from __future__ import annotations

import streamlit as st

from factory_sim.app.charts import ledger
from factory_sim.app.charts import power as charts
from factory_sim.app.results import Result
from factory_sim.app.show import blocks, chart, dark, said
from factory_sim.app.state import Checked, Session
from factory_sim.report.plots import energy
from factory_sim.report.plots.power import answer
from factory_sim.report.sites import by_site
from factory_sim.report.summary import sections

CHAPTERS = ("Power", "Where the watts went", "Building", "All buildings", "Sites")


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show power by level over time, the flow from the meter to the GPUs, and both in figures."""
    if result is None or result.run is None:
        return
    run = result.run
    sites = by_site(run)
    if sites:
        run = sites[st.selectbox("Site", list(sites))]
    chart(charts.levels(run, dark()), answer(run), "power")
    if energy.applies(run):
        site = energy.site_of(run)
        chart(ledger.flow(site, dark()), energy.answer(site), "ledger")
    for heading, body in sections(result.run.summary, result.run.record).items():
        if heading.startswith(CHAPTERS):
            st.subheader(said(heading), anchor=False)
            blocks(body)
