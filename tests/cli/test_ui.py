"""`factory-sim ui`: what it cannot serve with, it says; what it serves, only this machine sees."""

from __future__ import annotations

import importlib.util
import socket
from typing import Any

import pytest

from factory_sim.cli import ui


def test_without_the_extra_it_names_the_extra(
    factory_sim_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    absent = lambda name, *more: None if name == "plotly" else found(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    ended = factory_sim_command("ui")
    assert ended.code == 2 and ended.out == ""
    assert "install them with: pip install '.[app]'" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--longest", "a day"), "--longest: 'a day' is not a number with a unit"),
        (("--patience", "0 s"), "--patience: must be above 0 s"),
        (("--host", "no.such.host.invalid"), "--port: cannot listen at no.such.host.invalid"),
    ],
)
def test_what_cannot_be_is_said(
    factory_sim_command: Any, options: tuple[str, ...], said: str
) -> None:
    ended = factory_sim_command("ui", *options)
    assert ended.code == 2 and said in ended.err


def test_a_port_that_is_taken_is_said(factory_sim_command: Any) -> None:
    with socket.socket() as taken:
        taken.bind((ui.LOCAL, 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = factory_sim_command("ui", "--port", str(port))
    assert ended.code == 2 and f"cannot listen at 127.0.0.1, port {port}" in ended.err


def test_it_listens_here_alone_and_tells_nobody(
    factory_sim_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlit.web import bootstrap

    from factory_sim.app import jobs

    given: dict[str, Any] = {}
    monkeypatch.setattr(jobs, "warm_up", lambda: None)
    monkeypatch.setattr(bootstrap, "load_config_options", given.update)
    monkeypatch.setattr(bootstrap, "run", lambda *_: None)
    monkeypatch.setenv("FACTORY_SIM_UI", "")  # which is put back after the test
    ended = factory_sim_command("ui", "--port", "8599", "--upload", "7")
    assert ended.code == 0 and ended.out == "http://127.0.0.1:8599 (Ctrl-C ends it)\n"
    assert given["server_address"] == "127.0.0.1" and given["server_port"] == 8599
    assert given["browser_gatherUsageStats"] is False and given["server_maxUploadSize"] == 7
