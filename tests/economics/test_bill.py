"""Bills: whoever holds what, they sum to that of the site, by every component."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.catalog import load_catalog
from factory_sim.economics.bill import Holder, bills, together, total
from factory_sim.economics.terms import terms_of
from factory_sim.economics.tokens import Tokens, costs
from factory_sim.errors import InputError
from factory_sim.frozen import validate
from factory_sim.scenario.money import COMPONENTS, Costs

FACTS = load_catalog()
KINDS = ["gb200", "h100-sxm"]
OWNED: dict[str, Any] = {"like": "us-2025", "demand": {"charge": "15 USD/kW/month"}}
amounts = st.floats(0.0, 1e9)
holders = st.lists(
    st.builds(
        Holder,
        st.uuids().map(str),
        st.fixed_dictionaries({kind: st.floats(0.0, 1e5) for kind in KINDS}),
        amounts,
        amounts,
    ),
    min_size=1,
    max_size=6,
)


@given(holders, st.floats(-1e6, 1e6), amounts, st.sampled_from([OWNED, {"rent": "neocloud"}]))
def test_money_is_conserved(
    who: list[Holder], electricity_usd: float, peak_w: float, given_: dict[str, Any]
) -> None:
    terms = terms_of(validate(Costs, given_), FACTS, KINDS)
    found = bills(terms, who, 3600.0, electricity_usd, peak_w)
    whole = together(found.values())
    everyone = Holder(
        "all",
        {kind: sum(h.gpus[kind] for h in who) for kind in KINDS},
        sum(h.it_w for h in who),
        1.0,
    )
    alone = bills(terms, [everyone], 3600.0, electricity_usd, peak_w)["all"]
    assert set(whole) == set(alone) <= set(COMPONENTS)
    for name, usd in alone.items():
        assert whole[name] == pytest.approx(usd, rel=1e-9, abs=1e-6), name
    parts = sum(total(bill) for bill in found.values())
    assert parts == pytest.approx(total(alone), rel=1e-9, abs=1e-6)


def test_nobody_who_does_nothing_pays_nothing() -> None:
    terms = terms_of(validate(Costs, OWNED), FACTS, KINDS)
    nobody = Holder("nobody", {}, 0.0, 0.0)
    assert total(bills(terms, [nobody], 60.0, 0.0, 0.0)["nobody"]) == 0.0


def test_what_the_scenario_gives_replaces_what_the_catalogue_says() -> None:
    given_ = {"like": "us-2025", "staff": "0 USD/MW/year", "colocation": "100 USD/kW/month"}
    terms = terms_of(validate(Costs, given_), FACTS, ["gb200"])
    assert terms.staff == 0.0
    assert terms.facility == 0.0
    assert "facility" not in terms.counted


def test_what_has_no_price_is_asked_for() -> None:
    with pytest.raises(InputError, match="of 'l4'; give one") as error:
        terms_of(validate(Costs, {"like": "us-2025"}), FACTS, ["l4"])
    assert error.value.problems[0].path == "costs.equipment.price"


def test_a_base_without_tokens_has_no_cost() -> None:
    bill = {"rent": 10.0}
    assert set(costs(bill, 0.0, 60.0, Tokens())) == {"cost_usd", "costs_usd"}
    found = costs(bill, 2.0, 3600.0, Tokens(input=1e6))
    assert found["usd_per_gpu_h"] == 5.0
    assert found["usd_per_million_input_tokens"] == 10.0
    assert "usd_per_million_output_tokens" not in found


def test_prompts_and_answers_share_the_bill() -> None:
    tokens = Tokens(input=8e6, cached=4e6, output=1e6, prompt_share=0.25)
    found: Any = costs({"rent": 16.0}, 1.0, 3600.0, tokens)
    kinds = found["usd_per_million_by_kind"]
    assert kinds == {"input": 0.5, "computed_input": 1.0, "cached_input": 0.0, "output": 12.0}
    assert 8.0 * kinds["input"] + 1.0 * kinds["output"] == pytest.approx(16.0)
