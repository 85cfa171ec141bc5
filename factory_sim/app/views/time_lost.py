"""Where every GPU-second went, and OEE: from all GPU-hours down to those of useful tokens."""

from __future__ import annotations

import streamlit as st

from factory_sim.app.charts import bars
from factory_sim.app.results import Result
from factory_sim.app.show import blocks, chart, dark, said
from factory_sim.app.state import Checked, Session
from factory_sim.report.plots import gpu_time, waterfall
from factory_sim.report.summary import sections

CHAPTERS = ("Where the GPU-seconds", "OEE", "Use of the factory", "Stations")


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show the causes, the waterfall, and both in figures."""
    if result is None or result.run is None:
        return
    run = result.run
    if run.summary.get("time_lost"):
        chart(bars.time_lost(run), gpu_time.answer(run), "time lost")
    if waterfall.hours_apply(run):
        chart(bars.gpu_hours(run, dark()), waterfall.hours_answer(run), "oee")
    for heading, body in sections(run.summary, run.record).items():
        if heading.startswith(CHAPTERS):
            st.subheader(said(heading), anchor=False)
            blocks(body)
