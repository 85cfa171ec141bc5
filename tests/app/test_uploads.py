"""What strangers send: no bomb goes off, and nobody reads another file of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_sim.app import uploads
from factory_sim.app.draft import sent, shipped
from factory_sim.app.fields import sections
from factory_sim.app.settings import Settings
from factory_sim.app.show import said
from factory_sim.app.state import checked
from factory_sim.app.work import check_size
from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError
from factory_sim.scenario.load import load

BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB.encode(), "refers to a part of itself"),
        (b"[" * 100_000, "nested deeper"),
        (b"{a: " * 50_000, "nested deeper"),
        (b"a: [" + b"1," * 60_000 + b"]", "too long"),
        (b"x" * 300_000, "too much for a scenario"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"- 1\n- 2\n", "keys and values"),
        (b"1: 2\n", "a key that is no text"),
        (b"a: [1\n", "is not valid YAML"),
        (b"a: !!python/object/apply:os.system [true]\n", "is not valid YAML"),
        (b"a: 2020-99-99\n", "cannot be read"),
        (b"", "keys and values"),
    ],
)
def test_a_bomb_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        uploads.read_text(content, "mine.yaml")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a/b.csv",
        "a\\b.csv",
        ".csv",
        "",
        "x" * 200 + ".csv",
        "a.yaml",
        "a.py",
        "a\n.csv",
        "=1+1.csv",
        "<b>.csv",
        "..csv",
    ],
)
def test_a_file_has_a_plain_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        uploads.keep(tmp_path / "mine", name, b"1")
    assert list(tmp_path.rglob("*.*")) == []


SIGNAL = "{csv: /etc/passwd, column: a, unit: USD/MWh}"


def traced(path: str) -> dict[str, Any]:
    given = dict(shipped("quickstart").base)
    given["workload"] = {
        "chat": {"deployment": "chat", "arrivals": {"process": "trace", "path": path}}
    }
    return given


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "/etc/passwd", "~/.ssh/id_rsa", "other.csv", "./trace.csv/../../x.csv"],
)
def test_a_scenario_names_only_what_was_sent(path: str, tmp_path: Path) -> None:
    uploads.keep(tmp_path, "trace.csv", b"arrival_s,input_toks,output_toks\n0.0,374,44\n")
    found = checked(sent(traced(path)), tmp_path)
    assert [problem.path for problem in found.problems] == ["workload.chat.arrivals.path"]
    assert "is no file that you have sent; those sent are trace.csv" in found.problems[0].message
    assert checked(sent(traced("trace.csv")), tmp_path).key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("catalog", "/"),
        ("catalog", "."),
        ("deployments.chat.model", "/etc/x.json"),
        ("deployments.chat.engine.profile", "../x.yaml"),
        ("site.price", SIGNAL),
        ("site.weather", "{epw: /etc/passwd}"),
    ],
)
def test_no_field_reads_the_server(field: str, value: str, tmp_path: Path) -> None:
    found = checked(shipped("quickstart").with_change(field, value), tmp_path)
    assert found.problems and "no file that you have sent" in found.problems[0].message
    assert found.key == ""


def test_two_traces_of_one_name_are_two_runs(tmp_path: Path) -> None:
    rows = b"arrival_s,input_toks,output_toks\n0.0,374,"
    keys = set()
    for user, output in (("a", b"44\n"), ("b", b"45\n")):
        uploads.keep(tmp_path / user, "trace.csv", rows + output)
        keys.add(checked(sent(traced("trace.csv")), tmp_path / user).key)
    assert len(keys) == 2


def test_marks_in_a_name_mean_nothing() -> None:
    text = said("<script>alert(1)</script> ![x](http://evil/) $x$ :material/x: =1+1 `a`")
    assert all(f"\\{mark}" in text for mark in "<>![]()$:=`")
    hostile = shipped("quickstart").with_change("name", "'=HYPERLINK(1)'")
    assert checked(hostile, Path("nowhere")).problems[0].path == "name"


def test_a_run_is_no_longer_and_no_larger_than_settings_allow() -> None:
    few = Settings("/nowhere", longest_s=3600.0, most_gpus=100)
    with pytest.raises(InputError, match="racks: 160 GPUs are over the 100 of this server"):
        check_size(load(), few)
    with pytest.raises(InputError, match="duration: of 2 h, with up to 10 min of drain, is over"):
        check_size(load(None, ["duration=2 h"]), few)
    check_size(load(), Settings("/nowhere"))


KEYS = (
    "name", "site", "sites", "racks", "deployments", "workload", "arrivals", "provisioning",
    "path", "slo", "engine", "model", "a.b", "costs", "grid_limit", "process", "catalog",
)  # fmt: skip
WORDS = st.sampled_from(KEYS)
ANYTHING = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80)
@given(st.dictionaries(WORDS, ANYTHING, max_size=6), st.booleans())
def test_whatever_is_sent_is_shown_and_told_what_is_wrong(given: Any, joined: bool) -> None:
    draft = sent(dict(shipped("quickstart").base) | given if joined else given)
    for section in sections(draft, load_catalog()):
        for field in section.fields:
            draft.text(field.path)
    found = checked(draft, Path("nowhere"))
    assert found.problems or found.key
