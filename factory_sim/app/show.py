"""How the page says things: text that is only text, tables that are read out, charts in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from factory_sim.report.layout import Block, Entry, Table

_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:=^&])")


def said(text: str) -> str:
    """Return a text that a user may have had a say in, so that no mark in it means anything."""
    return _MARKUP.sub(r"\\\1", text.replace("\n", " "))


def blocks(found: Iterable[Block]) -> None:
    """Show the blocks of a report: sentences with their labels, and tables."""
    entries: list[Entry] = []
    for block in found:
        if isinstance(block, Entry):
            entries.append(block)
            continue
        _entries(entries)
        entries = []
        if isinstance(block, Table):
            table(_without_bars(block.rows), headed=block.headed)
        else:
            st.markdown(said(block))
    _entries(entries)


def _entries(entries: Sequence[Entry]) -> None:
    if entries:
        lines = (f"**{said(entry.label)}:** {said(entry.text)}" for entry in entries)
        st.markdown("  \n".join(lines))


def _without_bars(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return rows without a last column of bars made of letters, which a terminal needs."""
    bars = bool(rows) and all(not row[-1].strip("#") and row[-1] for row in rows)
    return [list(row[:-1] if bars else row) for row in rows]


def table(rows: Sequence[Sequence[str]], headed: bool = True, alt: str | None = None) -> None:
    """Show rows of cells as a table that a screen reader can read."""
    head, *body = rows if headed else [[""] * len(rows[0]), *rows]
    # Columns must have names that are not alike: some have spaces after them, which do not show.
    columns = [
        said(name) + "\N{NO-BREAK SPACE}" * head[: index + (not name)].count(name)
        for index, name in enumerate(head)
    ]
    frame = pd.DataFrame([[said(cell) for cell in row] for row in body], columns=columns)
    st.table(frame.set_index(columns[0]), hide_header=not headed, border="horizontal", alt=alt)


def chart(figure: go.Figure, words: str, key: str, alt: str = "") -> None:
    """Show a chart with what it says in words beneath it. alt: words for those who cannot see it,
    where they are not to stand on the page."""
    st.plotly_chart(figure, key=key, alt=alt or words, config={"displaylogo": False})
    if words:
        st.caption(said(words))


def dark() -> bool:
    """Tell whether the page is shown dark."""
    return bool(st.context.theme.type == "dark")
