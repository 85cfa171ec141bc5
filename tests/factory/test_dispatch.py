"""Policies of dispatch, one by one, against deployments that are made up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from scipy.stats import chisquare

from factory_sim.factory.dispatch import DISPATCH, Dispatcher
from factory_sim.factory.dispatch.protocol import Ask, Surroundings
from factory_sim.frozen import validate
from factory_sim.scenario.dispatch import (
    ByClass,
    Cascade,
    Cheapest,
    Cleanest,
    Fallback,
    LeastOutstanding,
    Nearest,
    Weighted,
)

KINDS = {
    "fallback": Fallback,
    "cascade": Cascade,
    "by-class": ByClass,
    "weighted": Weighted,
    "least-outstanding": LeastOutstanding,
    "nearest": Nearest,
    "cheapest": Cheapest,
    "cleanest": Cleanest,
}


@dataclass
class Fake:
    """A deployment that is made up; its price alternates every hour, against its carbon."""

    outstanding: int = 0
    open: bool = True
    dear_first: bool = False

    def price(self, now: float) -> float:
        return 2.0 if (now // 3600 % 2 == 0) == self.dear_first else 1.0

    def carbon(self, now: float) -> float:
        return 3.0 - self.price(now)


def policy(name: str, offers: list[Fake], class_name: str = "w", **options: Any) -> Dispatcher:
    names = ["a", "b", "c"][: len(offers)]
    spec = validate(KINDS[name], {"policy": name, "deployments": names, **options})
    round_trips = [[0.02, 0.3], [0.1, 0.1], [0.2, 0.05]][: len(offers)]
    return DISPATCH[name](spec, Surroundings(names, offers, class_name, round_trips, 7))


def ask(number: int = 0, region: int = 0, now: float = 0.0) -> Ask:
    return Ask(number, region, now)


def test_every_policy_has_a_place_here() -> None:
    assert set(KINDS) == set(DISPATCH)


def test_fallback_takes_the_first_that_is_open_and_has_room() -> None:
    a, b, c = Fake(4), Fake(1), Fake(9)
    falls = policy("fallback", [a, b, c], outstanding=5)
    assert falls.first(ask()) == 0
    a.outstanding = 5
    assert falls.first(ask()) == 1
    b.open = False
    assert falls.first(ask()) == 2  # the last takes what is left
    a.outstanding = 4
    assert falls.first(ask()) == 0


def test_fallback_goes_on_down_the_list_and_asks_nobody_twice() -> None:
    a, b, c = Fake(), Fake(), Fake()
    falls = policy("fallback", [a, b, c], patience="3 s")
    assert falls.then(ask(), [0], "rejected") == 1
    assert falls.then(ask(), [0, 1], "timed_out") == 2
    assert falls.then(ask(), [0, 1, 2], "rejected") is None
    assert falls.then(ask(), [0], "completed") is None
    assert [falls.patience_s(at) for at in range(3)] == [3.0, 3.0, float("inf")]
    b.open = False
    assert falls.then(ask(), [0], "rejected") == 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cascade_escalates_its_share_of_answers(share: float) -> None:
    stages = policy("cascade", [Fake(), Fake()], escalate=share)
    many = 4000
    on = sum(stages.then(ask(n), [0], "completed") == 1 for n in range(many))
    assert chisquare([on, many - on], [share * many, (1 - share) * many]).pvalue > 0.01
    assert stages.then(ask(0), [0], "rejected") is None
    assert stages.then(ask(0), [0, 1], "completed") is None


def test_stages_of_a_cascade_draw_apart_and_the_same_every_time() -> None:
    stages = policy("cascade", [Fake(), Fake(), Fake()], escalate=[0.5, 0.5])
    first = [stages.then(ask(n), [0], "completed") for n in range(2000)]
    second = [stages.then(ask(n), [0, 1], "completed") for n in range(2000)]
    both = Counter(zip(first, second, strict=True))
    assert chisquare(list(both.values())).pvalue > 0.01 and len(both) == 4
    assert first == [stages.then(ask(n), [0], "completed") for n in range(2000)]


def test_each_class_goes_where_its_route_says() -> None:
    routes = {"gold": "b", "bulk": "a"}
    offers = [Fake(), Fake()]
    assert policy("by-class", offers, "gold", routes=routes).first(ask()) == 1
    assert policy("by-class", offers, "bulk", routes=routes).first(ask()) == 0


def test_weights_are_kept() -> None:
    weighted = policy("weighted", [Fake(), Fake(), Fake()], weights={"a": 1, "b": 2, "c": 5})
    found = Counter(weighted.first(ask(number)) for number in range(8000))
    assert chisquare([found[0], found[1], found[2]], [1000, 2000, 5000]).pvalue > 0.01


def test_least_outstanding_goes_by_requests_for_the_weight() -> None:
    a, b = Fake(3), Fake(5)
    assert policy("least-outstanding", [a, b]).first(ask()) == 0
    weighted = policy("least-outstanding", [a, b], weights={"a": 1, "b": 2})
    assert weighted.first(ask()) == 1  # 4 for one against 6 for two
    b.open = False
    assert weighted.first(ask()) == 0


def test_nearest_goes_by_the_region() -> None:
    offers = [Fake(), Fake(), Fake()]
    nearest = policy("nearest", offers)
    assert [nearest.first(ask(region=region)) for region in (0, 1)] == [0, 2]
    offers[2].open = False
    assert nearest.first(ask(region=1)) == 1


def test_cheapest_and_cleanest_go_by_the_signals_of_now() -> None:
    offers = [Fake(dear_first=True), Fake(dear_first=False)]
    cheapest, cleanest = policy("cheapest", offers), policy("cleanest", offers)
    hours = [ask(now=3600.0 * hour) for hour in range(4)]
    assert [cheapest.first(hour) for hour in hours] == [1, 0, 1, 0]
    assert [cleanest.first(hour) for hour in hours] == [0, 1, 0, 1]
    offers[1].open = False
    assert cheapest.first(hours[0]) == 0
