"""A share of a site stands for all of it: who is chosen, and how often its intervals are right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import factory_sim as fs
from factory_sim.cli import main
from factory_sim.errors import InputError
from factory_sim.experiments.biases import REACH, Away, away, with_failures, with_routing
from factory_sim.experiments.sampling import excess, sampled
from factory_sim.factory.kernel.compiled import missing
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import simulate
from factory_sim.frozen import validate
from factory_sim.metrics.sampled import relative_widths
from factory_sim.scenario.load import to_yaml
from factory_sim.scenario.scenario import Scenario


def hall(
    router: Any, seed: int = 1, racks: int = 8, rate: float = 17.6, **changes: Any
) -> Scenario:
    """Return a hall of racks of 32 replicas, each sent so many requests a second."""
    given = {
        "name": "hall",
        "seed": seed,
        "duration": "5 min",
        "warmup": "1 min",
        "kernel": "auto",
        "recording": "aggregate",
        "site": {"grid_limit": "20 MW", "pue": 1.2},
        "racks": [{"system": "dgx-h100", "count": racks}],
        "deployments": {
            "chat": {
                "model": "llama-3.1-8b",
                "precision": "fp8",
                "replicas": "fill",
                "router": router,
                "engine": {"max_num_seqs": 128},
                "slo": {"ttft": "2 s", "tpot": "50 ms", "percentile": 99},
            }
        },
        "workload": {
            "chat": {
                "deployment": "chat",
                "arrivals": {"process": "poisson", "rate": f"{rate * 32 * racks:g} /s"},
                "lengths": "azure-conv-2023",
            }
        },
    }
    return validate(Scenario, given | changes)


def scaled() -> Scenario:
    """Return the hall with replicas that are started by the clock."""
    given = hall("random").model_dump(exclude_none=True)
    steps = {"steps": [["0 s", 200], ["100 s", 100]]}
    given["deployments"]["chat"]["autoscaling"] = {"policy": "scheduled", "replicas": steps}
    return validate(Scenario, given)


PODS = {"policy": "least-outstanding", "pods": 8}


@pytest.mark.parametrize(
    ("router", "share", "replicas", "pods"),
    [
        ("least-outstanding", 0.02, 32, (32,)),  # a rack at least
        ("least-outstanding", 0.3, 64, (64,)),
        (PODS, 0.02, 64, (32, 32)),  # two pods at least
        (PODS, 0.4, 96, (32, 32, 32)),
    ],
)
def test_whole_racks_and_whole_pods_are_simulated(
    router: Any, share: float, replicas: int, pods: tuple[int, ...]
) -> None:
    (fleet,) = lay_out(sampled(hall(router), share)).fleets
    assert (len(fleet.replicas), fleet.represented, fleet.pods) == (replicas, 256, pods)


@pytest.mark.parametrize(
    ("scenario", "share", "why"),
    [
        (hall(PODS), 1.2, "sample: must be above 0 and below 100 %, such as 5 %, not 120 %"),
        (
            hall(PODS, racks=2),
            0.9,
            "sample: a rack, and two pods where there are pods, is the least",
        ),
        (scaled(), 0.2, "sample: deployments.chat: with 'autoscaling' every replica is simulated"),
    ],
)
def test_what_cannot_be_sampled_is_refused(scenario: Scenario, share: float, why: str) -> None:
    with pytest.raises(InputError) as refused:
        sampled(scenario, share)
    assert str(refused.value).startswith(why)


def test_what_half_the_replicas_change_is_part_of_what_is_not_known() -> None:
    one: dict[str, Any] = {
        "ttft_ms": {"mean": 50.0, "p99": 140.0},
        "output_tokens_per_s": 900.0,
        "confidence": {"ttft_ms": {"mean": 1.0}, "output_tokens_per_s": 5.0},
    }
    found = with_routing(
        one, {"ttft_ms": {"mean": 49.0, "p99": 139.0}, "output_tokens_per_s": 901.0}
    )
    assert found["routing_bias"] == {"ttft_ms": {"mean": REACH}}
    assert found["confidence"] == {"ttft_ms": {"mean": 1.0 + REACH}, "output_tokens_per_s": 5.0}


def test_failures_are_part_of_what_is_not_known() -> None:
    one: dict[str, Any] = {
        "ttft_ms": {"mean": 50.0, "p99": 140.0},
        "output_tokens_per_s": 900.0,
        "confidence": {"ttft_ms": {"mean": 1.0}, "output_tokens_per_s": 5.0},
    }
    gone = Away(0.001, 0.005, 100)
    assert gone.load == 1.01  # as of one in a hundred
    found = with_failures(one, {"ttft_ms": {"mean": 51.0, "p99": 150.0}}, gone)
    # Half a percent of the load is half of what one percent does.
    assert found["failure_bias"] == {
        "ttft_ms": {"mean": pytest.approx(0.5)},
        "output_tokens_per_s": pytest.approx(4.5),
    }
    assert found["confidence"]["ttft_ms"]["mean"] == pytest.approx(1.5)
    assert found["confidence"]["output_tokens_per_s"] == pytest.approx(9.5)


def failing(times: float, **spec: Any) -> Scenario:
    return hall(PODS, failures={"chance": {"kinds": ["gpu"], "times": times}, **spec})


def test_as_many_are_away_as_failures_and_repairs_leave() -> None:
    scenario = failing(4000.0)
    found = away(scenario)
    assert found is not None and away(hall(PODS)) is None
    # One replica a GPU, of which failures come as a Poisson process; few come back in 5 minutes.
    # Measured from the first minute on: who failed before is away all the time, others half of it.
    rate = scenario.facts.failure_rate("gpu").mtbf.value / 4000.0
    assert found.mean == pytest.approx((60.0 + 120.0) / rate, rel=0.3)
    assert found.mean < found.most < 0.02


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (failing(40_000.0), "sample: failures keep up to .* % of the replicas away"),
        (
            failing(1.0, schedule=[{"at": "90 s", "what": "rack-0"}]),
            "sample: a failure at a given time strikes one place",
        ),
    ],
)
def test_too_much_that_fails_is_no_sample(scenario: Scenario, why: str) -> None:
    with pytest.raises(InputError, match=why):
        fs.sample(scenario, 0.25)


def test_a_share_is_too_small_until_every_interval_is_known_and_narrow() -> None:
    known: dict[str, Any] = {
        "ttft_ms": {"mean": 50.0, "p99": 100.0},
        "output_tokens_per_s": 900.0,
        "confidence": {"ttft_ms": {"mean": 1.5, "p99": 5.0}, "output_tokens_per_s": 9.0},
    }
    assert excess(known, 0.03) == pytest.approx(1.0)
    assert excess(known, 0.01) == pytest.approx(3.0)
    del known["confidence"]["ttft_ms"]["p99"]
    assert excess(known, 0.1) == 2.0


def test_a_share_grows_until_it_is_enough() -> None:
    short = hall(PODS, rate=10.0, duration="60 s", warmup="10 s")
    wide = fs.sample(short, 0.1, precision=0.9).summary
    assert wide["sample"] == {"share": 0.25, "precision": 0.9, "tried": []}
    told = fs.sample(short, 0.1, precision=1e-6).summary
    assert told["sample"]["share"] == 1.0 and told["sample"]["tried"][0] == 0.25
    assert sorted(told["sample"]["tried"]) == told["sample"]["tried"]
    assert told["output_tokens_per_s"] == simulate(short).summary["output_tokens_per_s"]
    with pytest.raises(InputError, match="precision: must be above 0 and below 100 %"):
        fs.sample(short, 0.1, precision=3.0)


def test_a_sample_of_one_router_is_run_twice_and_one_of_pods_once() -> None:
    short = {"duration": "20 s", "warmup": "4 s", "kernel": "simpy"}
    one, pods = (
        fs.sample(hall(router, racks=4, rate=2.0, **short), 0.5).summary
        for router in ("least-outstanding", {"policy": "least-outstanding", "pods": 4})
    )
    assert one["represented_replicas"] == {"chat": {"simulated": 64, "represented": 128}}
    assert one["routing_bias"]["ttft_ms"]["mean"] < one["confidence"]["ttft_ms"]["mean"]
    assert "routing_bias" not in pods and "routing_bias" in one["deployments"]["chat"]
    for summary in (one, pods):
        assert {"output_tokens_per_s", "grid_power_mw"} <= summary["confidence"].keys()


@pytest.mark.parametrize(("percent", "code"), [("50", 0), ("0", 2)])
def test_the_command_prints_how_sure_it_is(
    percent: str,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = hall(PODS, rate=2.0, duration="20 s", warmup="4 s", kernel="simpy")
    (tmp_path / "hall.yaml").write_text(to_yaml(short), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    given = ["factory-sim", "run", "hall.yaml", "--no-plots", "--sample", percent]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code or 0) == code
    if code:
        assert err.startswith("error: sample: must be above 0") and not out
    else:
        assert "128 replicas of chat simulated for 256" in out
        assert "\nHow sure: 95 % interval of the whole site\n" in out


def figure(summary: dict[str, Any], path: str) -> float:
    key, _, part = path.partition(".")
    found = summary[key]
    return float(found[part or "mean"] if isinstance(found, dict) else found)


def study(
    router: Any, share: float, seeds: int, means: float, tails: float, wholes: int = 4, **other: Any
) -> None:
    """Hold the intervals of samples to full runs in turn; print how often they hold them."""
    full = [simulate(hall(router, seed, **other)).summary for seed in range(wholes)]
    held: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for seed in range(1000, 1000 + seeds):
        summary = fs.sample(hall(router, seed, **other), share).summary
        whole = full[seed % wholes]
        for path, width in relative_widths(summary).items():
            value = figure(summary, path)
            held.setdefault(path, []).append(abs(value - figure(whole, path)) <= width * value)
            widths.setdefault(path, []).append(width)
    many = full[0]["requests_completed"]
    print(f"\n{router}, {share:.0%} of {many:,} requests, {seeds} seeds")
    for path in held:
        print(f"  {path:28} {np.mean(held[path]):5.0%} held, ± {np.mean(widths[path]):.2%}")
    assert len(held) == 11
    for path in held:
        assert len(held[path]) == seeds and np.mean(held[path]) >= 0.9, path
        assert np.max(widths[path]) <= (tails if path.endswith("p99") else means), path


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason="without numba it takes an hour")
def test_intervals_of_pods_hold_the_full_run_in_90_of_100_seeds() -> None:
    study(PODS, 0.25, 100, means=0.03, tails=0.10)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason="without numba it takes an hour")
def test_intervals_of_a_router_that_sees_few_include_what_that_changes() -> None:
    study("least-outstanding", 0.5, 12, means=0.05, tails=0.10)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason="without numba it takes an hour")
def test_intervals_include_what_fails_in_full_runs() -> None:
    failures = {"chance": {"kinds": ["gpu"], "times": 4000.0}}
    study(PODS, 0.25, 8, means=0.035, tails=0.10, wholes=2, failures=failures)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason="without numba it takes an hour")
def test_one_router_is_known_as_closely_as_is_asked() -> None:
    run = fs.sample(hall("least-outstanding", 1000, racks=16), 0.15, precision=0.03)
    told = run.summary["sample"]
    assert 0.15 < told["share"] < 1.0 and told["tried"]
    for path, width in relative_widths(run.summary).items():
        assert width <= (0.10 if path.endswith("p99") else 0.03), path
