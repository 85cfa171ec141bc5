"""The page from top to bottom: what is changed at the side; run, answer and views in the middle."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from factory_sim.app import runner
from factory_sim.app.draft import STARTS, linked, shipped
from factory_sim.app.editor import editor
from factory_sim.app.results import Result, about
from factory_sim.app.settings import settings
from factory_sim.app.show import said
from factory_sim.app.state import Checked, Session, checked, new_session
from factory_sim.app.views import (
    answer,
    batch,
    compare,
    latency,
    money,
    pareto,
    power,
    sweep,
    time_lost,
)
from factory_sim.errors import InputError

VIEWS: dict[str, Callable[[Session, Checked, Result | None], None]] = {
    "Answer": answer.show,
    "Latency": latency.show,
    "Power": power.show,
    "Time lost": time_lost.show,
    "Money": money.show,
    "Compare": compare.show,
    "Sweep": sweep.show,
    "Pareto": pareto.show,
    "Batch": batch.show,
}
"""What there is to look at, in the order of a planner's questions."""


_CLOSER = "<style>[data-testid=stMainBlockContainer] {padding-top: 3rem}</style>"
"""Less room above the title than Streamlit leaves, so that the answer is seen at once."""


def page() -> None:
    """Show the page of this session."""
    st.set_page_config(page_title="What if? factory_sim", layout="wide")
    st.html(_CLOSER)
    session = _session()
    found = checked(session.draft, session.home)
    problems = [*found.problems, *session.failed.get(found.key, ())]
    with st.sidebar:
        others = editor(session, problems)
    st.title("What if?", anchor=False)
    if session.note:
        st.warning(said(session.note))
    for problem in others:
        st.error(said(str(problem)))
    _share(session)
    result = runner.bar(session, found, bool(problems))
    view = st.segmented_control("View", list(VIEWS), default="Answer", key="view", required=True)
    if result is not None:
        st.caption(said(about(result)))
    VIEWS[view or "Answer"](session, found, result)


def _session() -> Session:
    if "session" not in st.session_state:
        session = new_session(settings(), shipped(STARTS[0]))
        try:
            session.draft = linked(dict(st.query_params))
        except InputError as error:
            session.note = str(error)
        st.session_state.session = session
    found: Session = st.session_state.session
    return found


def _share(session: Session) -> None:
    """Have the address of the page say what was changed."""
    link = session.draft.link()
    if dict(st.query_params) != link:
        st.query_params.from_dict(link)
