"""Who keeps prefixes: whether a deployment has a prefix cache, by what its workloads say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.fleet import Fleet, path_of
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.workload.stream import has_sessions, hash_tokens


def caches_prefixes(scenario: Scenario, fleet: Fleet) -> bool:
    """Tell whether the replicas of a fleet have a prefix cache.

    As the deployment says; else where a workload's prompts carry hashes, since engines have it on
    by default. Raises InputError where it could find nothing, or for a router that asks for it.
    """
    if fleet.spec.prefill is not None:  # who comes there has the KV cache of its prompt
        problems = list(_of_router(scenario, fleet, False))
        if problems:
            raise InputError(problems)
        return False
    engine = _engine_path(scenario, fleet)
    hashed = {
        name: tokens
        for name, spec in sent_to(scenario, fleet)
        if (tokens := _hash_tokens(spec, fleet, f"workload.{name}"))
    }
    wanted = fleet.spec.engine.prefix_caching
    caches = bool(hashed) if wanted is None else wanted
    if not caches and (tier := next(iter(fleet.spec.engine.cache_tiers), "")):
        raise InputError(
            Problem(
                f"{engine}.{tier}",
                f"takes what a prefix cache has no room for, and {fleet.name} has none: no "
                f"workload of it has sessions, or prompts that carry hashes; leave {tier} out",
            )
        )
    if caches and fleet.spec.engine.preemption == "swap":
        raise InputError(
            Problem(
                f"{engine}.preemption",
                "a workload has sessions or prompts with hashes, and a prefix cache keeps the "
                "blocks of preempted requests where they are; leave out 'preemption: swap', or "
                "say 'prefix_caching: false'",
            )
        )
    problems = [*_of_hashes(scenario, fleet, hashed, caches), *_of_router(scenario, fleet, caches)]
    if problems:
        raise InputError(problems)
    return caches


def caching_pools(scenario: Scenario, fleets: Sequence[Fleet]) -> set[str]:
    """Return the names of those fleets whose replicas have a prefix cache."""
    return {
        fleet.name for fleet in fleets if not fleet.encodes and caches_prefixes(scenario, fleet)
    }


def _engine_path(scenario: Scenario, fleet: Fleet) -> str:
    """Return where the scenario describes the engine of a fleet."""
    prefill = scenario.deployments[fleet.deployment].prefill
    own = fleet.where if prefill is not None and prefill.engine else path_of(fleet.deployment)
    return f"{own}.engine"


def sent_to(scenario: Scenario, fleet: Fleet) -> Iterator[tuple[str, WorkloadSpec]]:
    """Yield the workloads of a fleet, by name."""
    for name, spec in scenario.workload.items():
        if fleet.deployment in scenario.reach(name):
            yield name, spec


def _hash_tokens(spec: WorkloadSpec, fleet: Fleet, where: str) -> int:
    """Return the tokens that a hash covers: of a session, whose content is known, a KV block."""
    if spec.sessions is not None:
        return fleet.memory.block_tokens
    return hash_tokens(spec, Path(), where)


def _of_hashes(
    scenario: Scenario, fleet: Fleet, hashed: dict[str, int], caches: bool
) -> Iterator[Problem]:
    engine = _engine_path(scenario, fleet)
    if not caches:
        return
    if not hashed:
        yield Problem(
            f"{engine}.prefix_caching",
            f"no workload of {fleet.name} says which prompts begin alike, so that nothing could be "
            "found; give a workload sessions, take a trace with hashes (such as Mooncake's "
            "hash_ids), or leave it out and say how many tokens are found with a workload's "
            "'cached'",
        )
    block = fleet.memory.block_tokens
    for name, tokens in hashed.items():
        if tokens % block:
            yield Problem(
                f"workload.{name}.arrivals",
                f"its hashes cover {tokens} tokens each, which are no whole KV blocks of {block}; "
                f"hash a multiple of {block} tokens, or say engine.prefix_caching: false",
            )
        if scenario.workload[name].cached is not None:
            yield Problem(
                f"workload.{name}.cached",
                "the prompts carry hashes, and the run finds out what is cached; drop cached, or "
                f"say {engine}.prefix_caching: false",
            )


def _of_router(scenario: Scenario, fleet: Fleet, caches: bool) -> Iterator[Problem]:
    where, policy = f"{fleet.where}.router.policy", fleet.spec.router.policy
    if policy not in ("cache-aware", "sticky"):
        return
    sessions = {
        name: has_sessions(spec, Path(), f"workload.{name}")
        for name, spec in sent_to(scenario, fleet)
    }
    if policy == "cache-aware" and not caches:
        yield Problem(
            where,
            f"cache-aware looks into prefix caches, and {fleet.name} has none; take "
            "least-outstanding, or a workload with sessions or whose prompts carry hashes",
        )
    elif policy == "sticky" and not any(sessions.values()):
        yield Problem(
            where,
            f"sticky keeps a session's requests together, and no workload of {fleet.name} has "
            "sessions; take least-outstanding or cache-aware, give a workload 'sessions', or take "
            "a trace with a session column",
        )
    elif fleet.scale > 1.0 and not all(sessions.values()):
        yield Problem(
            f"{fleet.where}.replicas.simulate",
            f"of a trace without sessions single requests are left out for the replicas that are "
            f"not simulated, and {policy} would find less of the others than there is; simulate "
            "all replicas, or take a trace with sessions",
        )
