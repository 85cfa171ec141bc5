"""Training jobs: against a plain engine, against theory, and beside inference at one meter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_sim.errors import InputError
from factory_sim.factory.build import Factory
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import Run, simulate
from factory_sim.factory.timetable import CONTROL, Timetable
from factory_sim.factory.training.holding import Holding
from factory_sim.factory.training.job import Job
from factory_sim.frozen import validate
from factory_sim.metrics.training import TrainingTotals
from factory_sim.physics.training import daly_interval_s, expected_s, training_flops
from factory_sim.scenario.scenario import Scenario
from tests.training_reference import PlainJob

JOB: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "tokens": 1e12,
    "gpus": 8,
    "mfu": "40 %",
    "global_batch": 2**17,
}
SAVED = {"checkpoint": {"interval": "2 min", "bandwidth": "20 GB/s"}}
FAILING = SAVED | {"failures": {"gpu_mtbf": "2 h", "restart": "30 s"}}

QUIET: dict[str, Any] = {
    "w": {
        "deployment": "d",
        "arrivals": {"process": "poisson", "rate": "1e-9 /s"},
        "lengths": {"prompt": 300, "output": 100},
    }
}
"""Nobody comes."""


def beside(job: dict[str, Any] | None, **changes: Any) -> Scenario:
    """Return a scenario of two servers: replicas of `d` on the first, `job` on the last GPUs."""
    given: dict[str, Any] = {
        "name": "beside",
        "seed": 3,
        "duration": "60 s",
        "site": {"grid_limit": "100 kW", "pue": 1.25},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 2}],
        "deployments": {"d": {"model": "llama-3.1-8b", "replicas": 4}},
        "workload": {
            "w": {
                "deployment": "d",
                "arrivals": {"process": "poisson", "rate": "5 /s"},
                "lengths": {"prompt": 300, "output": 100},
            }
        },
    }
    if job is not None:
        given["training"] = {"t": job}
    return validate(Scenario, given | changes)


def holding_of(**job: Any) -> Holding:
    return lay_out(beside(JOB | job)).holdings[0]


def trained(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.summary["training"]["t"]
    return found


class TestClosedForms:
    def test_steps_flops_and_joules_without_any_event(self) -> None:
        run = simulate(beside(JOB, duration="10 min", power={"period": "7 s"}))
        job = trained(run)
        step_s = training_flops(8.03e9, 2**17) / (8 * 0.4 * 989.4e12)
        holding = holding_of()
        assert holding.rhythm.step_s == pytest.approx(step_s, rel=1e-2)
        assert job["steps"] == pytest.approx(600 / holding.rhythm.step_s, rel=1e-9)
        assert job["tokens_per_s"] == pytest.approx(2**17 / holding.rhythm.step_s, rel=1e-9)
        assert job["mfu"] == pytest.approx(0.4, rel=1e-9)
        assert job["energy_mwh"] == pytest.approx(8 * 600 * holding.computing_w / 3.6e9, rel=1e-9)
        assert job["goodput"] == pytest.approx(1.0, rel=1e-12)
        assert job["time"] == {"computing": pytest.approx(1.0, rel=1e-12)}
        assert job["whole_run"]["flops"] == pytest.approx(6 * 8.03e9 * 1e12, rel=1e-3)
        assert "power_swing" not in job

    def test_a_pipeline_and_gradients_take_their_part(self) -> None:
        spread = {"tp": 2, "pp": 2, "micro_batches": 7}
        gradients = {"bandwidth": "25 GB/s", "overlap": "50 %"}
        job = JOB | {"mfu": None, "kernel_mfu": "48 %", "parallelism": spread}
        job = {key: value for key, value in job.items() if value is not None}
        holding = lay_out(beside(job | {"gradients": gradients})).holdings[0]
        ideal_s = holding.flops_per_step / (8 * holding.peak_flops)
        assert holding.rhythm.computing_s == pytest.approx(ideal_s / 0.48 * 8 / 7, rel=1e-12)
        # Half of a ring between two: 2 * 1/2 of two bytes of a quarter of the parameters.
        gradients_s = 0.5 * 2 * holding.parameters / 4 / 25e9
        assert holding.rhythm.communicating_s == pytest.approx(gradients_s, rel=1e-12)
        job = trained(simulate(beside(job | {"gradients": gradients})))
        assert job["mfu"] == pytest.approx(holding.mfu, rel=1e-2)  # a step is cut off
        swing = job["power_swing"]
        difference_w = holding.computing_w - holding.communicating_w
        assert swing["amplitude_mw"] == pytest.approx(8e-6 * difference_w, rel=1e-12)
        assert swing["period_s"] == holding.rhythm.step_s

    def test_weights_dealt_out_cross_once_more(self) -> None:
        gradients = {"gradients": {"bandwidth": "25 GB/s"}}
        exchange_s = [
            holding_of(**gradients, parallelism={"tp": 2, "zero": zero}).rhythm.communicating_s
            for zero in (1, 2, 3)
        ]
        assert exchange_s[0] == exchange_s[1]
        assert exchange_s[2] == pytest.approx(1.5 * exchange_s[0], rel=1e-12)

    def test_checkpoints_take_their_time(self) -> None:
        holding = holding_of(**SAVED)
        assert holding.write_s == pytest.approx(14 * holding.parameters / 20e9, rel=1e-12)
        interval_s = holding.between_checkpoints * holding.rhythm.step_s
        assert interval_s == pytest.approx(120.0, abs=holding.rhythm.step_s)
        whole_s = interval_s + holding.write_s
        job = trained(simulate(beside(JOB | SAVED, duration=f"{4 * whole_s!r} s")))
        assert job["goodput"] == pytest.approx(interval_s / whole_s, rel=1e-9)
        assert job["checkpoints"] in (3, 4)  # the last one ends with the run

    def test_a_checkpoint_has_so_many_bytes_a_parameter(self) -> None:
        usual, lean = (
            holding_of(checkpoint=SAVED["checkpoint"] | more).write_s
            for more in ({}, {"bytes_per_parameter": 2})
        )
        assert usual == pytest.approx(14 * 8.03e9 / 20e9, rel=1e-3)
        assert lean == pytest.approx(usual / 7)

    def test_it_ends_and_its_gpus_rest(self) -> None:
        holding = holding_of(tokens=2**17 * 10.5)
        run = simulate(beside(JOB | {"tokens": 2**17 * 10.5}))
        job = trained(run)
        assert job["steps"] == pytest.approx(11, rel=1e-12)
        assert job["time"]["finished"] == pytest.approx(1 - 11 * holding.rhythm.step_s / 60)
        assert run.timeseries["t.gpu_power_mw"].iloc[-1] == 0.0


def totals_at(
    holding: Holding, events: list[tuple[float, str, Any]], until_s: float
) -> TrainingTotals:
    env = Timetable()
    job = Job(env, holding, {0: 8}, np.random.SeedSequence(0))
    doing = {
        "clock": lambda value: job.hold_clock("test", value),
        "fail": lambda _: job.fail(),
        "stop": job.stop,
        "release": job.release,
    }
    for time, what, value in events:
        env.call(time, CONTROL, lambda _, what=what, value=value: doing[what](value))
    env.run(until=until_s)
    return job.totals()


EVENT = st.one_of(
    st.tuples(st.just("clock"), st.sampled_from([0.5, 0.65, 0.9, 1.0])),
    st.tuples(st.just("fail"), st.none()),
    st.tuples(st.sampled_from(["stop", "release"]), st.sampled_from(["feed", "rack-0"])),
)


class TestAgainstThePlainEngine:
    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.tuples(st.floats(0.01, 400.0), EVENT), max_size=12),
        st.sampled_from([1, 3, 40]),
        st.booleans(),
        st.floats(1.0, 500.0),
    )
    def test_every_sum_is_the_same(
        self, raw: list[tuple[float, tuple[str, Any]]], saves: int, short: bool, until_s: float
    ) -> None:
        spec: dict[str, Any] = {
            "parallelism": {"tp": 2},
            "gradients": {"bandwidth": "10 GB/s"},
            "checkpoint": {"interval": f"{saves * 5} s", "bandwidth": "10 GB/s"},
            "failures": {"gpu_mtbf": "1e9 h", "restart": "30 s"},
        }
        if short:
            spec["tokens"] = 2**17 * 25
        holding = holding_of(**spec)
        events = sorted((time, *event) for time, event in raw)
        found = totals_at(holding, events, until_s)
        plain = PlainJob(holding, events).run(until_s)
        for name, value in zip(plain, found, strict=True):
            assert value == pytest.approx(plain[name], rel=1e-9, abs=1e-7), name
        seconds = found.useful_s + found.checkpointing_s + found.lost_s + found.restarting_s
        assert seconds + found.held_s + found.finished_s == pytest.approx(until_s, rel=1e-12)

    def test_the_sums_have_the_plain_engines_order(self) -> None:
        assert list(PlainJob(holding_of(), []).sums) == [
            name.removesuffix("_s").removesuffix("_j").removesuffix("_rest")
            for name in TrainingTotals._fields
        ]


def goodput_alone(holding: Holding, seed: int, until_s: float) -> float:
    env = Timetable()
    job = Job(env, holding, {0: 8}, np.random.SeedSequence(seed))
    env.run(until=until_s)
    return job.totals().useful_s / until_s


class TestTheory:
    def test_goodput_is_dalys_over_seeds(self) -> None:
        holding = holding_of(**FAILING)
        interval_s = holding.between_checkpoints * holding.rhythm.step_s
        expected = 1.0 / expected_s(
            1.0, interval_s, holding.write_s, holding.restart_s, holding.mtbf_s
        )
        found = [goodput_alone(holding, seed, 400 * holding.mtbf_s) for seed in range(30)]
        half = 3.0 * np.std(found, ddof=1) / np.sqrt(len(found))
        assert abs(np.mean(found) - expected) < half
        assert half < 0.01 * expected

    def test_the_best_interval_is_near_youngs(self) -> None:
        holding = holding_of(**FAILING)
        young_s = np.sqrt(2 * holding.write_s * holding.mtbf_s)
        best: dict[float, float] = {}
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
            checkpoint = {"interval": f"{factor * float(young_s)} s", "bandwidth": "20 GB/s"}
            other = holding_of(**FAILING | {"checkpoint": checkpoint})
            runs = [goodput_alone(other, seed, 400 * holding.mtbf_s) for seed in range(4)]
            best[factor] = float(np.mean(runs))
        assert max(best, key=best.__getitem__) == 1.0
        checkpoint = {"interval": "optimal", "bandwidth": "20 GB/s"}
        optimal = holding_of(**FAILING | {"checkpoint": checkpoint})
        steps = daly_interval_s(holding.write_s, holding.mtbf_s) / holding.rhythm.step_s
        assert optimal.between_checkpoints == round(steps)

    def test_a_servers_failures_are_those_of_its_gpus(self) -> None:
        of_servers = {"failures": {"server_mtbf": "16 h", "restart": "30 s"}}
        assert holding_of(**FAILING | of_servers).mtbf_s == 16 * 3600.0
        assert holding_of(**FAILING).mtbf_s == 2 * 3600.0 / 8


class TestAtTheMeter:
    def test_joules_have_their_place(self) -> None:
        run = simulate(beside(JOB | FAILING, duration="10 min", warmup="45 s"))
        used, booked = run.summary["energy_use_mwh"], run.summary["energy_mwh"]
        assert sum(used.values()) == pytest.approx(sum(booked.values()), rel=1e-9)
        assert used["training"] == pytest.approx(trained(run)["energy_mwh"], rel=1e-9)
        assert sum(trained(run)["time"].values()) == pytest.approx(1.0, rel=1e-9)

    def test_boards_draw_what_the_job_says(self) -> None:
        # Nobody comes: whatever the boards draw above rest is the job's.
        job = JOB | FAILING | {"failures": {"gpu_mtbf": "10 min", "restart": "30 s"}}
        run = simulate(beside(job, duration="10 min", warmup="45 s", workload=QUIET))
        found, idle_w = trained(run), holding_of().power.idle_w
        assert found["failures"] > 2
        assert run.summary["power_mw"]["gpu"] * 1e6 == pytest.approx(
            8 * (found["gpu_power_w"] + idle_w), rel=1e-9
        )

    def test_inference_is_left_alone_where_no_cap_binds(self) -> None:
        alone, both = simulate(beside(None)), simulate(beside(JOB | FAILING))
        assert alone.requests.equals(both.requests)
        assert "training" not in alone.summary
        assert not [name for name in alone.timeseries if name.startswith("t.")]

    def test_racks_of_one_job_stand_for_each_other(self) -> None:
        # One by one where something may fail, as one where nothing can; the same to the watt.
        racks = [{"system": "dgx-h100", "count": 5, "servers_per_rack": 2}]
        later = {"schedule": [{"at": "61 s", "what": "storage"}]}
        job, period = JOB | {"gpus": 64}, {"period": "1 s"}
        given = {"racks": racks, "power": period, "site": LARGE}
        runs = [simulate(beside(job, **given, **more)) for more in ({}, {"failures": later})]
        bays = [len(lay_out(run.scenario).building.bays) for run in runs]
        assert bays == [2, 5]
        powers = [run.summary["grid_power_mw"]["mean"] for run in runs]
        assert powers[0] == pytest.approx(powers[1], rel=1e-12)

    def test_the_same_seed_gives_the_same_bytes(self) -> None:
        first, second = (simulate(beside(JOB | FAILING, duration="6 min")) for _ in range(2))
        assert first.summary == second.summary
        assert first.timeseries.equals(second.timeseries)
        other = simulate(beside(JOB | FAILING, duration="6 min", seed=4))
        assert trained(other) != trained(first)


LARGE = {"grid_limit": "1 MW", "pue": 1.2}
TIGHT = {"site": {"grid_limit": "13 kW", "pue": 1.25}, "provisioning": {"oversubscribe": 2.5}}


class TestUnderTheCap:
    def test_it_is_slowed_first_where_it_ranks_lowest(self) -> None:
        first = {"d": {"model": "llama-3.1-8b", "replicas": 4, "power_priority": 1}}
        run = simulate(beside(JOB, **TIGHT, deployments=first))
        job = trained(run)
        assert run.summary["clock"]["lowest"] == 1.0
        assert job["time"]["power_throttled"] > 0.02
        assert run.timeseries["t.clock"].min() < 0.95
        # Its rate follows its clock, and nothing of the time is lost sight of.
        slowed = 1.0 - job["time"]["power_throttled"]
        assert job["mfu"] == pytest.approx(0.4 * slowed, rel=1e-9)
        assert job["tokens_per_s"] == pytest.approx(
            2**17 / holding_of().rhythm.step_s * slowed, rel=1e-9
        )

    def test_inference_is_slowed_first_where_that_ranks_lowest(self) -> None:
        run = simulate(beside(JOB | {"power_priority": 1}, **TIGHT))
        assert run.summary["clock"]["lowest"] < 0.95
        alone = simulate(beside(None, **TIGHT))
        assert alone.summary["clock"]["lowest"] == 1.0
        assert run.summary["tpot_ms"]["mean"] > alone.summary["tpot_ms"]["mean"]

    def test_the_limit_is_kept(self) -> None:
        run = simulate(beside(JOB, **TIGHT, workload=QUIET))
        over = run.timeseries["grid_power_mw"] > run.timeseries["grid_limit_mw"]
        assert not over[3:].any()

    def test_policies_that_touch_batches_leave_it_its_watts(self) -> None:
        for policy in ("admit", "park", "none"):
            run = simulate(beside(JOB, **TIGHT, power={"policy": policy}))
            assert trained(run)["mfu"] == pytest.approx(0.4, rel=1e-9)

    def test_boards_with_a_limit_hold_their_clock(self) -> None:
        racks = [
            {"system": "dgx-h100", "count": 1, "servers_per_rack": 2, "gpu_power_limit": "500 W"}
        ]
        holding = lay_out(beside(JOB, racks=racks)).holdings[0]
        assert holding.clock < 1.0
        assert holding.watts_at(holding.computing_w, holding.clock) == pytest.approx(500, rel=1e-9)
        job = trained(simulate(beside(JOB, racks=racks)))
        assert job["mfu"] == pytest.approx(0.4 * holding.clock, rel=1e-9)


class TestOutages:
    def test_a_failed_gpu_stops_the_whole_job(self) -> None:
        struck = {"schedule": [{"at": "100 s", "what": "rack-0/server-1", "lasts": "60 s"}]}
        holding = holding_of(**SAVED)
        run = simulate(beside(JOB | SAVED, duration="5 min", failures=struck))
        job = trained(run)
        assert job["lost_to_failures_s"] == pytest.approx(100.0, rel=1e-9)
        assert job["time"]["held_by_the_site"] == pytest.approx(60 / 300, rel=1e-9)
        assert job["restarts"] == 1
        assert job["failures"] == 0
        used, booked = run.summary["energy_use_mwh"], run.summary["energy_mwh"]
        assert sum(used.values()) == pytest.approx(sum(booked.values()), rel=1e-9)
        # Without failures of its own it only reads its checkpoint.
        assert job["time"]["restarting"] == pytest.approx(holding.write_s / 300, rel=1e-9)

    def test_a_failure_elsewhere_does_not(self) -> None:
        struck = {"schedule": [{"at": "10 s", "what": "rack-0/server-0", "lasts": "5 s"}]}
        assert trained(simulate(beside(JOB, failures=struck)))["goodput"] == pytest.approx(1.0)

    def test_gpus_too_hot_slow_it(self) -> None:
        def site(supply: str) -> dict[str, Any]:
            return {
                "grid_limit": "1 MW",
                "cooling": {"plant": "air", "air_supply": supply},
                "weather": {"dry_bulb": "20 degC", "humidity": "50 %"},
            }

        struck = {"schedule": [{"at": "20 s", "what": "plant", "lasts": "8 min"}]}
        run = simulate(beside(JOB, duration="12 min", site=site("24 degC"), failures=struck))
        job = trained(run)
        assert run.timeseries["t.clock"].min() < 1.0 or "held_by_the_site" in job["time"]
        used, booked = run.summary["energy_use_mwh"], run.summary["energy_mwh"]
        assert sum(used.values()) == pytest.approx(sum(booked.values()), rel=1e-9)


@pytest.mark.parametrize(
    ("job", "path", "message"),
    [
        ({"model": "no-such"}, "training.t", "unknown model 'no-such'"),
        ({"parameters": 7e9}, "training.t", "give either 'model', or 'parameters'"),
        ({"active_parameters": 7e9}, "training.t", "a 'model' has its own"),
        ({"kernel_mfu": 0.5}, "training.t", "give either 'mfu'"),
        ({"mfu": 0}, "mfu", "greater than 0"),
        ({"mfu": 1.2}, "mfu", "less than or equal to 1"),
        ({"tokens": 10}, "training.t", "at least those of one step"),
        ({"tokens": 0}, "tokens", "greater than 0"),
        ({"global_batch": 0}, "global_batch", "greater than 0"),
        ({"gpus": 12}, "gpus", "12 are not whole servers of 8; take 8 or 16"),
        ({"gpus": 4}, "gpus", "4 are not whole servers of 8; take 8"),
        ({"gpus": 24}, "gpus", "24 are asked for, and 16 are free"),
        ({"gpus": 16}, "deployments.d.replicas", "the free GPUs hold 0"),
        ({"system": "dgx-b200"}, "system", "no rack holds 'dgx-b200'"),
        ({"precision": "nvfp4"}, "precision", "'bf16' or 'fp8'"),
        ({"parallelism": {"tp": 3}}, "training.t", "must be a multiple of parallelism.tp"),
        ({"parallelism": {"pp": 2, "micro_batches": 8}}, "training.t", "has the bubble in it"),
        ({"parallelism": {"micro_batches": 2}}, "training.t", "there are no parallelism.micro"),
        ({"parallelism": {"zero": 4}}, "parallelism.zero", "0, 1, 2 or 3"),
        ({"parallelism": {"tp": 8, "zero": 2}}, "training.t", "nobody to deal out to"),
        ({"parallelism": {"zero": 0}}, "parallelism", "need 128"),
        ({"model": "llama-3.1-70b"}, "parallelism", "raise tp, pp or zero"),
        (
            {"parallelism": {"tp": 8}, "gradients": {"bandwidth": "1 GB/s"}},
            "training.t",
            "exchanges no gradients",
        ),
        ({"gradients": {"bandwidth": "1 GB/s"}}, "gradients", "give more bandwidth or overlap"),
        ({"gradients": {"bandwidth": "0 GB/s"}}, "gradients.bandwidth", "greater than 0"),
        (
            {"gradients": {"bandwidth": "1 GB/s", "overlap": 1}},
            "gradients.overlap",
            "less than 1",
        ),
        ({"checkpoint": {"interval": "0 s", "bandwidth": "1 GB/s"}}, "interval", "greater than 0"),
        ({"checkpoint": {"interval": "1 min"}}, "checkpoint.bandwidth", "required"),
        (
            {"checkpoint": {"interval": "optimal", "bandwidth": "1 GB/s"}},
            "training.t",
            "depends on 'failures'",
        ),
        ({"failures": {"gpu_mtbf": "1 h", "restart": "1 s"}}, "training.t", "would lose all work"),
        (FAILING | {"failures": {"restart": "1 s"}}, "failures", "give either 'gpu_mtbf'"),
        ({"power": {"communicating": 0.5}}, "training.t", "needs 'gradients'"),
        ({"power": {"checkpointing": 0.5}}, "training.t", "needs a 'checkpoint'"),
        ({"power": {"computing": 0.05}}, "power.computing", "of a GPU at rest; give at least"),
    ],
)
def test_what_is_wrong_with_a_job_is_said(job: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        lay_out(beside(JOB | job))
    assert [p for p in caught.value.problems if path in p.path and message in p.message], (
        caught.value
    )


def test_a_pipelines_bubble_is_asked_for() -> None:
    job = {key: value for key, value in JOB.items() if key != "mfu"}
    with pytest.raises(InputError, match=r"needs parallelism\.micro_batches, such as 8"):
        beside(job | {"kernel_mfu": 0.5, "parallelism": {"pp": 2}})


def test_a_job_where_it_would_change_nothing_or_cannot_stand() -> None:
    with pytest.raises(InputError, match="slows no training"):
        beside(JOB | {"power_priority": 1}, power={"policy": "park"})
    with pytest.raises(InputError, match="a deployment has the same name"):
        beside(None, training={"d": JOB})
    # Each rack has room for one replica beside the job's two servers, which stand in the last.
    racks = [{"system": "gb200-nvl72", "count": 2}]
    one_each = {"simulate": 1, "represent": 2}
    wide = {"model": "llama-3.1-70b", "parallelism": {"tp": 64}, "replicas": one_each}
    with pytest.raises(InputError, match="give the job whole racks of its own"):
        lay_out(
            beside(
                JOB, racks=racks, deployments={"d": wide}, site={"grid_limit": "1 MW", "pue": 1.2}
            )
        )


def test_limits_no_clock_can_keep() -> None:
    racks = [{"system": "dgx-h100", "count": 1, "servers_per_rack": 2, "gpu_power_limit": "150 W"}]
    with pytest.raises(InputError, match="even the lowest clock"):
        lay_out(beside(JOB, racks=racks))


def test_a_factory_without_jobs_has_none() -> None:
    assert Factory(lay_out(beside(None))).jobs == []
