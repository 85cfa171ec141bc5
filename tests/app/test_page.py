"""The page without a browser: what is said, beside which field, and what becomes of a click."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import factory_sim.app
from factory_sim.app.draft import STARTS
from factory_sim.app.page import VIEWS
from factory_sim.app.settings import VARIABLE, Settings
from factory_sim.app.views.answer import ELSEWHERE
from factory_sim.scenario.load import load
from tests.app.conftest import SMALL

SCRIPT = Path(factory_sim.app.__file__).with_name("main.py")

pytestmark = pytest.mark.usefixtures("here")


def opened(**changes: str) -> AppTest:
    """Return the page at a link, once what it asked for is done."""
    page = AppTest.from_file(str(SCRIPT), default_timeout=30)
    for key, value in (SMALL | changes).items():
        page.query_params[key] = value
    return settled(page)


def settled(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def view(page: AppTest, name: str) -> AppTest:
    page.session_state["view"] = name
    return settled(page)


def figure(page: AppTest, label: str) -> float:
    (found,) = [metric.value for metric in page.metric if metric.label == label]
    return float(found.replace(",", ""))


def messages(page: AppTest) -> list[str]:
    """Return what is wrong, as it is read: without the marks that keep it plain text."""
    return [error.value.replace("\\", "") for error in page.error]


def pressed(page: AppTest, label: str) -> AppTest:
    next(each for each in page.button if each.label == label).click()
    return settled(page)


def field(page: AppTest, label: str) -> Any:
    (found,) = [each for each in (*page.text_input, *page.selectbox) if each.label == label]
    return found


def test_it_opens_with_an_answer_and_every_view_shows_something() -> None:
    page = opened()
    assert figure(page, "Output tokens/s") > 0
    assert {metric.label for metric in page.metric} >= {"USD per Mtoken", "Promises"}
    assert any("Quick answer" in caption.value for caption in page.caption)
    for name in VIEWS:
        assert view(page, name).main.children, name
        assert not page.error, name


def test_headings_of_a_table_may_be_alike() -> None:
    def script() -> None:
        from factory_sim.app.show import table

        table([["", "TTFT", "server", "", "server"], ["far away", "1", "2", "3", "4"]])

    page = AppTest.from_function(script).run()
    assert not page.exception
    (found,) = page.table
    assert [name.strip() for name in found.value.columns] == ["TTFT", "server", "", "server"]


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTS)
def test_whatever_ships_opens_in_every_view(
    name: str, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = replace(own, longest_s=86_400.0, most_gpus=100_000)
    monkeypatch.setenv(VARIABLE, large.told())
    page = AppTest.from_file(str(SCRIPT), default_timeout=60)
    page.query_params["from"] = name
    settled(page)
    assert figure(page, "Output tokens/s") > 0
    for each in VIEWS:
        view(page, each)
        assert not page.error, each


def test_a_class_has_its_own_promises() -> None:
    page = opened(**{"from": "classes", "classes.interactive.slo.ttft": "1 ms"})
    (class_,) = [each for each in page.expander if "Class interactive" in each.label]
    labels = {each.label for each in class_.text_input}
    assert {"Priority, 0 first", "Time to first token (s)", "Time per output token (s)"} <= labels
    assert {metric.value for metric in page.metric if metric.label == "Promises"} != {"kept"}


def test_more_power_or_less_is_another_answer_and_the_address_says_so() -> None:
    page = opened(**{"workload.chat.arrivals.rate": "400 /s"})
    before = figure(page, "Output tokens/s")
    field(page, "Power cap at the meter (W)").set_value("110 kW")
    settled(page)
    assert figure(page, "Output tokens/s") < 0.9 * before
    assert page.query_params["site.grid_limit"] == "110 kW"
    again = opened(**dict(page.query_params.items()))
    assert figure(again, "Output tokens/s") == figure(page, "Output tokens/s")


@pytest.mark.parametrize(
    ("label", "path", "text"),
    [
        ("Power cap at the meter (W)", "site.grid_limit", "20"),
        ("Power cap at the meter (W)", "site.grid_limit", "a lot"),
        ("Tensor parallelism, tp", "deployments.chat.parallelism.tp", "-1"),
        ("Time to first token (s)", "deployments.chat.slo.ttft", "2 kW"),
        ("Requests (requests/s)", "workload.chat.arrivals.rate", "0 /s"),
    ],
)
def test_a_bad_value_is_told_as_the_command_line_tells_it(label: str, path: str, text: str) -> None:
    page = opened()
    field(page, label).set_value(text)
    settled(page)
    with pytest.raises(ValueError) as told:
        load(None, [f"{path}={text}"])
    (message,) = messages(page)
    assert message == str(told.value)
    assert [button.disabled for button in page.button if button.label == "Run in full"] == [True]
    field(page, label).set_value("")
    settled(page)
    assert message not in messages(page)


def test_what_only_the_layout_knows_is_said_beside_the_field_too() -> None:
    page = opened()
    field(page, "Racks, or fill").set_value("500")
    settled(page)
    assert any("racks" in error.value for error in page.error)
    field(page, "Racks, or fill").set_value("2")
    settled(page)
    assert not page.error and page.metric


def test_hostile_links_are_told_and_the_page_goes_on() -> None:
    page = opened(**{"from": "<script>alert(1)</script>"})
    assert any("does not ship" in warning.value for warning in page.warning)
    assert page.metric
    page = opened(**{"workload.chat.arrivals.path": "/etc/passwd"})
    assert any(
        "no file that you have sent" in error.value.replace("\\", "") for error in page.error
    )


def test_the_whole_run_is_in_place_of_the_quick_answer() -> None:
    page = opened()
    pressed(page, "Run in full")
    assert any("Full run" in caption.value for caption in page.caption)
    assert [b.disabled for b in page.button if b.label == "Run in full"] == [True]


def test_four_variants_are_compared_and_names_are_plain() -> None:
    page = view(opened(), "Compare")

    def save(name: str) -> None:
        field(page, "Name of this variant").set_value(name)
        pressed(page, "Save this variant")

    save("=cmd|' /C calc'!A0")
    assert any("will not do" in error.value for error in page.error)
    for index in range(4):
        save(f"v{index}")
    assert list(page.session_state["session"].variants) == ["v0", "v1", "v2", "v3"]
    assert [b.disabled for b in page.button if b.label == "Save this variant"] == [True]
    rows = page.table[0].value
    assert list(rows.columns) == ["v0", "v1", "v2", "v3"]
    assert list(pressed(page, "Remove v1").table[0].value.columns) == ["v0", "v2", "v3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "label"), [("Sweep", "Run the sweep"), ("Pareto", "Run at several loads")]
)
def test_many_runs_come_to_a_chart_and_a_table(
    name: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from factory_sim.experiments import pace

    monkeypatch.setattr(pace, "MOST", 200)
    page = view(opened(**{"workload.chat.arrivals.rate": "5 /s"}), name)
    pressed(page, label)
    assert not page.error
    assert len(page.table[0].value) >= 4


def test_chapters_with_a_view_of_their_own_are_those_there_are() -> None:
    page = opened()
    headings = [each.value for each in page.subheader]
    assert headings[0] == "Asked, and at best"
    assert not any(heading.startswith(ELSEWHERE) for heading in headings)
