"""Pools on a site: what is refused, what is told, power policies, and what theory says of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.experiments.claims import built_in_claims, examine, read_claim
from factory_sim.factory.check import check
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.report.summary import lines
from tests.factory.test_disaggregated_runs import BYTES_PER_TOKEN, disaggregated

SPLIT = (
    "network={links: {kv: {bandwidth: 400 Gbit/s, latency: 10 us}}}",
    "deployments.chat.prefill={replicas: 6, kv_link: kv}",
)


def refused(*overrides: str, split: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        lay_out(fs.load(None, [*(SPLIT if split else ()), *overrides]))
    return "; ".join(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "deployments.chat.prefill.kv_link=nvlink",
            "deployments.chat.prefill.kv_link: there is no link 'nvlink'; known: kv",
        ),
        (
            "network.links.spare={bandwidth: 1 GB/s}",
            "network.links.spare: nothing crosses it; leave it out, or name it as 'kv_link'",
        ),
        ("network.links.kv.bandwidth=400", "write for example '450 GB/s'"),
        ("network.links.kv.bandwidth=0 GB/s", "network.links.kv.bandwidth: must be greater than 0"),
        ("network.links.kv.latency=-1 us", "network.links.kv.latency: must be greater"),
        ("network.links={}", "network.links: must hold at least 1, not 0"),
        (
            "deployments.chat.prefill.per_replica=50 GB/s",
            "prefill.per_replica: is no less than the whole link 'kv'; leave it out",
        ),
        (
            "deployments.chat.prefill.replicas=fill",
            "cannot both fill the same GPUs; give one of them a number",
        ),
        (
            "deployments.chat.replicas={simulate: 4}",
            "with 'prefill' every replica is simulated",
        ),
        (
            "deployments.chat.engine.max_queue=3",
            "wait for their prompt at the prefill pool: give prefill.engine.max_queue",
        ),
        (
            "deployments.chat.prefill.system=dgx-b200",
            "deployments.chat.prefill.system: no rack holds 'dgx-b200'; the racks hold dgx-h100",
        ),
        (
            "deployments.chat.prefill.engine={gpu_memory_utilization: 20 %}",
            "deployments.chat.prefill.parallelism.tp: llama-3.1-70b does not fit",
        ),
        (
            "deployments.chat.prefill.replicas=500",
            "deployments.chat.prefill.replicas: 500 replicas of 4 GPUs need 2000 GPUs",
        ),
        (
            "deployments.chat.prefill.first_token=both",
            "deployments.chat.prefill.first_token: must be 'prefill' or 'decode', not 'both'",
        ),
        ("deployments.chat.prefill.slo={ttft: 1 s}", "deployments.chat.prefill.slo: unknown key"),
    ],
)
def test_what_is_refused(override: str, message: str) -> None:
    assert message in refused(override)


def test_a_pool_without_a_network_is_told_how_to_write_one() -> None:
    assert "the scenario has no 'network'; give one, for example 'network: {links: {kv:" in refused(
        SPLIT[1], split=False
    )


def test_each_pool_has_gpus_settings_and_a_section_of_its_own() -> None:
    scenario = fs.load(
        None,
        [
            *SPLIT,
            "deployments.chat.prefill.parallelism={tp: 8}",
            "deployments.chat.prefill.engine={max_num_batched_tokens: 16384}",
        ],
    )
    decode, prefill = lay_out(scenario).fleets
    assert (decode.name, prefill.name) == ("chat", "chat/prefill")
    assert (decode.gpus_per_replica, prefill.gpus_per_replica) == (4, 8)
    assert (prefill.max_step_tokens, prefill.max_num_seqs) == (16384, 256)
    assert not {g.index for r in decode.replicas for g in r} & {
        g.index for r in prefill.replicas for g in r
    }
    found = check(scenario)
    assert not found.problems
    told = found.sections["Deployment chat"]["KV link"]
    assert told.startswith("kv, 50.00 GB/s: 378.5 MB of a mean prompt in 7.58 ms alone")
    assert "prompts/s a replica" in found.sections["Deployment chat, prefill"]["ideal rate"]
    assert "longest prompt" in found.sections["Deployment chat, prefill"]


def test_prompts_too_long_for_their_pool_are_found_without_a_run() -> None:
    override = "deployments.chat.prefill.engine={max_model_len: 1000}"
    (problem,) = check(fs.load(None, [*SPLIT, override])).problems
    assert "chat/prefill takes at most 1,000" in problem.message


def test_the_summary_has_a_row_for_each_pool_and_a_line_for_the_link() -> None:
    run = simulate(disaggregated(rate="10 /s"))
    text = list(lines("small", run.summary, run.record))
    at = text.index("Pools")
    assert [line.split()[:4] for line in text[at + 2 : at + 4]] == [
        ["decode", "1", "x", "1"],
        ["prefill", "1", "x", "1"],
    ]
    assert text[at + 4].startswith("  link kv                ")
    assert any(line.startswith("  KV cache on its way") for line in text)
    assert max(map(len, text)) <= 80


class TestTheory:
    """Each option moves the result by what it is worth."""

    def run(self, prefill: dict[str, Any] | None = None, **more: Any) -> Run:
        small = {
            "arrivals": {"process": "closed", "concurrency": 1},
            "lengths": {"prompt": 4000, "output": 50},
        }
        return simulate(disaggregated(prefill, **small | more))

    def mean(self, run: Run, name: str) -> float:
        return float(run.requests[f"{name}_ms"].mean())

    def test_a_transfer_takes_bytes_over_bandwidth_and_the_latency(self) -> None:
        run = self.run(link={"bandwidth": "10 GB/s", "latency": "2 ms"})
        expected_ms = 2.0 + 4000 * BYTES_PER_TOKEN / 10e9 * 1e3
        assert self.mean(run, "transfer") == pytest.approx(expected_ms, rel=1e-9)
        fast = self.run(link={"bandwidth": "1e30 byte/s"})
        more_ms = self.mean(run, "e2e") - self.mean(fast, "e2e")
        assert more_ms == pytest.approx(expected_ms, rel=1e-9)
        assert self.mean(run, "ttft") == pytest.approx(self.mean(fast, "ttft"), rel=1e-9)

    def test_a_replica_s_own_limit_is_the_pace_of_one_alone(self) -> None:
        run = self.run({"per_replica": "5 GB/s"}, link={"bandwidth": "10 GB/s"})
        expected_ms = 4000 * BYTES_PER_TOKEN / 5e9 * 1e3
        assert self.mean(run, "transfer") == pytest.approx(expected_ms, rel=1e-9)

    def test_a_first_token_sent_by_who_decodes_comes_a_transfer_later(self) -> None:
        at_once, later = (self.run({"first_token": who}) for who in ("prefill", "decode"))
        waits_ms = self.mean(later, "ttft") - self.mean(at_once, "ttft")
        assert waits_ms == pytest.approx(self.mean(at_once, "transfer"), rel=1e-9)
        assert self.mean(later, "e2e") == pytest.approx(self.mean(at_once, "e2e"), rel=1e-9)

    def test_kv_in_eight_bits_crosses_in_half_the_time(self) -> None:
        scenario = disaggregated(arrivals={"process": "closed", "concurrency": 1})
        given = scenario.deployments["d"].model_copy(update={"kv_precision": "fp8"})
        narrow = simulate(scenario.model_copy(update={"deployments": {"d": given}}))
        ratio = self.mean(narrow, "transfer") / self.mean(simulate(scenario), "transfer")
        assert ratio == pytest.approx(0.5, rel=1e-9)

    def test_a_slow_link_is_what_is_waited_for(self) -> None:
        run = self.run(link={"bandwidth": "100 MB/s"}, duration="30 s")
        pools = run.summary["deployments"]["d"]["pools"]
        assert pools["decode"]["bottleneck"] == "waiting_for_transfer"
        assert pools["decode"]["time_lost"]["waiting_for_transfer"] > 0.8
        assert run.summary["links"]["kv"]["utilisation"]["mean"] > 0.8


@cache
def capped(policy: str) -> Run:
    """Return a run of five racks under a limit that they exceed at full power."""
    return simulate(
        fs.load(
            None,
            [
                *SPLIT,
                "deployments.chat.prefill.replicas=14",
                "duration=15 s",
                "warmup=3 s",
                "drain=0 s",
                "site.grid_limit=180 kW",
                "racks.0.count=5",
                "provisioning.oversubscribe=1.6",
                f"power.policy={policy}",
                "network.links.kv.bandwidth=4 Tbit/s",
            ],
        ),
        debug=True,
    )


@pytest.mark.parametrize("policy", ["clock", "decode-first", "admit", "park"])
def test_pools_are_held_under_the_cap_like_any_fleet(policy: str) -> None:
    guarded, free = (capped(name).summary["cap_overshoot_mwh"] for name in (policy, "none"))
    assert guarded < 0.7 * free
    for pool in capped(policy).summary["deployments"]["chat"]["pools"].values():
        assert sum(pool["time_lost"].values()) == pytest.approx(1.0, rel=1e-9)


def claim(name: str) -> dict[str, float]:
    """Return the figures of a claim that ships."""
    (path,) = [path for path in built_in_claims() if path.stem == f"disaggregation_{name}"]
    (result,) = examine([read_claim(Path(path))])
    return {found.figure.what: found.simulated for found in result.found}


def test_long_prompts_no_longer_stop_answers() -> None:
    found = claim("long_prompts")
    assert found["ITL p99, split over whole"] < 0.2
    assert found["ITL p99, split over whole with small chunks"] < 0.8
    assert found["requests within promise, split over whole"] > 2.0
    assert found["TTFT p99 split"] > found["TTFT p99 whole"]  # the price


def test_short_prompts_and_few_gpus_lose() -> None:
    found = claim("short_prompts")
    assert found["tokens/s, split over whole"] < 0.9
    assert found["end to end with few users, split over whole"] > 1.0
    assert found["tokens/s on eight GPUs, split over whole"] > 0.95
