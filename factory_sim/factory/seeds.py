"""Seeds: every subsystem of a run has a random stream of its own, spawned from the scenario's."""

from __future__ import annotations

import numpy as np

from factory_sim.scenario.scenario import Scenario

SUBSYSTEMS = 5
"""With random streams of their own: see `seeds_of`."""


def seeds_of(scenario: Scenario) -> list[np.random.SeedSequence]:
    """Return a seed for the workloads, for routers, for what fails, for drafts and for training.

    Each has its own, so that changing one does not reshuffle the others.
    """
    return np.random.SeedSequence(scenario.seed).spawn(SUBSYSTEMS)


def workload_seeds(scenario: Scenario) -> dict[str, np.random.SeedSequence]:
    """Return the seed of every workload's random streams, by its name."""
    seeds = seeds_of(scenario)[0].spawn(len(scenario.workload))
    return dict(zip(scenario.workload, seeds, strict=True))


def pool_seeds(scenario: Scenario, pools: int) -> list[np.random.SeedSequence]:
    """Return the seed of the router, or of the pods, of each of so many pools."""
    return seeds_of(scenario)[1].spawn(pools)


def sample_seed(scenario: Scenario, place: int) -> int:
    """Return 64 random bits that decide which rows of a deployment a sample holds."""
    own = np.random.SeedSequence(scenario.seed, spawn_key=(SUBSYSTEMS, place))
    return int(own.generate_state(1, np.uint64)[0])
