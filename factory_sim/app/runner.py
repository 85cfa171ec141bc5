"""Running what is on the page, off the page: a quick answer by itself, the whole when asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from factory_sim.app.jobs import Job, desk
from factory_sim.app.results import Result, result_of
from factory_sim.app.settings import settings
from factory_sim.app.show import said
from factory_sim.app.state import Checked, Session
from factory_sim.app.work import FAILURES, POINTS

BEAT_S = 0.4
"""How often a job is looked at while it runs."""

MAIN = "run"
"""The place of the job that runs the draft itself."""


def bar(session: Session, found: Checked, wrong: bool) -> Result | None:
    """Show the button that runs, or how far the run is; return the best result that is there."""
    own = settings()
    result = result_of(found.key, own) if found.key else None
    job = session.work.get(MAIN)
    if job is not None and job.ask["scenario"] != found.given:
        stop(session, MAIN)  # of a draft that is no longer
        job = None
    known = result is not None and (result.full or result.told["done"])
    if job is None and not known and found.key and not wrong:
        job = start(session, MAIN, "run", {"scenario": found.given, "full": False})
    if job is None:
        whole = result is not None and result.full
        st.button(
            "Run in full",
            type="primary",
            disabled=wrong or whole or not found.key,
            help="Plays every request of the scenario; the quick answer plays a sample.",
            on_click=begin,
            args=(session, MAIN, "run", {"scenario": found.given, "full": True}),
        )
        return result
    state = desk().look(job)
    if state.ended:
        del session.work[MAIN]
        if state.problems:
            session.failed[found.key] = state.problems
        st.rerun()
    watch(session, MAIN, found.key if result is None else "")
    return result


def many(
    session: Session, place: str, kind: str, ask: Mapping[str, Any], label: str
) -> pd.DataFrame | None:
    """Show the button that runs many, or how far they are; return their points, of the last ask."""
    job = session.work.get(place)
    if job is not None and job.ask != ask:
        stop(session, place)  # of what is asked no more
        job = None
    if job is not None and not desk().look(job).ended:
        watch(session, place)
        return None
    st.button(label, type="primary", on_click=begin, args=(session, place, kind, ask))
    if job is None:
        return None
    problems = job.state().problems
    for problem in problems:
        st.error(said(str(problem)))
    if problems:
        return None
    for cause, count in job.read(FAILURES, {}).items():
        st.warning(said(f"{count} failed: {cause}"))
    return pd.read_parquet(job.home / POINTS)


def start(session: Session, place: str, kind: str, ask: Mapping[str, Any]) -> Job:
    """Have something done, in place of what was being done there."""
    stop(session, place)
    job = session.work[place] = Job(kind, ask, settings())
    desk().look(job)
    return job


def begin(session: Session, place: str, kind: str, ask: Mapping[str, Any]) -> None:
    """Start a job because a button was pressed."""
    session.failed.clear()
    start(session, place, kind, ask)


def stop(session: Session, place: str) -> None:
    """End what is being done at a place."""
    job = session.work.pop(place, None)
    if job is not None:
        job.kill()


def watch(session: Session, place: str, key: str = "") -> None:
    """Show how far a job is, again and again, until it has ended; then the page is shown anew.

    key: of a scenario of which nothing is known yet; then as soon as something is.
    """
    st.fragment(_watch, run_every=BEAT_S)(session, place, key)


def _watch(session: Session, place: str, key: str) -> None:
    job = session.work.get(place)
    if job is None:
        st.rerun()
    state = desk().look(job)
    if state.ended or (key and result_of(key, settings()) is not None):
        st.rerun()
    st.progress(state.share, text=said(state.text))
    st.button("Cancel", on_click=job.kill, key=f"cancel {place}")
