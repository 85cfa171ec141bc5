"""Latency: the distribution of each, with its limit, and the table of percentiles."""

from __future__ import annotations

import streamlit as st

from factory_sim.app.charts import latency as charts
from factory_sim.app.results import Result
from factory_sim.app.show import blocks, chart, dark, said
from factory_sim.app.state import Checked, Session
from factory_sim.report.plots.latency import LATENCIES, answer
from factory_sim.report.summary import promises_of, sections


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show a histogram for each latency of a deployment."""
    if result is None or result.run is None:
        return
    run = result.run
    st.markdown(f"**Do requests meet the promise?** {said(answer(promises_of(run.summary)))}")
    names = list(run.summary["deployments"])
    name = st.selectbox("Deployment", names) if len(names) > 1 else names[0]
    if run.requests is None:
        st.info("This run keeps no row of any request (recording: aggregate), so none is drawn.")
    else:
        for key in LATENCIES:
            figure = charts.distribution(run, name, key, dark())
            chart(figure, "", f"latency {key}", f"Histogram: {LATENCIES[key]} of {name}")
    for heading, body in sections(run.summary, run.record).items():
        if heading.startswith(("Latency", "Promises")):
            st.subheader(said(heading), anchor=False)
            blocks(body)
