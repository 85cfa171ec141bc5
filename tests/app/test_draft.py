"""A draft is a file with changes: it runs, it fits into a link, and it is read again with doubt."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from factory_sim.app.draft import MOST_TEXT, STARTS, linked, sent, shipped, written
from factory_sim.app.fields import beside, changed, paths, sections, slide
from factory_sim.app.schema import hint
from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError, Problem
from factory_sim.scenario.load import built_in, load, scenario_from


@pytest.mark.parametrize("name", STARTS)
def test_every_start_is_as_it_ships_and_all_its_fields_are_in_the_schema(name: str) -> None:
    draft = shipped(name)
    assert scenario_from(draft.given()) == load(built_in(name))
    for section in sections(draft, load_catalog()):
        for field in section.fields:
            assert hint(field.path) == field.hint
            text = draft.text(field.path)
            assert draft.with_change(field.path, text).changes == {}


def test_a_change_is_one_as_after_set_and_the_file_runs() -> None:
    draft = shipped("quickstart").with_change("site.grid_limit", " 150 kW ")
    assert draft.changes == {"site.grid_limit": "150 kW"}
    expected = load(None, ["site.grid_limit=150 kW"])
    assert scenario_from(yaml.safe_load(draft.yaml())) == expected
    assert linked(draft.link()) == draft
    assert draft.with_change("site.grid_limit", "190 kW").changes == {}


def test_what_is_left_out_goes_with_what_held_nothing_else() -> None:
    draft = shipped("quickstart").with_change("provisioning.oversubscribe", "")
    assert "provisioning" not in draft.given()
    assert draft.text("provisioning.oversubscribe") == ""
    price = shipped("quickstart").with_change("site.price", "70 USD/MWh")
    assert price.with_change("site.price", "").changes == {}


def test_a_plant_is_in_place_of_a_pue_and_a_trace_of_lengths() -> None:
    draft = changed(shipped("quickstart"), "site.cooling", "air")
    assert scenario_from(draft.given()).site.pue is None
    back = changed(draft, "site.pue", "1.2")
    assert scenario_from(back.given()).site.pue == 1.2
    traced = changed(
        shipped("quickstart"), "workload.chat.arrivals", "{process: trace, path: a.csv}"
    )
    assert "lengths" not in traced.given()["workload"]["chat"]


def test_a_word_for_a_part_is_written_out() -> None:
    draft = shipped("priced_20mw")
    assert draft.text("provisioning.basis") == "measured-peak"
    more = draft.with_change("provisioning.oversubscribe", "1.2")
    assert scenario_from(more.given()).provisioning.basis == "measured-peak"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"from": "../../etc/passwd"}, "send that file first"),
        ({"from": "quickstart", "site.grid_limit": "x" * (MOST_TEXT + 1)}, "more than a link"),
        ({"from": "quickstart", **{f"a{n}": "1" for n in range(300)}}, "more than a link"),
    ],
)
def test_a_link_that_is_none_is_refused(query: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        linked(query)


def test_a_link_to_a_file_that_was_sent_needs_the_file() -> None:
    mine = sent({**shipped("quickstart").base, "name": "mine"})
    draft = mine.with_change("seed", "7")
    assert linked(draft.link(), mine) == draft
    with pytest.raises(InputError, match="send that file first"):
        linked(draft.link())


@pytest.mark.parametrize("text", ["[1, 2", "&a [*a, *a]", "{a: " * 50 + "}" * 50, "2020-99-99"])
def test_what_is_no_value_is_said_beside_its_field(text: str) -> None:
    with pytest.raises(InputError) as refused:
        shipped("quickstart").with_change("site.grid_limit", text).given()
    assert [problem.path for problem in refused.value.problems] == ["site.grid_limit"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=40)
@given(VALUES)
@example({"\n": None})
def test_a_value_is_written_so_that_it_is_read_again(value: object) -> None:
    text = written(value)
    assert "\n" not in text or isinstance(value, str)
    assert (yaml.safe_load(text) if text else None) == value or value in ("", None)


def test_problems_stand_beside_their_fields() -> None:
    known = paths(sections(shipped("quickstart"), load_catalog()))
    problems = [
        Problem("site.grid_limit", "is none"),
        Problem("site.weather.dry_bulb.daily.0", "is none"),
        Problem("site", "give either"),
    ]
    by_field, others = beside(problems, known)
    assert by_field == {
        "site.grid_limit": ["is none"],
        "site.weather.dry_bulb": ["daily.0: is none"],
    }
    assert others == [Problem("site", "give either")]


def test_a_slider_goes_round_what_was_said() -> None:
    found = {f.path: f for s in sections(shipped("quickstart"), load_catalog()) for f in s.fields}
    cap = found["site.grid_limit"]
    assert cap.heading == "Power cap at the meter (W)" and "Above 0." in cap.hint.help
    assert slide(cap, "190 kW", "190 kW") == (47.5, 760.0, 190.0, "kW")
    assert slide(cap, "{steps: [[0 s, 1 MW]]}", "190 kW") is None
    assert slide(cap, "0.3 MW", "190 kW") is None  # another unit than it began with
    assert slide(found["site.pue"], "1.3", "1.3") is None
