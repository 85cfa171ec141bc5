"""OEE of whole runs: the tree of losses holds every GPU-second once, and each loss where it is."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from factory_sim.factory.run import simulate
from factory_sim.scenario.load import scenario_from
from tests.options.board import base, put

PARTS = [
    "plain",
    "crowded",
    "tight",
    "talking",
    "experts",
    "drafting",
    "pools",
    "seeing",
    "failing",
    "two_sites",
    "capped",
]
BESIDE = ("no_demand", "stopped")


@cache
def summary(name: str, **changes: Any) -> dict[str, Any]:
    given = base(name)
    for path, value in changes.items():
        put(given, path.replace("__", "."), value)
    return dict(simulate(scenario_from(given)).summary)


@pytest.mark.parametrize("name", PARTS)
def test_the_tree_sums_to_one_and_the_product_is_what_is_useful(name: str) -> None:
    found = summary(name)
    for part in (found, *found["deployments"].values(), *found.get("sites", {}).values()):
        if "oee" in part:
            assert_whole(part)
        else:  # it made nothing: users went where it is cheapest
            assert (name, part["output_tokens_per_s"]) == ("two_sites", 0.0)


def assert_whole(part: dict[str, Any]) -> None:
    leaves, oee = part["oee_losses"], part["oee"]
    assert sum(leaves.values()) == pytest.approx(1.0, abs=1e-9)
    assert min(leaves.values()) > 0.0
    product = oee["availability"] * oee["performance"] * oee["quality"]
    assert oee["oee"] == pytest.approx(product, rel=1e-12)
    planned = 1.0 - sum(leaves.get(leaf, 0.0) for leaf in BESIDE)
    assert oee["oee"] * planned == pytest.approx(leaves["useful"], rel=1e-9)
    assert all(0.0 <= share <= 1.0 for share in oee.values())


def test_every_loss_of_the_clock_is_where_the_ledger_has_it() -> None:
    for name in ("capped", "pools", "failing"):
        found = summary(name)
        for leaf in ("power_throttled", "waiting_for_transfer"):
            in_ledger = found["time_lost"].get(leaf, 0.0)
            assert found["oee_losses"].get(leaf, 0.0) == pytest.approx(in_ledger, abs=1e-9)


def test_what_fails_is_not_available() -> None:
    found = summary("failing")
    lost = found["time_lost"]
    away = lost.get("down", 0.0) + lost.get("loading", 0.0)
    assert found["oee_losses"]["failures"] == pytest.approx(away, rel=1e-9)
    assert found["oee"]["availability"] < 1.0
    assert summary("plain")["oee"]["availability"] == 1.0


def test_replicas_that_start_are_cold() -> None:
    found = summary("scaled")
    assert_whole(found)
    assert found["oee_losses"]["cold_starts"] > 0.0
    assert found["oee_losses"]["stopped"] == pytest.approx(found["time_lost"]["stopped"])
    assert "failures" not in found["oee_losses"]


def test_waiting_for_images_is_a_loss_of_performance() -> None:
    found = summary("encoding", network__fabric=None)
    assert_whole(found)
    waited = found["time_lost"]["waiting_for_encoder"]
    assert found["oee_losses"]["waiting_for_encoder"] == pytest.approx(waited, rel=1e-9)


def test_idle_time_is_beside_and_no_loss() -> None:
    few, many = (summary("plain", workload__w__arrivals__rate=rate) for rate in ("2 /s", "40 /s"))
    assert few["oee_losses"]["no_demand"] > many["oee_losses"]["no_demand"]
    assert few["oee_losses"]["no_demand"] == pytest.approx(few["time_lost"]["waiting_for_work"])


def test_small_batches_are_a_loss_of_performance() -> None:
    few, many = (summary("plain", workload__w__arrivals__rate=rate) for rate in ("2 /s", "200 /s"))
    assert few["oee"]["performance"] < 0.5 * many["oee"]["performance"]


def test_late_tokens_are_a_loss_of_quality() -> None:
    kept = summary("crowded")
    late = summary("crowded", deployments__d__slo__ttft="30 ms")
    assert kept["oee"]["quality"] == 1.0
    missed = 1.0 - late["oee"]["quality"]
    assert 0.1 < missed < 1.0
    best = late["oee_losses"]["useful"] + late["oee_losses"]["slo_missed"]
    assert late["oee_losses"]["slo_missed"] / best == pytest.approx(missed, rel=1e-9)
    assert late["oee"]["performance"] == pytest.approx(kept["oee"]["performance"], rel=1e-12)


def test_what_is_computed_again_is_a_loss_of_quality() -> None:
    found = summary("tight")
    made = found["output_tokens_per_s"] * 2.0 + found["recomputed_tokens"]
    quality = found["oee"]["quality"]
    assert 1.0 - quality >= found["recomputed_tokens"] / made * (1.0 - 1e-3)


def test_who_makes_nothing_is_without_demand_and_not_forgotten() -> None:
    found = summary("two_sites")
    assert found["deployments"]["e"]["output_tokens_per_s"] == 0.0
    assert found["oee_losses"]["no_demand"] > 1.0 / 3.0  # one replica of three
    assert found["oee"] == pytest.approx(found["sites"]["a"]["oee"], rel=1e-12)


def test_racks_have_their_own() -> None:
    found = summary("pools_at_fabric", racks__0__count=2, racks__0__servers_per_rack=1)
    assert len(found["oee_racks"]) == 2
    lowest, highest = sorted(rack["oee"] for rack in found["oee_racks"].values())
    assert lowest < found["oee"]["oee"] < highest


def test_without_tokens_there_is_no_oee() -> None:
    assert "oee" not in summary("plain", workload__w__arrivals__rate="1e-6 /s")
