"""GPUs cut into parts: each is a small GPU, and all of a board share its watts and its failures."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError
from factory_sim.factory.build import even_step_time
from factory_sim.factory.check import check
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import lay_out
from factory_sim.factory.run import simulate
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario


def cut(partition: str | None, replicas: int, clients: int = 14, **more: Any) -> Scenario:
    deployment = {"model": "codegemma-2b", "replicas": replicas, "router": "round-robin"}
    if partition is not None:
        deployment["partition"] = partition
    given = {
        "name": "cut",
        "duration": "10 s",
        "site": {"grid_limit": "30 kW", "pue": 1.2},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
        "deployments": {"d": deployment | more.pop("deployment", {})},
        "workload": {
            "w": {
                "deployment": "d",
                "arrivals": {"process": "closed", "concurrency": clients},
                "lengths": {"prompt": 200, "output": 100},
            }
        },
    }
    return validate(Scenario, given | more)


def fleet_of(scenario: Scenario) -> Fleet:
    (fleet,) = lay_out(scenario).fleets
    return fleet


def test_a_part_computes_and_reads_by_its_share() -> None:
    whole, part = fleet_of(cut(None, 1)), fleet_of(cut("1g.10gb", 1))
    step, slow = (even_step_time(fleet, 1.0).decode(8) for fleet in (whole, part))
    assert slow.memory_s == pytest.approx(8.0 * step.memory_s)  # one of eight slices
    assert slow.busy_compute_s == pytest.approx(132 / 16 * step.busy_compute_s, rel=1e-3)
    assert slow.host_s == step.host_s
    assert part.memory.usable_bytes == pytest.approx(9.75 * 2**30 * 0.9, rel=0.01)
    assert part.weight_bytes == whole.weight_bytes


def test_seven_parts_are_one_gpu() -> None:
    layout = lay_out(cut("1g.10gb", 9))
    (fleet,) = layout.fleets
    assert [len(gpus) for gpus in fleet.replicas] == [1] * 9
    assert len({gpus[0].index for gpus in fleet.replicas}) == fleet.gpus == 2
    assert layout.spare_gpus == 6


def test_parts_of_a_board_draw_what_it_draws() -> None:
    """All seven busy alike: a GPU as busy as each; one alone: a seventh of what is above idle."""
    summaries = [simulate(cut("1g.10gb", many, 2 * many), debug=True).summary for many in (7, 1)]
    all_w, one_w = (
        summary["deployments"]["d"]["gpu_power_w"] * summary["deployments"]["d"]["gpus"]
        for summary in summaries
    )
    assert all_w == pytest.approx(7 * one_w, rel=1e-6)
    boards_w = [summary["power_mw"]["gpu"] * 1e6 for summary in summaries]
    idle_w = 80.3
    assert boards_w[0] - 8 * idle_w == pytest.approx(7 * (boards_w[1] - 8 * idle_w), rel=1e-6)
    assert summaries[0]["deployments"]["d"]["gpus"] == 1
    assert 80.3 < all_w < 700.0


def test_a_gpu_takes_all_its_parts_along() -> None:
    struck = {"schedule": [{"at": "5 s", "what": "rack-0/server-0/gpu-0", "lasts": "1 s"}]}
    run = simulate(cut("1g.10gb", 9, 18, failures=struck, duration="8 s"), debug=True)
    assert run.summary["outages"]["gpu"]["replicas_stopped"] == 7


def test_what_a_part_is_before_a_run() -> None:
    rows = check(cut("3g.40gb", 3)).sections["Deployment d"]
    assert rows["replicas"] == "3 of one 3g.40gb of NVIDIA H100 SXM5 80 GB, 2 on each of 2 GPUs"


@pytest.mark.parametrize(
    ("deployment", "replicas", "message"),
    [
        ({"partition": "1g.5gb"}, 1, "has no parts '1g.5gb'; it has 1g.10gb, 1g.20gb, 2g.20gb"),
        ({"model": "llama-3.1-8b"}, 1, "and a 1g.10gb of h100-sxm has 9.4 GB to use"),
        ({"parallelism": {"tp": 2}}, 1, "parts of GPUs reach each other over no link"),
        ({"step_time": "aiconfigurator"}, 1, "knows whole GPUs only"),
        ({}, 57, "57 replicas of a GPU in 7 parts each need 9 GPUs"),
    ],
)
def test_what_is_refused(deployment: dict[str, Any], replicas: int, message: str) -> None:
    with pytest.raises(InputError) as error:
        lay_out(cut("1g.10gb", replicas, deployment=deployment))
    assert message in str(error.value)


def test_parts_of_the_catalogue_fit_on_their_gpu() -> None:
    found = 0
    for accelerator in load_catalog().accelerators.values():
        for name, fact in accelerator.partitions.items():
            part = fact.value
            found += 1
            assert part.instances * part.compute <= 1.0 + 1e-9, name
            assert part.instances * part.bandwidth <= 1.0 + 1e-9, name
            assert part.instances * part.hbm <= accelerator.hbm.value, name
    assert found >= 10
