"""The ideal rate is above what a saturated run reaches, and not far above."""

from __future__ import annotations

import factory_sim as fs
from factory_sim.factory.build import roofline
from factory_sim.factory.layout import lay_out
from factory_sim.physics.ideal import ideal


def test_a_saturated_run_comes_near_the_ideal() -> None:
    arrivals = "workload.chat.arrivals={process: closed, concurrency: 256}"
    scenario = fs.load(
        None,
        [
            "duration=3 min",
            "racks.0.count=1",
            "racks.0.servers_per_rack=1",
            "site.grid_limit=20 kW",
            "provisioning.oversubscribe=1",
            "workload.chat.lengths={prompt: 1000, output: 200}",
            arrivals,
        ],
    )
    (fleet,) = lay_out(scenario).fleets
    best = ideal(roofline(fleet, 1.0), 1000, 200, 0, fleet.max_num_seqs, fleet.max_step_tokens)
    run = fs.simulate(scenario)
    reached = run.summary["output_tokens_per_s"] / (200 * best.requests_per_s * 2)
    assert 0.85 < reached < 1.01  # prompts come in whole numbers, not in the mean ones
