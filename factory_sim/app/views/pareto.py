"""What a megawatt gives at the pace that users get: the draft and the saved variants, as curves."""

from __future__ import annotations

import streamlit as st

from factory_sim.app import runner
from factory_sim.app.charts import many
from factory_sim.app.results import Result
from factory_sim.app.show import chart, table
from factory_sim.app.state import Checked, Session
from factory_sim.experiments.pace import INTERACTIVITY, THROUGHPUT
from factory_sim.report.text import number, percent

PLACE = "pace"


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show the curves, once they are run."""
    st.markdown(
        "Each scenario is run at several loads. More load: more tokens for each megawatt, "
        "fewer for each user. The upper right is best."
    )
    if not found.key:
        st.info("Nothing can be run until the scenario is in order.")
        return
    scenarios = {"this scenario": found.given}
    scenarios |= {name: v.given for name, v in session.variants.items() if v.key != found.key}
    full = st.checkbox("Every load in full (slower)", help="Otherwise a sample of each is run.")
    ask = {"scenarios": scenarios, "full": full}
    points = runner.many(session, PLACE, "pace", ask, "Run at several loads")
    if points is None or not len(points):
        return
    chart(many.front(points), "Curves further up and right are better.", "pareto")
    rows = [["scenario", "load, of a perfect system", "tokens/s of a user", "tokens/s per MW"]]
    rows += [
        [
            str(row["scenario"]),
            percent(row["load"]),
            number(row[INTERACTIVITY]),
            number(row[THROUGHPUT]),
        ]
        for _, row in points.iterrows()
    ]
    with st.expander("Every point in figures"):
        table(rows)
