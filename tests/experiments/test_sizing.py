"""Sizing finds the threshold that trying every size finds, whoever does the runs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.experiments.runs.crews import Alone, Crew, crew_of
from factory_sim.experiments.sizing.bounds import bounds
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.experiments.sizing.promises import PRESETS, kept
from factory_sim.experiments.sizing.questions import counted_replicas
from factory_sim.experiments.sizing.search import threshold
from factory_sim.experiments.sizing.size import Sized, kernel_of, run_size
from factory_sim.report.layout import Entry
from factory_sim.report.sizing import blocks
from factory_sim.report.sizing import lines as report_lines
from factory_sim.scenario.load import override, scenario_from
from factory_sim.scenario.scenario import Scenario
from tests.experiments.sweeps import SMALL, Counting

JOB = {"model": "llama-3.1-8b", "tokens": "1e9", "global_batch": 4096, "mfu": 0.3, "gpus": 8}
AZURE = Path(__file__).parents[3] / "shared/data/traces/azure2023_conv.csv"


@given(
    st.integers(-50, 50),
    st.integers(0, 60),
    st.integers(-60, 70),
    st.integers(-70, 120),
    st.integers(1, 40),
)
def test_the_threshold_is_found_and_asked_of_on_both_sides(
    lowest: int, room: int, edge: int, start: int, stride: int
) -> None:
    highest, asked = lowest + room, []

    def holds(place: int) -> bool:
        assert lowest <= place <= highest
        asked.append(place)
        return place >= edge

    found = threshold(holds, start, lowest, highest, stride)
    assert found == (None if edge > highest else max(edge, lowest))
    assert len(asked) == len(set(asked)) <= 2 + 2 * room.bit_length()
    if found is not None:
        assert found in asked and (found == lowest or found - 1 in asked)


def scenario(**fields: Any) -> Scenario:
    """Return replicas of one sequence at a time, which a few requests a second keep busy."""
    own = json.loads(json.dumps(SMALL))
    usual: dict[str, Any] = {
        "duration": "60 s",
        "deployments.d.engine": {"profile": "vllm", "max_num_seqs": 1},
        "deployments.d.slo": {"ttft": "200 ms", "percentile": 90},
        "deployments.d.router": "least-outstanding",
        "workload.w.arrivals.rate": "20 /s",
    }
    told = {key.replace("__", "."): value for key, value in fields.items()}
    for path, value in (usual | told).items():
        override(own, path, value)
    return scenario_from(own)


def sized(aim: Any, folder: Path, crew: Crew | None = None, **options: Any) -> Sized:
    given = options.pop("given", None) or scenario()
    return run_size(given, aim, crew or Alone(), out=folder, **{"replications": 2, **options})


def keeps(given: Scenario, seeds: int = 2) -> bool:
    """Tell whether runs with so many seeds keep every promise, straight from their summaries."""
    runs = (given.model_copy(update={"seed": given.seed + n}) for n in range(seeds))
    return all(fs.simulate(run).summary["slo"]["met"] for run in runs)


class TestDemand:
    def test_is_what_trying_every_count_finds(self, tmp_path: Path) -> None:
        found = sized("demand", tmp_path)
        assert found.answer is not None and found.unit == "replicas"
        tried = {n: keeps(scenario(deployments__d__replicas=n)) for n in range(1, 9)}
        assert found.answer.size == min(n for n, kept in tried.items() if kept) > 2
        assert found.beyond is not None and found.beyond.size == found.answer.size - 1
        (pool,) = found.bounds.pools
        assert pool.asked_per_s == pytest.approx(20.0, rel=0.1)
        assert pool.needed is not None and pool.needed < found.answer.size

    def test_its_scenario_keeps_the_promises(self, tmp_path: Path) -> None:
        found = sized("demand", tmp_path)
        assert found.scenario is not None and found.answer is not None
        own = scenario_from(found.scenario)
        assert own.deployments["d"].replicas == found.answer.size
        assert keeps(own)

    def test_counts_racks_where_replicas_fill_them(self, tmp_path: Path) -> None:
        fills = scenario(
            deployments__d__replicas="fill",
            deployments__d__parallelism={"tp": 8},
            site__grid_limit="1 MW",
        )
        found = sized("demand", tmp_path, given=fills)
        assert found.unit == "racks" and found.answer is not None and found.scenario is not None
        assert found.answer.size == found.scenario["racks"][0]["count"] > 1
        assert found.scenario["deployments"]["d"]["replicas"] == "fill"
        assert next(looked.size for looked in found.looked if looked.met) == found.answer.size

    def test_keeps_the_proportion_of_pools_that_is_given(self, tmp_path: Path) -> None:
        two = scenario(
            deployments__d__replicas=2,
            deployments__d__prefill={"replicas": 1, "kv_link": "kv"},
            deployments__e={"model": "llama-3.1-8b", "parallelism": {"tp": 4}, "replicas": 1},
            network={"links": {"kv": {"bandwidth": "50 GB/s"}}},
            site__grid_limit="100 kW",
            workload__w__arrivals__rate="20 /s",
            workload__w__lengths={"prompt": 100, "output": 150},
        )
        found = sized("demand", tmp_path, given=two)
        assert found.answer is not None and found.scenario is not None
        counts = counted_replicas(found.scenario)
        most = counts["d"]
        assert counts == {"d": most, "d/prefill": -(-most // 2), "e": -(-most // 2)}
        assert found.answer.size == sum(counts.values())
        own = scenario_from(found.scenario)
        assert keeps(own)
        gpus = most + 5 * counts["e"]
        assert found.scenario["racks"][0]["count"] == -(-gpus // 8)
        told = " ".join(" ".join(report_lines(found)).split())
        assert f"d {most}, d/prefill {counts['d/prefill']}, e {counts['e']}" in told
        assert "perfect system d " in told

    def test_starts_at_the_fewest_racks_that_hold_what_is_simulated(self, tmp_path: Path) -> None:
        four = {"tp": 2}  # four a server, so that eight take two racks
        many = scenario(
            deployments__d__replicas={"simulate": 8},
            deployments__d__parallelism=four,
            workload__w__arrivals__rate="1 /s",
        )
        found = sized("demand", tmp_path, given=many, replications=1)
        assert found.unit == "racks" and found.answer is not None
        assert found.answer.size == found.looked[0].size == 2

    def test_ends_where_the_site_has_no_room(self, tmp_path: Path) -> None:
        busy = scenario(workload__w__arrivals__rate="200 /s", site__grid_limit="15 kW")
        found = sized("demand", tmp_path, given=busy)
        assert found.answer is None and found.scenario is None
        assert found.beyond is not None and found.beyond.size == 8  # one server of eight GPUs

    def test_of_a_site_without_room_for_one_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="grid_limit"):
            sized("demand", tmp_path, given=scenario(site__grid_limit="1 kW"))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            (
                {"racks": [SMALL["racks"][0], SMALL["racks"][0]]},
                "racks: the racks that fit a demand are sought in one row of racks, not in 2",
            ),
            (
                {"training": {"job": JOB}},
                "training: --for demand sizes one site that only serves, not training jobs",
            ),
            (
                {"deployments__d__autoscaling": {"policy": "reactive", "outstanding": 4}},
                "deployments.d.autoscaling: the number of replicas is not sought beside",
            ),
        ],
    )
    def test_refuses_what_it_cannot_vary(
        self, fields: dict[str, Any], said: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=said):
            sized("demand", tmp_path, given=scenario(**fields))


@pytest.mark.parametrize(
    ("fields", "kernel"),
    [
        ({}, "simpy"),
        ({"duration": "1 h"}, "auto"),
        ({"duration": "1 h", "kernel": "simpy"}, "simpy"),
    ],
)
def test_the_kernel_is_compiled_for_long_runs_only(fields: dict[str, Any], kernel: str) -> None:
    own = scenario(**fields)
    assert kernel_of(own, bounds(own)) == kernel


class TestCap:
    def test_is_the_last_load_that_keeps_the_promises(self, tmp_path: Path) -> None:
        given = scenario(deployments__d__replicas=3)
        found = sized("cap", tmp_path, given=given, precision=0.1)
        assert found.answer is not None and found.beyond is not None
        assert found.beyond.size == pytest.approx(1.1 * found.answer.size)
        for looked, kept_there in ((found.answer, True), (found.beyond, False)):
            rate = f"{20.0 * looked.size!r} /s"
            at = scenario(deployments__d__replicas=3, workload__w__arrivals__rate=rate)
            assert keeps(at) == kept_there
        assert found.bounds.load is not None and found.answer.size * found.bounds.load < 1.0

    def test_more_watts_never_carry_less(self, tmp_path: Path) -> None:
        carried = []
        for limit in ("4 kW", "5 kW", "7 kW", "20 kW"):
            given = scenario(
                deployments__d__replicas=8,
                deployments__d__engine__max_num_seqs=64,
                deployments__d__slo={"tpot": "8 ms", "percentile": 90},
                workload__w__arrivals__rate="100 /s",
                site__grid_limit=limit,
                provisioning={"oversubscribe": 4},
                duration="10 s",
            )
            found = sized("cap", tmp_path, given=given, precision=0.1, replications=1)
            carried.append(found.answer.size if found.answer is not None else 0.0)
        assert carried == sorted(carried)
        assert carried[0] < carried[-1]

    def test_of_an_answer_that_is_over_the_cap_says_for_how_long(self, tmp_path: Path) -> None:
        found = sized("cap", tmp_path, given=scenario(deployments__d__replicas=3), precision=0.2)
        assert found.answer is not None
        for over_s, told in ((0.0, []), (3.0, ["for 3 s of a run, by 2.30 kW at most"])):
            over = {"cap_overshoot_s": over_s, "cap_overshoot_max_mw": 0.0023}
            answer = found.answer._replace(runs=[run | over for run in found.answer.runs])
            entries = [e for e in blocks(replace(found, answer=answer)) if isinstance(e, Entry)]
            assert [entry.text for entry in entries if entry.label == "over the cap"] == told

    def test_refuses_a_batch(self, tmp_path: Path) -> None:
        batch = scenario(workload__w__arrivals={"process": "offline", "requests": 10})
        with pytest.raises(InputError, match=r"workload\.w\.arrivals: a batch .* has no rate"):
            sized("cap", tmp_path, given=batch)


class TestPromises:
    def test_without_one_nothing_is_sized(self, tmp_path: Path) -> None:
        own = scenario().model_dump(mode="json", exclude_none=True)
        del own["deployments"]["d"]["slo"]
        with pytest.raises(InputError, match="nothing is promised, so any size will do"):
            sized("demand", tmp_path, given=scenario_from(own))

    @pytest.mark.parametrize("name", sorted(PRESETS))
    def test_a_preset_stands_in_for_the_scenarios(self, name: str, tmp_path: Path) -> None:
        easy = scenario(workload__w__arrivals__rate="0.2 /s")
        found = sized("demand", tmp_path, given=easy, slo=name, replications=1)
        assert found.answer is not None
        limits = {promise.what: promise.limit_ms for promise in found.answer.promises}
        assert limits == pytest.approx(
            {
                what: float(text.split()[0]) * {"ms": 1.0, "s": 1e3, "h": 3.6e6}[text.split()[1]]
                for what, text in PRESETS[name].items()
                if what != "percentile"
            }
        )

    def test_an_unknown_preset_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="--slo: 'fast' is none of batch, chat"):
            sized("demand", tmp_path, slo="fast")

    def test_the_worst_run_counts(self) -> None:
        run = {"deployments.d.slo.ttft.limit_ms": 5.0, "slo.ttft.limit_ms": 5.0}
        head = "deployments.d.slo.ttft"
        good = {**run, f"{head}.value_ms": 1.0, f"{head}.met": 1.0}
        bad = {**run, f"{head}.value_ms": 9.0, f"{head}.met": 0.0}
        never = {**run, f"{head}.met": 0.0}
        (both,) = kept([good, bad])
        assert (both.value_ms, both.met) == (9.0, False)
        assert both.mean_ms == 5.0 and both.half_width_ms == pytest.approx(12.706 * 4.0, rel=1e-4)
        assert kept([good])[0].met
        assert kept([good, never])[0].value_ms == float("inf")


def test_who_does_the_runs_changes_nothing_and_none_is_done_twice(tmp_path: Path) -> None:
    alone, crew = sized("demand", tmp_path / "a"), Counting()
    other = sized("demand", tmp_path / "b", crew)
    pd.testing.assert_frame_equal(alone.table, other.table)
    assert len(crew.done) == 2 * len(other.looked)
    again = sized("demand", tmp_path / "b", crew)
    pd.testing.assert_frame_equal(alone.table, again.table)
    assert len(crew.done) == 2 * len(other.looked)


@pytest.mark.parametrize("option", [{"replications": 0}, {"precision": 0.0}, {"precision": 0.9}])
def test_bad_options_are_refused(option: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--{next(iter(option))}: must be"):
        sized("cap", tmp_path, **option)


ARRIVALS: dict[str, dict[str, Any]] = {
    "constant": {"rate": "4 /s"},
    "poisson": {"rate": "4 /s", "requests": 10},
    "gamma": {"rate": "240 /min", "burstiness": 0.5},
    "mmpp": {"states": [{"rate": "2 /s", "mean_duration": "1 s"}] * 2},
    "stages": {"stages": [{"rate": "2 /s", "duration": "1 s"}] * 2},
    "closed": {"concurrency": 4},
}


@pytest.mark.parametrize("process", sorted(ARRIVALS))
def test_load_multiplies_every_rate(process: str) -> None:
    own = scenario(workload__w__arrivals={"process": process, **ARRIVALS[process]})
    data = own.model_dump(mode="json", exclude_none=True)
    before, after = (
        scenario_from(at_load(data, factor)).workload["w"].arrivals.model_dump()
        for factor in (1.0, 2.5)
    )

    def times(given: Any, key: str = "") -> Any:
        if isinstance(given, dict):
            return {own: times(value, own) for own, value in given.items()}
        if isinstance(given, list):
            return [times(each) for each in given]
        if key == "rate":
            number, unit = given.split()
            return f"{2.5 * float(number)} {unit}"
        return 2.5 * given if key in ("concurrency", "requests") and given is not None else given

    assert after == times(before)
    assert data == own.model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize(
    ("factor", "copies", "share"), [(0.25, 1, 0.5), (0.5, 1, 1.0), (1.0, 2, 1.0), (1.25, 3, 5 / 6)]
)
def test_load_superposes_a_trace(factor: float, copies: int, share: float) -> None:
    trace = {"process": "trace", "path": "t.csv", "superpose": 4, "thin": 0.5}
    sent = {"deployment": "d", "arrivals": trace}
    own = scenario(workload__w=sent).model_dump(mode="json", exclude_none=True)
    arrivals = scenario_from(at_load(own, factor)).workload["w"].arrivals
    assert arrivals.superpose == copies  # type: ignore[union-attr]
    assert arrivals.thin == pytest.approx(share)  # type: ignore[union-attr]


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.skipif(not AZURE.exists(), reason="needs ../shared/data/traces/azure2023_conv.csv")
def test_fifty_times_the_azure_hour_needs_what_trying_every_count_finds(tmp_path: Path) -> None:
    """Twenty-odd replicas of a 70B model for a million requests an hour, found in two minutes."""
    pytest.importorskip("numba")
    trace = {"process": "trace", "path": str(AZURE), "superpose": 50}
    own: dict[str, Any] = {
        "name": "azure",
        "seed": 1,
        "duration": "1 h",
        "kernel": "auto",
        "site": {"grid_limit": "1 MW", "pue": 1.3},
        "racks": [{"system": "dgx-h100", "count": 1}],
        "deployments": {
            "chat": {
                "model": "llama-3.1-70b",
                "precision": "fp8",
                "parallelism": {"tp": 4},
                "replicas": 1,
                "engine": {"profile": "vllm", "max_num_seqs": 256, "max_num_batched_tokens": 8192},
                "router": "least-outstanding",
                "slo": {"ttft": "2 s", "tpot": "60 ms", "percentile": 99},
            }
        },
        "workload": {"chat": {"deployment": "chat", "arrivals": trace}},
    }
    started = time.perf_counter()
    with crew_of(2) as crew:
        found = run_size(scenario_from(own), "demand", crew, out=tmp_path, replications=2)
    print(f"\n{found.table.to_string()}\nin {time.perf_counter() - started:.0f} s")
    assert time.perf_counter() - started < 120.0
    assert found.answer is not None and found.answer.size > 20
    count = int(found.answer.size)
    tried = {}
    for n in range(count - 4, count + 3):
        own["deployments"]["chat"]["replicas"] = n
        own["racks"][0]["count"] = -(-n // 8)
        tried[n] = keeps(scenario_from(own))
    print(tried)
    assert tried == {n: n >= count for n in tried}
