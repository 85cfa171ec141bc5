"""The answer: tokens a second, what one costs, what a megawatt gives, promises, and what binds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from factory_sim.app.results import Result, at_most, bounds_of
from factory_sim.app.show import blocks, said, table
from factory_sim.app.state import Checked, Session
from factory_sim.report.causes import CAUSES, words
from factory_sim.report.summary import promises_of, sections
from factory_sim.report.text import number

ELSEWHERE = ("Power", "Where the watts went", "Money", "Where the GPU-seconds went")
"""Chapters of the summary that have a view of their own, by how they begin."""


def show(session: Session, found: Checked, result: Result | None) -> None:
    """Show the headline figures, what binds, and the rest of the summary."""
    if result is None:
        return
    if result.run is None:
        st.metric("Output tokens/s, at most", number(at_most(result)), border=True)
    else:
        summary = result.run.summary
        for column, (label, value, note) in zip(st.columns(4), headline(summary), strict=False):
            column.metric(label, value, help=note, border=True)
        st.markdown(said(what_binds(summary)))
        for doubt in result.run.record.get("warnings", ()):
            st.warning(said(doubt))
    st.subheader("Asked, and at best", anchor=False)
    table(bounds_of(result), alt="What is asked of each pool, and what it could do at best")
    if result.run is None:
        return
    for heading, body in sections(result.run.summary, result.run.record).items():
        if not heading.startswith(ELSEWHERE):
            st.subheader(said(heading), anchor=False)
            blocks(body)


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return label, figure and note of the four figures that a planner reads first."""
    mega = "output_tokens_per_s_per_utility_mw_provisioned"
    cost = "usd_per_million_output_tokens"
    found = [
        ("Output tokens/s", number(summary["output_tokens_per_s"]), "Of the whole site."),
        (
            "Output tokens/s per MW",
            number(summary[mega]) if mega in summary else "none",
            "For each utility MW that is provisioned.",
        ),
        (
            "USD per Mtoken",
            number(summary[cost]) if cost in summary else "no costs",
            "All costs of the site for a million output tokens; give costs under Money.",
        ),
        ("Promises", verdict(summary), "Whether every promise (SLO) is kept."),
    ]
    return found


def verdict(summary: Mapping[str, Any]) -> str:
    """Say whether promises are kept."""
    if not promises_of(summary):
        return "none made"
    return "kept" if summary["slo"]["met"] else "broken"


def what_binds(summary: Mapping[str, Any]) -> str:
    """Say what the largest loss is, and what would mend it."""
    cause = summary.get("bottleneck")
    if cause is None:
        return ""
    advice = f": {CAUSES[cause].meaning}" if cause in CAUSES else ""
    return f"What binds: {words(cause)}{advice}."
