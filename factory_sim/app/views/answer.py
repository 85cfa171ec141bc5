"""The answer: tokens a second, what one costs, what a megawatt gives, promises, and what binds."""

from __future__ import annotations

import streamlit as st

from factory_sim.app.results import Result, bounds_of
from factory_sim.app.show import blocks, said, table
from factory_sim.app.state import Checked, Session
from factory_sim.report.causes import CAUSES, words
from factory_sim.report.summary import sections
from factory_sim.report.text import megawatts, number


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show the headline figures and the summary."""
    if result is None:
        return
    if result.run is not None:
        summary = result.run.summary
        _headline(summary)
        for heading, body in sections(summary, result.run.record).items():
            st.subheader(said(heading), anchor=False)
            blocks(body)
    st.subheader("What a perfect system could do", anchor=False)
    table(bounds_of(result))


def _headline(summary: dict) -> None:
    columns = st.columns(4)
    columns[0].metric("Output tokens/s", number(summary["output_tokens_per_s"]))
