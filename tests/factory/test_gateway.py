"""The gateway: who is sent where, what it notes, and how old its figures may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from factory_sim.factory.engine.request import Request
from factory_sim.factory.gateway import OUTCOMES, Gateway
from factory_sim.factory.routing import ROUTING
from factory_sim.factory.run import Run, simulate
from factory_sim.factory.timetable import ARRIVAL, Timetable
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario
from tests.factory.test_replica import build

DRAFTS = {"num_speculative_tokens": 3, "acceptance": 0.6, "draft": "ngram"}


def gateway(env: Timetable, policy: str, replicas: int = 2, stale_s: float = 0.0) -> Gateway:
    made = Gateway(env, ROUTING[policy](np.random.default_rng(0)), stale_s)
    for number in range(replicas):
        replica = build(env, made.leave, max_queue=1, slots=1)
        replica.number = number
        made.adopt(replica)
    return made


def send(to: Gateway, number: int, at: float, output: int) -> None:
    request = Request(number, at, 1, output)
    to.env.call(at, ARRIVAL, lambda _: to.arrive(request))


def test_round_robin_goes_round(env: Timetable) -> None:
    door = gateway(env, "round-robin", replicas=3)
    for number in range(6):
        send(door, number, at=10.0 * number, output=1)
    env.run()
    assert door.table()["replica"].tolist() == [0, 1, 2, 0, 1, 2]


def test_least_outstanding_sees_the_completions_of_its_own_instant(env: Timetable) -> None:
    door = gateway(env, "least-outstanding")
    send(door, 0, at=0.0, output=9)
    send(door, 1, at=0.5, output=2)
    send(door, 2, at=2.5, output=1)  # replica 1 has just become free
    env.run()
    rows = np.sort(door.table(), order="number")
    assert rows["replica"].tolist() == [0, 1, 1]
    assert rows["end_s"].tolist() == [9.0, 2.5, 3.5]


@pytest.mark.parametrize(("stale_s", "replica"), [(0.0, 1), (5.0, 0)])
def test_stale_figures_mislead(env: Timetable, stale_s: float, replica: int) -> None:
    door = gateway(env, "least-outstanding", stale_s=stale_s)
    send(door, 0, at=0.0, output=9)
    send(door, 1, at=1.5, output=1)
    env.run()
    rows = np.sort(door.table(), order="number")
    assert rows["replica"].tolist() == [0, replica]


def test_every_end_is_noted_and_the_stays_add_up(env: Timetable) -> None:
    door = gateway(env, "round-robin", replicas=1)
    send(door, 0, at=0.0, output=4)
    send(door, 1, at=0.5, output=9)
    send(door, 2, at=1.0, output=1)  # 1 waits, and nobody else may
    env.run(until=6.0)
    assert door.inside == 1
    assert door.request_seconds() == 4.0 + 5.5
    door.close()
    rows = np.sort(door.table(), order="number")
    assert [OUTCOMES[code] for code in rows["outcome"]] == ["completed", "unfinished", "rejected"]
    assert rows["end_s"].tolist()[::2] == [4.0, 1.0]
    assert np.isnan(rows["end_s"][1])


def test_who_is_stranded_waits_for_a_replica_or_until_its_client_has_gone(env: Timetable) -> None:
    door = gateway(env, "round-robin", replicas=1)
    (replica,) = door.replicas
    replica.set_open("down", False)
    for number, due_s in enumerate((3.0, float("inf"))):
        request = Request(number, 1.0, 1, 2, due_s=due_s)
        env.call(1.0, ARRIVAL, lambda _, request=request: door.arrive(request))
    env.timeout(9.0).callbacks.append(lambda _: replica.set_open("down", True))
    env.run()
    rows = np.sort(door.table(), order="number")
    assert [OUTCOMES[code] for code in rows["outcome"]] == ["timed_out", "completed"]
    assert rows["end_s"].tolist() == [3.0, 11.0]
    assert np.isnan(rows["admitted_s"][0])
    assert door.request_seconds() == 2.0 + 10.0


def test_a_parked_replica_is_better_than_none(env: Timetable) -> None:
    door = gateway(env, "least-outstanding")
    first, second = door.replicas
    second.set_open("parked", False)
    send(door, 0, at=0.0, output=1)
    env.timeout(5.0).callbacks.append(lambda _: first.set_open("down", False))
    send(door, 1, at=6.0, output=1)
    env.run()
    rows = np.sort(door.table(), order="number")
    assert rows["replica"].tolist() == [0, 1]
    assert rows["end_s"].tolist() == [1.0, 7.0]


def test_of_several_parked_replicas_one_alone_stands_in(env: Timetable) -> None:
    door = gateway(env, "round-robin", replicas=3)
    first, *parked = door.replicas
    for replica in parked:
        replica.set_open("parked", False)
    first.set_open("down", False)
    for number in range(2):
        send(door, number, at=5.0 * number, output=1)
    env.run()
    assert door.table()["replica"].tolist() == [1, 1]


def test_power_aware_counts_a_queue_in_the_time_that_its_clock_makes_of_it(env: Timetable) -> None:
    door = gateway(env, "power-aware")
    door.replicas[0].clock = 0.4
    for number in range(3):
        send(door, number, at=0.1 * number, output=9)
    env.run()
    rows = np.sort(door.table(), order="number")
    # One request at 40 % of the clock counts as two and a half: the first two go elsewhere.
    assert rows["replica"].tolist() == [1, 1, 0]


def test_old_figures_send_herds() -> None:
    """Whoever comes between two looks goes to the same replica (Mitzenmacher 2000).

    With service of s and looks every T a herd is of rate * T requests, which wait for
    (rate * T - 1) / 2 services of each other in the mean; a fresh look beats chance, an old one
    does not.
    """
    load = {"max_num_seqs": 1}, {"prompt": 100, "output": 20}

    def waited(router: object) -> Run:
        engine, lengths = load
        return simulate(
            small_scenario(
                duration="30 s",
                replicas=8,
                router=router,
                rate="40 /s",
                engine=engine,
                lengths=lengths,
            )
        )

    fresh, chance = waited("least-outstanding"), waited("random")
    old = waited({"policy": "least-outstanding", "staleness": "1 s"})
    first_ms = fresh.summary["ttft_ms"]["mean"]
    assert first_ms < chance.summary["ttft_ms"]["mean"] < old.summary["ttft_ms"]["mean"]
    service_ms = fresh.requests["e2e_ms"].min()  # nobody was before it
    herd_ms = (40.0 * 1.0 - 1.0) / 2.0 * service_ms
    assert old.summary["ttft_ms"]["mean"] == pytest.approx(herd_ms, rel=0.15)


# The end of a run.


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, 1),
        ({"engine": {"speculation": DRAFTS}}, 4),
        ({"parallelism": {"tp": 1, "pp": 2}}, 1),
        ({"model": "qwen3-30b-a3b", "parallelism": {"tp": 1, "dp": 2, "ep": 2}}, 1),
        ({"prefill": {"replicas": 1, "kv_link": "kv"}}, 1),
    ],
)
def test_who_is_cut_off_by_the_end_shows_what_was_made(given: dict[str, Any], most: int) -> None:
    """All tokens are in the rows of requests, but for the part of a step under way."""
    scenario = small_scenario(
        duration="3 s",
        rate="20 /s",
        lengths={"prompt": 100, "output": 300},
        reasoning={"share": 0.5, "tokens": {"uniform": {"low": 5, "high": 400}}},
    )
    given = {"replicas": 1, **given}
    told = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    told["deployments"]["d"] |= given
    told["network"] = {"links": {"kv": {"bandwidth": "400 Gbit/s", "latency": "10 us"}}}
    if "prefill" not in given:
        del told["network"]
    run = simulate(validate(Scenario, told | {"drain": "0 s"}), debug=True)
    table = run.requests
    cut = table[table["outcome"] == "unfinished"]
    assert len(cut) > 15
    made = 3.0 * run.summary["output_tokens_per_s"]
    late = made - table["output_tokens"].sum()
    assert 0.0 <= late + 1e-6 < 1 + most * len(cut)
    # Whose answer has begun has made a token of it, and nobody else.
    thinks = cut[(cut["reasoning_tokens"] > 0) & ~cut["ttft_ms"].isna()]
    begun = ~thinks["ttfo_ms"].isna()
    assert 0 < begun.sum() < len(thinks)
    assert ((thinks["output_tokens"] > thinks["reasoning_tokens"]) == begun).all()
