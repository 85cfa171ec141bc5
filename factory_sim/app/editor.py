"""The side of the page: where one starts from, what is changed, and what is taken along."""

from __future__ import annotations

import math

import streamlit as st

from factory_sim.app import uploads
from factory_sim.app.draft import STARTS, Draft, sent, shipped
from factory_sim.app.fields import Field, beside, changed, paths, sections, slide, traced
from factory_sim.app.settings import settings
from factory_sim.app.show import said
from factory_sim.app.state import Session
from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError, Problem
from factory_sim.report.folder import default_base

LEFT_OUT = "(as the simulator has it)"


def editor(session: Session, problems: list[Problem]) -> list[Problem]:
    """Show what can be changed, each with what is wrong with it; return what is wrong elsewhere."""
    parts = sections(session.draft, load_catalog())
    by_field, others = beside(problems, paths(parts))
    st.header("Scenario", anchor=False)
    _start(session)
    _send(session)
    for index, section in enumerate(parts):
        wrong = any(field.path in by_field for field in section.fields)
        changed_ = sum(field.path in session.draft.changes for field in section.fields)
        title = section.title + (f" ({changed_} changed)" if changed_ else "")
        with st.expander(
            said(title), expanded=wrong or index == 0, key=_key(session, f"part {section.title}")
        ):
            for field in section.fields:
                _field(session, field)
                for message in by_field.get(field.path, ()):
                    st.error(said(f"{field.path}: {message}"))
    _take_along(session)
    return others


def _start(session: Session) -> None:
    names = [*STARTS, *([session.mine.name] if session.mine else [])]
    st.selectbox(
        "Start from",
        names,
        index=names.index(session.draft.name) if session.draft.name in names else 0,
        key=_key(session, "start"),
        on_change=_begin,
        args=(session, _key(session, "start")),
        help="Scenarios that ship with factory_sim, and the one that you have sent.",
    )


def _send(session: Session) -> None:
    """Show where a scenario, and the files that it names, are sent."""
    with st.expander("Send a scenario or a trace", key=_fixed("send")):
        _uploader(session, "Scenario (YAML)", ["yaml", "yml"], "As for `factory-sim run`.")
        endings = [ending.lstrip(".") for ending in uploads.ENDINGS]
        about = "Requests as CSV or JSONL, a model's config.json, weather as EPW."
        _uploader(session, "Trace or other file", endings, about)
        names = uploads.names(session.home)
        for name in names:
            st.caption(said(f"{name} is here; a scenario may name it"))
        rows = [name for name in names if name.endswith((".csv", ".jsonl"))]
        workloads = session.draft.base.get("workload")
        if rows and isinstance(workloads, dict):
            own = st.selectbox("Workload", list(workloads), key=_key(session, "traced"))
            name = st.selectbox("Has the requests of", rows, key=_key(session, "trace"))
            st.button("Use this trace", on_click=_trace, args=(session, str(own), str(name)))


def _uploader(session: Session, label: str, endings: list[str], about: str) -> None:
    st.file_uploader(
        label,
        endings,
        key=_fixed(label),
        help=about,
        max_upload_size=settings().upload_mb,
        on_change=_sent,
        args=(session, _fixed(label)),
    )


def _sent(session: Session, key: str) -> None:
    """Take what was sent: a scenario is a new draft, another file is kept."""
    file = st.session_state[key]
    session.note = ""
    if file is None:
        return
    try:
        if file.name.lower().endswith((".yaml", ".yml")):
            session.mine = sent(uploads.read_text(file.getvalue(), file.name[:80]))
            session.begin(session.mine)
        else:
            uploads.keep(session.home, file.name, file.getvalue())
            session.begin(session.draft)  # which may name it
    except InputError as error:
        session.note = str(error)


def _trace(session: Session, workload: str, name: str) -> None:
    session.begin(changed(session.draft, f"workload.{workload}.arrivals", traced(name)))


def _fixed(name: str) -> str:
    """Return the key of a widget that outlives a draft."""
    return f"fixed {name}"


def _begin(session: Session, key: str) -> None:
    if key != _key(session, "start") or key not in st.session_state:
        return  # of a draft before
    name = st.session_state[key]
    own = session.mine
    session.begin(own if own is not None and own.name == name else shipped(name))


def _field(session: Session, field: Field) -> None:
    """Show a field. It begins with what the draft says, and is made anew where others change that.

    What a widget begins with stays the same as long as it lives: by that Streamlit knows it. It is
    not set from outside either, or a page that is slow to appear would send back what it had
    before, as if that had been typed.
    """
    key = _versioned(session, field.path)
    text = session.begun.setdefault(key, session.draft.text(field.path))
    if field.choices:
        options = ["", *field.choices]
        if text not in options:
            options.insert(1, text)
        st.selectbox(
            field.heading,
            options,
            index=options.index(text),
            key=key,
            format_func=lambda word: word or LEFT_OUT,
            help=field.hint.help or None,
            on_change=_change,
            args=(session, field.path, key),
        )
        return
    st.text_input(
        field.heading,
        text,
        key=key,
        help=field.hint.help or None,
        placeholder="left out",
        on_change=_change,
        args=(session, field.path, key),
    )
    _slider(session, field)


def _slider(session: Session, field: Field) -> None:
    text, base = session.draft.text(field.path), session.draft.base_text(field.path)
    if slide(field, text, base) is None:
        return
    key = _versioned(session, _slider_of(field.path))
    found = slide(field, session.begun.setdefault(key, text), base)
    if found is None:
        return
    low, high, number, unit = found
    step = 10.0 ** math.floor(math.log10(high)) / 100.0
    low, high = (round(round(end / step) * step, 9) for end in (low, high))
    st.slider(
        f"{field.label}, slider",
        min(low, number),
        max(high, number, low + step),
        number,
        step=step,
        format=f"%g {unit}",
        key=key,
        label_visibility="collapsed",
        on_change=_slid,
        args=(session, field.path, key, unit),
    )


def _slid(session: Session, path: str, key: str, unit: str) -> None:
    if _alive(session, _slider_of(path), key):
        text = f"{st.session_state[key]:.6g} {unit}".strip()
        _changed(session, path, text, _slider_of(path))


def _change(session: Session, path: str, key: str) -> None:
    if _alive(session, path, key):
        _changed(session, path, st.session_state[key] or "", path)


def _changed(session: Session, path: str, text: str, by: str) -> None:
    """Change a field; by: the widget that did, which alone needs no new one."""
    before, session.draft = session.draft, changed(session.draft, path, text)
    session.note = ""
    for other in paths(sections(session.draft, load_catalog())):
        if before.text(other) != session.draft.text(other):
            for widget in (other, _slider_of(other)):
                session.versions[widget] += widget != by


def _alive(session: Session, widget: str, key: str) -> bool:
    """Tell whether a widget is the one that is shown: a slow page still tells of those before."""
    return key == _versioned(session, widget) and key in st.session_state


def _slider_of(path: str) -> str:
    return f"slider {path}"


def _versioned(session: Session, widget: str) -> str:
    return _key(session, f"{widget} {session.versions[widget]}")


def _take_along(session: Session) -> None:
    st.header("Take along", anchor=False)
    text = _yaml(session.draft)
    st.download_button(
        "Download YAML",
        text,
        file_name=default_base(session.draft.name).name + ".yaml",
        mime="application/yaml",
        disabled=not text,
        on_click="ignore",
        help="The scenario with your changes, for `factory-sim run`.",
    )
    st.caption("The address of this page is a link to it, with your changes.")
    st.button(
        "Undo all changes", on_click=_undo, args=(session,), disabled=not session.draft.changes
    )


def _undo(session: Session) -> None:
    session.begin(Draft(session.draft.name, session.draft.base, {}, session.draft.sent))


def _yaml(draft: Draft) -> str:
    try:
        return draft.yaml()
    except InputError:
        return ""


def _key(session: Session, name: str) -> str:
    """Return the key of a widget, which is of one draft begun and no other."""
    return f"{session.count} {name}"
