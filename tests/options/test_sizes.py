"""By how much an option changes what a run gives, where a closed form says so.

The others are tested beside what they belong to; `sizes.yaml` says where.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import yaml

from factory_sim.catalog import load_catalog
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.factory.training.holding import Holding
from factory_sim.scenario.load import scenario_from
from tests.options.board import base, outcome, put, table
from tests.options.schema import options


def given(name: str, **changes: Any) -> dict[str, Any]:
    """Return a small scenario of the table, changed; `__` in a name is the dot of a path."""
    plain = base(name)
    for path, value in changes.items():
        put(plain, path.replace("__", "."), value)
    return plain


def run(name: str, **changes: Any) -> Run:
    return simulate(scenario_from(given(name, **changes)), debug=True)


def fleet(name: str, **changes: Any) -> Fleet:
    return lay_out(scenario_from(given(name, **changes))).fleets[0]


def job(**changes: Any) -> Holding:
    return lay_out(scenario_from(given("training", **changes))).holdings[0]


TESTS = Path(__file__).parents[1]
SIZES = yaml.safe_load((TESTS / "options" / "sizes.yaml").read_text(encoding="utf-8"))
TECHNIQUES = (
    "network",
    "deployments",
    "classes",
    "services",
    "regions",
    "training",
    *(f"workload.*.{part}" for part in ("class", "tenants", "sessions", "reasoning", "images")),
    "workload.*.mix.*.images",
    "workload.*.mix.*.reasoning",
    "workload.*.regions",
)
"""Options of what a factory does beyond serving one workload."""


def shown_by(path: str) -> list[str]:
    """Return where the size of an option's effect is tested."""
    found = SIZES["tests"].get(path)
    if found is None:
        for place, like in SIZES["as"].items():
            if path.startswith(f"{place}."):
                return shown_by(like + path.removeprefix(place))
    return [found] if isinstance(found, str) else found or []


@pytest.mark.parametrize(
    "path",
    [
        path
        for path, option in options().items()
        if path.startswith(TECHNIQUES)
        and not option.holds
        and (path not in table() or table()[path].values)
        and path != "deployments.*.model"
    ],
)
def test_the_size_of_its_effect_is_tested(path: str) -> None:
    named = shown_by(path)
    assert named
    for each in named:
        file, _, test = each.partition("::")
        assert f"def {test}(" in (TESTS / file).read_text(encoding="utf-8"), each


class TestEngines:
    def test_memory_that_is_used_more_is_blocks(self) -> None:
        less, more = (
            fleet("plain", deployments__d__engine={"gpu_memory_utilization": share})
            for share in ("50 %", "90 %")
        )
        block_bytes = 16 * 2 * 32 * 8 * 128 * 2  # tokens, K and V, layers, heads, width, bytes
        gained = 0.4 * less.accelerator.need("hbm") / block_bytes
        assert more.memory.blocks - less.memory.blocks == pytest.approx(gained, abs=1.0)

    def test_a_cache_in_eight_bits_has_room_for_twice_the_tokens(self) -> None:
        wide, narrow = (fleet("plain", deployments__d__kv_precision=p) for p in ("bf16", "fp8"))
        assert narrow.memory.tokens == pytest.approx(2 * wide.memory.tokens, rel=1e-3)

    def test_requests_that_are_too_long_are_refused_and_no_other(self) -> None:
        table = run("plain", deployments__d__engine={"max_model_len": 300}).requests
        too_long = table["prompt_tokens"] + table["output_tokens"].fillna(20).clip(lower=20) > 300
        assert too_long.any() and not too_long.all()
        assert ((table["outcome"] == "rejected") == too_long).all()

    @pytest.mark.parametrize("room", [1, 3, 7])
    def test_a_full_queue_refuses_the_rest(self, room: int) -> None:
        at_once = {"process": "offline", "requests": 20}
        table = run(
            "crowded", deployments__d__engine__max_queue=room, workload__w__arrivals=at_once
        ).requests
        assert (table["outcome"] == "completed").sum() == room
        assert (table["outcome"] == "rejected").sum() == 20 - room

    def test_a_profile_adds_what_its_host_takes(self) -> None:
        alone = {"process": "closed", "concurrency": 1}
        tpot_s = {
            name: run(
                "plain",
                workload__w__arrivals=alone,
                deployments__d__engine={"profile": name, "async_scheduling": False},
            ).summary["tpot_ms"]["mean"]
            / 1e3
            for name in ("ideal", "vllm")
        }
        host = load_catalog(None).engine("vllm")
        takes_s = host.per_step.value + host.per_sequence.value + 32 * host.launch_per_layer.value
        assert tpot_s["vllm"] - tpot_s["ideal"] == pytest.approx(takes_s, rel=0.02)

    def test_a_gpu_that_reads_faster_decodes_faster_by_as_much(self) -> None:
        alone = {"process": "closed", "concurrency": 1}
        reading_s, bandwidth = {}, {}
        for system in ("dgx-h100", "dgx-h200"):
            changes = {"racks__0__system": system, "workload__w__arrivals": alone}
            found = run("plain", **changes).summary
            lost = found["deployments"]["d"]["time_lost"]["memory"]
            reading_s[system] = lost / found["output_tokens_per_s"]
            bandwidth[system] = fleet("plain", **changes).accelerator.need("hbm_bandwidth")
        gain = reading_s["dgx-h100"] / reading_s["dgx-h200"]
        assert gain == pytest.approx(bandwidth["dgx-h200"] / bandwidth["dgx-h100"], rel=0.03)


class TestPromises:
    @pytest.mark.parametrize("figure", ["ttft", "tpot", "e2e"])
    def test_a_promise_is_kept_to_those_within_it(self, figure: str) -> None:
        limit_ms = run("crowded").requests[f"{figure}_ms"].median()
        found = run("crowded", deployments__d__slo={figure: f"{limit_ms} ms"})
        kept = found.requests[f"{figure}_ms"] <= limit_ms
        assert (found.requests["slo_met"] == kept).all()
        assert 0.4 < kept.mean() < 0.6

    @pytest.mark.parametrize(("percentile", "met"), [(40, True), (60, False)])
    def test_it_is_met_where_so_many_are(self, percentile: float, met: bool) -> None:
        limit_ms = run("crowded").requests["ttft_ms"].median()
        slo = {"ttft": f"{limit_ms} ms", "percentile": percentile}
        assert run("crowded", deployments__d__slo=slo).summary["slo"]["met"] is met


class TestWhatIsAsked:
    @pytest.mark.parametrize(("share", "count", "tokens"), [(1.0, 2, 300), (0.4, 3, 200)])
    def test_images_lengthen_prompts(self, share: float, count: int, tokens: int) -> None:
        images = {"share": share, "count": count, "tokens": tokens}
        changes = {"workload__w__arrivals__rate": "200 /s"}
        text = run("seeing", workload__w__images=None, **changes).requests["prompt_tokens"]
        shown = run("seeing", workload__w__images=images, **changes).requests["prompt_tokens"]
        more = shown - text
        assert set(more.unique()) <= {0, count * tokens}
        off = 3 * sqrt(share * (1 - share) / len(more))
        assert (more > 0).mean() == pytest.approx(share, abs=off + 1e-12)

    @pytest.mark.parametrize(("share", "tokens"), [(1.0, 40), (0.3, 25)])
    def test_reasoning_lengthens_answers(self, share: float, tokens: int) -> None:
        changes = {"workload__w__arrivals__rate": "200 /s"}
        reasoning = {"share": share, "tokens": tokens}
        made = run("plain", workload__w__reasoning=reasoning, **changes).requests["output_tokens"]
        assert set((made - 20).unique()) <= {0, tokens}
        off = 3 * sqrt(share * (1 - share) / len(made))
        assert (made > 20).mean() == pytest.approx(share, abs=off + 1e-12)

    @pytest.mark.parametrize("turns", [2, 5])
    def test_a_session_asks_so_often(self, turns: int) -> None:
        few = {"process": "constant", "rate": "3 /s", "requests": 4}
        sessions = {"workload__w__sessions__turns": turns, "workload__w__arrivals": few}
        assert len(run("talking", duration="20 s", **sessions).requests) == 4 * turns


class TestNetworks:
    def test_a_kind_of_fabric_is_what_the_catalogue_says_of_it(self) -> None:
        kind = load_catalog(None).fabric("meta-roce")
        said = {
            "network__fabric__oversubscription": kind.oversubscription.value,
            "network__fabric__latency": f"{kind.latency.value} s",
        }
        apart = {
            "racks": [{"system": "dgx-h100", "count": 2, "servers_per_rack": 1}],
            "network__fabric__leaf": "rack",
        }
        named = given("pools_at_fabric", network__fabric__kind="meta-roce", **apart)
        assert outcome(named) == outcome(given("pools_at_fabric", **apart, **said))
        assert outcome(named) != outcome(given("pools_at_fabric", **apart))


class TestScaling:
    @pytest.mark.parametrize("initial", [1, 3])
    def test_so_many_are_up_at_the_start(self, initial: int) -> None:
        series = run("scaled", duration="4 s", deployments__d__autoscaling__initial=initial)
        assert series.timeseries["d.replicas_up"].iloc[0] == initial

    @pytest.mark.parametrize("least", [1, 2])
    def test_so_many_are_left_where_nobody_comes(self, least: int) -> None:
        scaling = {"policy": "reactive", "outstanding": 4, "min": least, "initial": 4}
        nobody = {"process": "poisson", "rate": "1e-9 /s"}
        series = run(
            "scaled",
            duration="60 s",
            deployments__d__autoscaling={**scaling, "period": "2 s", "stabilisation": "4 s"},
            workload__w__arrivals=nobody,
            network=None,
        ).timeseries
        assert series["d.replicas_up"].iloc[-1] == least


class TestTraining:
    @pytest.mark.parametrize(
        ("changes", "ratio"),
        [
            ({"training__t__global_batch": 262144}, 2.0),
            ({"training__t__kernel_mfu": "20 %"}, 2.0),
            ({"training__t__gpus": 8}, 2.0),
            ({"training__t__precision": "fp8"}, 989.4 / 1978.9),
        ],
        ids=["global_batch", "kernel_mfu", "gpus", "precision"],
    )
    def test_a_step_computes_its_flops_at_the_pace_of_all(
        self, changes: dict[str, Any], ratio: float
    ) -> None:
        before_s, after_s = (job(**c).rhythm.computing_s for c in ({}, changes))
        assert after_s / before_s == pytest.approx(ratio, rel=1e-3)

    def test_parameters_that_no_token_passes_cost_no_flops(self) -> None:
        sizes = {"training__t__model": None, "training__t__parameters": 8e9}
        dense, sparse = job(**sizes), job(**sizes, training__t__active_parameters=2e9)
        assert sparse.rhythm.computing_s == pytest.approx(dense.rhythm.computing_s / 4, rel=1e-12)
        assert sparse.rhythm.communicating_s == dense.rhythm.communicating_s

    def test_a_run_of_more_tokens_takes_longer_by_as_much(self) -> None:
        days = [
            run("training", training__t__tokens=tokens).summary["training"]["t"]["whole_run"]
            for tokens in (1e12, 3e12)
        ]
        assert days[1]["days"] == pytest.approx(3 * days[0]["days"], rel=1e-9)
