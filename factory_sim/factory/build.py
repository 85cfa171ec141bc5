"""The one place that turns a description into processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from factory_sim.errors import InputError, Problem
from factory_sim.factory.dispatch.doors import open_doors
from factory_sim.factory.failures.chance import check_failures
from factory_sim.factory.fleets.fleet import Fleet, stage_shard
from factory_sim.factory.hands import HERE, Hands
from factory_sim.factory.layout import Layout, fleets_of
from factory_sim.factory.pools import StepTimes, open_pools
from factory_sim.factory.prefixes import caching_pools
from factory_sim.factory.premises import Premises
from factory_sim.factory.scaling.scaler import Scaler
from factory_sim.factory.seeds import seeds_of, workload_seeds
from factory_sim.factory.sessions import SessionBook
from factory_sim.factory.streams import open_streams
from factory_sim.factory.timetable import Timetable
from factory_sim.physics import aiconfigurator
from factory_sim.physics import arithmetic as work
from factory_sim.physics.context_parallel import ContextRoofline
from factory_sim.physics.kernel_times import KernelTimes
from factory_sim.physics.pipeline import Rotation, Stage, StageRoofline, Stages
from factory_sim.physics.rank_time import Lockstep, RankRoofline, rank_time
from factory_sim.physics.step_time import Roofline, StepTime
from factory_sim.physics.vision import Encoding, Seeing


def roofline(fleet: Fleet, clock: float) -> StepTime:
    """Return the roofline of a fleet with its drafts, or of one of its ranks, at a clock."""
    if fleet.drafting is not None:
        return fleet.drafting.step_time(
            fleet.chip, fleet.shard, fleet.host, clock, fleet.max_num_seqs, fleet.max_step_tokens
        )
    if fleet.encodes:
        assert fleet.vision is not None
        return Encoding(fleet.vision, fleet.host, clock)
    if fleet.vision is not None:
        sizes = (clock, fleet.max_num_seqs, fleet.max_step_tokens)
        return Seeing(fleet.chip, fleet.shard, fleet.host, *sizes, vision=fleet.vision)
    if len(fleet.stages) > 1:
        return pipeline_time(fleet, clock)
    kind = ContextRoofline if fleet.shard.cp > 1 else Roofline
    return (kind if fleet.ranks == 1 else RankRoofline)(
        fleet.chip, fleet.shard, fleet.host, clock, fleet.max_num_seqs, fleet.max_step_tokens
    )


def pipeline_time(fleet: Fleet, clock: float) -> Stages:
    """Return the step time of a micro-batch of a fleet's pipeline: equal stages are made once."""
    each, domain = fleet.spec.parallelism.gpus // len(fleet.stages), fleet.chip.domain
    kinds: dict[tuple[Stage, bool], int] = {}
    for number, stage in enumerate(fleet.stages):
        across = (number + 1) * each % domain == 0 and not stage.last
        kind = (stage._replace(first=False), across)  # embedding costs no time
        kinds[kind] = kinds.get(kind, 0) + 1
    made = [
        StageRoofline(
            fleet.chip,
            stage_shard(fleet.shard, stage),
            fleet.host,
            clock,
            fleet.max_num_seqs,
            fleet.max_step_tokens,
            stage.last,
            across,
        )
        for stage, across in kinds
    ]
    return Stages(made, list(kinds.values()))


def kernel_times(fleet: Fleet, clock: float) -> StepTime:
    """Return the step time of a fleet at a clock by AIConfigurator's kernel database.

    Raises InputError where its package is absent, or where it lacks what the fleet runs.
    """
    return KernelTimes(
        aiconfigurator.kernels(
            fleet.where,
            fleet.accelerator.name,
            fleet.engine,
            fleet.shard,
            fleet.precision,
            fleet.spec.kv_precision,
        ),
        fleet.host,
        work.blocks(fleet.model),
        clock,
        fleet.max_num_seqs,
        fleet.memory.tokens,
        fleet.longest,
    )


STEP_TIMES: dict[str, StepTimes] = {"roofline": roofline, "aiconfigurator": kernel_times}


def step_time_of(fleet: Fleet, clock: float) -> StepTime:
    """Return the step-time model that a fleet's deployment names, at a clock."""
    return STEP_TIMES[fleet.spec.step_time](fleet, clock)


def even_step_time(fleet: Fleet, clock: float, make: StepTimes = step_time_of) -> StepTime:
    """Return the step time of a replica, or of one rank among ranks that all carry the same."""
    step_time = make(fleet, clock)
    if isinstance(step_time, Stages):
        return Rotation(step_time, fleet.max_num_seqs)
    return step_time if fleet.ranks == 1 else Lockstep(rank_time(step_time), fleet.ranks)


class Factory:
    """A factory ready to run: the SimPy timetable and everything that lives in it.

    layouts: of its sites, mostly one. step_time: makes the step-time model of a fleet at a clock,
    in place of the one that its deployment names. debug: recount requests, tokens and KV blocks at
    every boundary. kernel: as in a scenario. hands: who serves pods by the compiled kernel.

    beyond: of each pool, what of it the compiled kernel cannot do; empty where it serves it.
    """

    def __init__(
        self,
        *layouts: Layout,
        step_time: StepTimes = step_time_of,
        debug: bool = False,
        kernel: str = "simpy",
        hands: Hands = HERE,
    ) -> None:
        self.scenario = scenario = layouts[0].part.whole
        check_failures(layouts)
        self.env = env = Timetable()
        self.fleets = fleets = fleets_of(layouts)
        self.caching = caching_pools(scenario, fleets)
        _, routers, chance, drafts, training = seeds_of(scenario)
        reasoning = {
            deployment
            for name, spec in scenario.workload.items()
            if spec.reasons
            for deployment in scenario.reach(name)
        }
        self.beyond = self._beyond(layouts, kernel, step_time, debug)
        compiled = {name for name, why in self.beyond.items() if not why}
        if hands.elsewhere is not None:
            _check_apart(fleets, self.beyond)
        pools = open_pools(
            env,
            layouts,
            fleets,
            self.caching,
            reasoning,
            step_time,
            [routers, drafts],
            debug,
            compiled,
            hands,
        )
        self.gateways, self.fronts, self.links, self.fabrics, self.gaps = pools
        # All meters are read at the same times, so that their tables have the same rows.
        self.period_s = min(layout.period_s for layout in layouts)
        self.premises = [
            Premises(env, layout, pools, self.period_s, chance, training) for layout in layouts
        ]
        self.jobs = [job for premises in self.premises for job in premises.jobs]
        self.scalers: dict[str, Scaler] = {}
        for premises in self.premises:
            self.scalers |= premises.scalers
        drawn = any(spec.sessions for spec in scenario.workload.values())
        self.sessions = SessionBook() if drawn else None
        own = workload_seeds(scenario)
        self.doors = open_doors(env, scenario, fleets, self.fronts, self.links, own)
        self.streams = open_streams(
            env, scenario, fleets, self.fronts, self.doors, self.caching, self.sessions
        )

    @property
    def ended(self) -> int:
        """Return the requests that have ended."""
        if self.doors:
            return sum(door.ended for door in self.doors.values())
        return sum(gateway.noted for gateway in self.gateways.values())

    def _beyond(
        self, layouts: Sequence[Layout], kernel: str, step_time: StepTimes, debug: bool
    ) -> dict[str, str]:
        if kernel == "simpy":
            return {fleet.name: "as asked" for fleet in self.fleets}
        # Here, since numba takes a second to import.
        from factory_sim.factory.kernel.choice import beyond

        return beyond(layouts, kernel, self.caching, step_time, debug)

    @property
    def waiting_or_running(self) -> int:
        """Return the requests inside the factory, or on their way to it from a front door."""
        inside = sum(gateway.inside for gateway in self.gateways.values())
        return inside + sum(door.under_way for door in self.doors.values())


def _check_apart(fleets: Sequence[Fleet], beyond: Mapping[str, str]) -> None:
    """Raise InputError unless some pods are apart, so that others may serve them."""
    podded = [fleet.name for fleet in fleets if len(fleet.pods) > 1]
    if any(not beyond[name] for name in podded):
        return
    if podded:
        whys = "; ".join(f"{name}: {beyond[name]}" for name in podded)
        said = f"pods are sent to a cluster only where the compiled kernel serves them ({whys}); "
        said += "say kernel: auto, or leave it out"
    else:
        said = "nothing in this run is independent of the rest; give a deployment pods, groups of "
        said += "replicas that have a router each (router: {pods: 8}), or leave it out"
    raise InputError(Problem("--dask", said))
