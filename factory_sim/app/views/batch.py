"""A replica's batch, played step by step: who waits, whose prompt is computed, who is answered."""

from __future__ import annotations

import streamlit as st

from factory_sim.app.results import Result
from factory_sim.app.show import said
from factory_sim.app.state import Checked, Session
from factory_sim.errors import InputError
from factory_sim.report.replay.film import film


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show the film of one replica."""
    if result is None or result.run is None:
        return
    run = result.run
    if run.requests is None:
        st.info("This run keeps no row of any request (recording: aggregate), so none is played.")
        return
    names = [str(name) for name in run.requests["deployment"].astype(str).unique()]
    name = st.selectbox("Deployment of the batch", names) if len(names) > 1 else names[0]
    own = run.requests[run.requests["deployment"].astype(str) == name]
    replicas = sorted(int(number) for number in own["replica"].dropna().unique())
    columns = st.columns(3)
    replica = columns[0].selectbox("Replica", replicas)
    window = run.summary["window_s"]
    start = columns[1].number_input(
        "From second", 0.0, float(window["end"]), float(window["start"]), step=5.0
    )
    length = columns[2].number_input("For seconds", 1.0, 120.0, 20.0, step=5.0)
    st.markdown(
        "Each row is a place in the batch. A request waits, has its prompt computed, then is "
        "answered a token a step, beside the others. The queue forms when no place is free."
    )
    try:
        page = film(run, name, replica, start, start + length)
    except InputError as error:
        st.warning(said(str(error)))
        return
    st.iframe(page, height=780, alt="A film of the batch, with its own buttons to play and step")
