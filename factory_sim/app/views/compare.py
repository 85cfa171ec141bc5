"""Up to four variants that were set aside, side by side."""

from __future__ import annotations

import re

import streamlit as st

from factory_sim.app.charts import many
from factory_sim.app.results import Result, result_of
from factory_sim.app.settings import settings
from factory_sim.app.show import chart, said, table
from factory_sim.app.state import MOST_VARIANTS, Checked, Session, Variant
from factory_sim.app.views.answer import verdict
from factory_sim.experiments.runs.task import flat
from factory_sim.experiments.sweep.spec import METRICS
from factory_sim.report.causes import words
from factory_sim.report.sweep import LABELS
from factory_sim.report.text import number

DRAWN = ("output_tokens_per_s", "output_tokens_per_s_per_utility_mw", "ttft_ms.p99", "tpot_ms.p99")
_NAME = re.compile(r"[A-Za-z0-9][\w .+-]{0,39}")


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show how to set a variant aside, and those that are."""
    _save(session, found, result)
    results = {
        name: there
        for name, variant in session.variants.items()
        if (there := result_of(variant.key, settings())) is not None and there.run is not None
    }
    if not results:
        st.info("Save a variant, change something, save another: they are compared here.")
        return
    runs = {name: there.run.summary for name, there in results.items() if there.run is not None}
    figures = {name: dict(flat(summary)) for name, summary in runs.items()}
    rows = [["", *results], ["run", *("full" if r.full else "quick" for r in results.values())]]
    rows.append(["promises", *(verdict(summary) for summary in runs.values())])
    rows.append(["what binds", *(words(s.get("bottleneck", "")) for s in runs.values())])
    for metric in (*METRICS, "usd_per_million_output_tokens"):
        values = [own.get(metric) for own in figures.values()]
        if any(isinstance(value, float) for value in values):
            said_ = (number(v) if isinstance(v, float) else "" for v in values)
            rows.append([LABELS.get(metric, metric.replace("_", " ")), *said_])
    table(rows, alt="Figures of every saved variant")
    for metric in DRAWN:
        own = {n: float(f[metric]) for n, f in figures.items() if metric in f}
        if own:
            chart(
                many.beside(LABELS.get(metric, metric), own),
                "",
                f"compare {metric}",
                "; ".join(f"{name}: {number(value)}" for name, value in own.items()),
            )


def _save(session: Session, found: Checked, result: Result | None) -> None:
    full = len(session.variants) >= MOST_VARIANTS
    with st.form("save variant", border=False):
        name = st.text_input(
            "Name of this variant",
            f"variant {len(session.variants) + 1}",
            max_chars=40,
            help="Letters, digits, blanks, '.', '+', '-' and '_'.",
        )
        pressed = st.form_submit_button(
            "Save this variant", disabled=full or result is None or not found.key
        )
    if full:
        st.caption(f"{MOST_VARIANTS} variants are the most; remove one to save another.")
    if pressed:
        if not _NAME.fullmatch(name):
            st.error(said(f"{name!r} will not do: letters, digits, blanks, '.', '+', '-' and '_'"))
        elif name in session.variants:
            st.error(said(f"there is a variant '{name}' already; give this one another name"))
        else:
            session.variants[name] = Variant(dict(found.given), found.key)
            st.rerun()
    for name in list(session.variants):
        st.button(
            said(f"Remove {name}"),
            key=f"remove {name}",
            on_click=_remove,
            args=(session, name),
        )


def _remove(session: Session, name: str) -> None:
    session.variants.pop(name, None)
