"""The arithmetic and the figures that others publish."""

from __future__ import annotations

import pytest

from factory_sim.catalog import Fact, load_catalog
from factory_sim.economics.bill import Holder, bills, total
from factory_sim.economics.capital import HOUR_S
from factory_sim.economics.terms import terms_of
from factory_sim.economics.tokens import usd_per_million
from factory_sim.frozen import validate
from factory_sim.scenario.money import Costs

FACTS = load_catalog()


@pytest.mark.parametrize(
    ("usd_per_gpu_h", "tokens_per_s_per_gpu", "published"),
    [(1.41, 93.25, 4.20), (2.65, 5_900.0, 0.125), (2.65, 6_000.0, 0.123)],
)
def test_dollars_of_a_million_tokens(
    usd_per_gpu_h: float, tokens_per_s_per_gpu: float, published: float
) -> None:
    found = usd_per_million(usd_per_gpu_h, tokens_per_s_per_gpu)
    assert found == pytest.approx(published, rel=0.5 / 100)


def test_every_price_has_its_day() -> None:
    shelves = (FACTS.gpu_prices, FACTS.site_costs, FACTS.token_prices)
    found = [figure for shelf in shelves for entry in shelf.values() for _, figure in entry]
    facts = [figure for figure in found if isinstance(figure, Fact)]
    assert len(facts) > 40
    assert all(fact.date[:2] == "20" for fact in facts)


@pytest.mark.parametrize(
    ("owner", "published"), [("hyperscaler", 1.41), ("neocloud", 1.74), ("rental", 1.60)]
)
def test_an_owner_pays_what_is_published(owner: str, published: float) -> None:
    costs = validate(Costs, {"rent": owner})
    paid = terms_of(costs, FACTS, ["h200-sxm"]).rent["h200-sxm"]
    assert paid * HOUR_S == pytest.approx(published)


def gb200(electricity_usd: float) -> dict[str, float]:
    """Return the bill of a GB200 in a site of its owner's, for an hour."""
    terms = terms_of(validate(Costs, {"like": "us-2025"}), FACTS, ["gb200"])
    gpu = Holder("gpu", {"gb200": 1.0}, 1870.0, 1.0)
    return dict(bills(terms, [gpu], HOUR_S, electricity_usd, 0.0)["gpu"])


def test_owning_costs_an_hour_what_semianalysis_says() -> None:
    bill = gb200(2.10 * 0.07)  # kW at the meter, provisioned
    assert 2.21 < total(bill) < 2.75  # of a hyperscaler and of a neocloud
    assert bill["electricity"] < 0.2 * total(bill)


def test_a_gigawatt_costs_what_bernstein_says() -> None:
    price = FACTS.gpu_prices["gb200"].equipment
    assert price is not None
    gpus_per_w = 1.0 / 2100.0
    building = FACTS.site_costs["us-2025"].construction.value * 1870.0
    assert 1e9 * gpus_per_w * (price.value + building) == pytest.approx(35e9, rel=0.10)
