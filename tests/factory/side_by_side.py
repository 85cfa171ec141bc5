"""One replica served twice: by the macro-step engine in SimPy and by the plain reference.

A `Case` says everything that both need; `engine` and `reference` serve it. `Toy` is a step
time simple enough to read, with a weight for everything an engine may count wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch, Batching
from factory_sim.factory.engine.batching import BATCHING
from factory_sim.factory.engine.composing import composed
from factory_sim.factory.engine.drafted_kv import DraftedBlocks
from factory_sim.factory.engine.drafts import Drafts
from factory_sim.factory.engine.host_memory import HostMemory
from factory_sim.factory.engine.joining_batch import Joining, JoiningBatch
from factory_sim.factory.engine.kv import KvBlocks
from factory_sim.factory.engine.pipeline import in_turns
from factory_sim.factory.engine.prefix_batch import PrefixBatch
from factory_sim.factory.engine.prefix_cache import WHOLE_SESSION, Hashes, PrefixCache
from factory_sim.factory.engine.prompt_batch import PromptBatch
from factory_sim.factory.engine.ranks import Ranks, in_lockstep
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.scheduled_batch import ScheduledBatch, Settling
from factory_sim.factory.engine.scheduling import Queue
from factory_sim.factory.engine.scheduling.edf import Edf
from factory_sim.factory.engine.scheduling.fair import CountedFair, Fair
from factory_sim.factory.engine.scheduling.fcfs import Fcfs
from factory_sim.factory.engine.scheduling.priority import Priority
from factory_sim.factory.engine.speculating_batch import SpeculatingBatch
from factory_sim.factory.engine.swapping_batch import SwappingBatch
from factory_sim.factory.engine.tiered_cache import Tier, TieredBatch
from factory_sim.factory.linked_replica import LinkedReplica
from factory_sim.factory.replica import Replica, Speed
from factory_sim.factory.timetable import ARRIVAL, CONTROL, Timetable
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.metrics.totals import Totals
from factory_sim.physics.pipeline import Stages
from factory_sim.physics.power import StepPower
from factory_sim.physics.step_time import Chunk, Cost, StepTime
from tests.ranked_reference import (
    RANK_SCORES,
    TURN_SCORES,
    Lasts,
    ranks_last,
    run_ranks,
    turns_last,
)
from tests.reference import FCFS, Order, ReferenceRequest, ReferenceRun, run_reference

SpeedAt = Callable[[float], Speed]


@dataclass(frozen=True)
class Toy:
    """A step time linear in everything, seconds. Compute scales with the clock."""

    base: float = 0.0
    compute: float = 0.0
    per_sequence: float = 0.0
    per_token: float = 0.0
    per_sample: float = 0.0
    per_pair: float = 0.0
    attend: float = 0.0
    attend_window: float = 0.0
    window: int = 0
    per_shared: float = 0.0
    per_shared_sample: float = 0.0
    image: float = 0.0
    clock: float = 1.0

    def encode(self, images: int) -> Cost:
        """Return the cost of images: a pause."""
        return Cost(self.image * images, network_s=self.image * images)

    def together(self, decoding: int, prompt: int, sampled: int) -> Cost:
        """Return what ranks do together: half of it compute, half of it links."""
        each = (self.per_shared * (decoding + prompt) + self.per_shared_sample * sampled) / 2
        return Cost(each / self.clock + each, each, 0.0, each, 0.0, each, each)

    @property
    def per_context(self) -> Cost:
        return self._cost(0.0, 0.0, self.attend)

    @property
    def per_windowed(self) -> Cost:
        return self._cost(0.0, 0.0, self.attend_window)

    def decode(self, sequences: int) -> Cost:
        return self.mixed(sequences, 0, 0, [], sequences)

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        tokens = sequences + sum(chunk.length for chunk in chunks)
        pairs = sum(chunk.length * (chunk.start + chunk.length / 2) for chunk in chunks)
        compute_s = self.compute + self.per_token * tokens
        compute_s += self.per_sample * sampled + self.per_pair * pairs
        memory_s = self.attend * context + self.attend_window * windowed
        return self._cost(self.base + self.per_sequence * sequences, compute_s, memory_s)

    def _cost(self, host_s: float, compute_s: float, memory_s: float) -> Cost:
        duration_s = host_s + compute_s / self.clock + memory_s
        return Cost(duration_s, compute_s, memory_s, 0.0, host_s, compute_s, memory_s)


def toy_power(clock: float) -> StepPower:
    """Return the power of a GPU between 100 and 700 W, with the catalogue's kind of curve."""
    return StepPower(100.0, 600.0 * clock**2.4, 0.3, 4.0 / clock, 1.2)


@dataclass(frozen=True)
class Plain:
    """A `StepTime` and a power as the reference asks for them: from all contexts, one by one."""

    speed: Speed

    def step_s(
        self, contexts: Sequence[float], chunks: Sequence[tuple[int, int]], sampled: int
    ) -> float:
        return self._cost(contexts, chunks, sampled).duration_s

    def step_power_w(
        self, contexts: Sequence[float], chunks: Sequence[tuple[int, int]], sampled: int
    ) -> float:
        return self.speed.power.power_w(self._cost(contexts, chunks, sampled))

    def images_s(self, images: int) -> float:
        return self.speed.step_time.encode(images).duration_s

    def paused_power_w(
        self,
        contexts: Sequence[int],
        chunks: Sequence[tuple[int, int]],
        sampled: int,
        paused_s: float,
    ) -> float:
        cost = self._cost(contexts, chunks, sampled)
        return self.speed.power.power_w(cost._replace(duration_s=cost.duration_s + paused_s))

    def shared_power_w(
        self,
        contexts: Sequence[int],
        chunks: Sequence[tuple[int, int]],
        sampled: int,
        shared: Cost,
        duration_s: float,
    ) -> float:
        own = self._cost(contexts, chunks, sampled)
        both = own._replace(
            duration_s=duration_s,
            busy_compute_s=own.busy_compute_s + shared.busy_compute_s,
            busy_memory_s=own.busy_memory_s + shared.busy_memory_s,
        )
        return self.speed.power.power_w(both)

    def _cost(
        self, contexts: Sequence[float], chunks: Sequence[tuple[int, int]], sampled: int
    ) -> Cost:
        model: StepTime = self.speed.step_time
        attended = sum(contexts)
        windowed = sum(min(context, model.window) for context in contexts)
        if chunks:
            pieces = [Chunk(*chunk) for chunk in chunks]
            return model.mixed(len(contexts), attended, windowed, pieces, sampled)
        parts = zip(model.decode(len(contexts)), model.per_context, model.per_windowed, strict=True)
        return Cost._make(fixed + attended * a + windowed * b for fixed, a, b in parts)


@dataclass(frozen=True)
class Case:
    """One replica and all that happens to it. clock_changes: (seconds, clock), after clock 1.

    role: "prompts" of a replica that only computes prompts, "decodes" of one that takes requests
    in with their KV cache. ranks: of data-parallel attention; pp: stages of a pipeline, whose step
    time is of `Stages`; limits are those of each rank or micro-batch.
    """

    requests: tuple[ReferenceRequest, ...]
    speed_at: SpeedAt
    policy: str = "chunked"
    max_num_seqs: int = 8
    max_num_batched_tokens: int = 64
    blocks: int = 100
    block_tokens: int = 16
    max_queue: int | None = None
    async_scheduling: bool = False
    role: str = ""
    drafts: Drafts | None = None
    ranks: int = 1
    pp: int = 1
    order: Order = FCFS
    host_blocks: int = 0
    move_s: float = 0.0
    shelves: tuple[tuple[int, float], ...] = ()
    clock_changes: tuple[tuple[float, float], ...] = ()
    looks_s: tuple[float, ...] = ()


@dataclass
class EngineRun:
    """What the engine made of a case: requests as given, and (outcome, time) of each."""

    requests: list[Request]
    batch: Batch | Ranks
    gaps: GapHistogram
    left: dict[int, tuple[str, float]] = field(default_factory=dict)
    looks: list[Totals] = field(default_factory=list)
    events: int = 0


def reference(case: Case) -> ReferenceRun:
    """Serve the case step by step."""
    clocks = {1.0, *(clock for _, clock in case.clock_changes)}
    order = {"order": case.order, "host_blocks": case.host_blocks, "move_s": case.move_s}
    plain = {clock: Plain(case.speed_at(clock)) for clock in clocks}
    run = partial(run_reference, physics_by_clock=plain)
    if case.ranks > 1:
        lasts = {clock: _ranks_last(case.speed_at(clock)) for clock in clocks}
        run = partial(run_ranks, ranks=case.ranks, lasts_by_clock=lasts, scores=RANK_SCORES)
    if case.pp > 1:
        lasts = {clock: _turns_last(case.speed_at(clock)) for clock in clocks}
        run = partial(run_ranks, ranks=case.pp, lasts_by_clock=lasts, scores=TURN_SCORES)
    run = partial(run, **order, shelves=case.shelves)
    if case.drafts is not None:
        drafts, draw_steps = case.drafts.tokens, case.drafts.steps
        run = partial(run, drafts=drafts, draw_steps=draw_steps)
    return run(
        case.requests,
        policy=case.policy,
        max_num_seqs=case.max_num_seqs,
        max_num_batched_tokens=case.max_num_batched_tokens,
        blocks=case.blocks,
        block_tokens=case.block_tokens,
        clock_changes=[(0.0, 1.0), *case.clock_changes],
        max_queue=case.max_queue,
        async_scheduling=case.async_scheduling,
    )


def _ranks_last(speed: Speed) -> Lasts:
    return ranks_last(Plain(speed), speed.step_time.together)


def _turns_last(speed: Speed) -> Lasts:
    model = speed.step_time
    assert isinstance(model, Stages)
    pairs = zip(model.stages, model.counts, strict=True)
    stages = [Plain(Speed(s, speed.power)) for s, many in pairs for _ in range(many)]
    return turns_last(stages, speed.power.idle_w)


def hashes_of(asked: ReferenceRequest) -> Hashes | None:
    """Return what the engine is told of the content of a request's blocks."""
    if asked.session is not None:
        return Hashes((asked.session,), WHOLE_SESSION, asked.forgets)
    return Hashes(asked.hashes, asked.hash_blocks) if asked.hashes else None


def queue_of(order: Order, drafts: bool = False) -> Queue:
    """Return the engine's queue in this order."""
    made: dict[str, Callable[[], Queue]] = {
        "fcfs": Fcfs,
        "priority": Priority,
        "edf": lambda: Edf(order.refuse_rate),
        "fair": lambda: (CountedFair if drafts else Fair)(*order.weights),
    }
    return made[order.policy]()


def engine(case: Case) -> EngineRun:
    """Serve the case by macro-steps in SimPy, recounting everything at every boundary."""
    env = Timetable()
    gaps = GapHistogram()
    hashed = any(asked.shareable for asked in case.requests)
    layers: list[type[Batch]] = []
    fixed: dict[str, Any] = {}
    if case.role == "prompts":
        layers.append(PromptBatch)
        fixed |= {"longest": math.inf, "most_prompt": case.blocks * case.block_tokens}
    elif case.role == "decodes":
        layers.append(JoiningBatch)
    if case.drafts is not None:
        layers.append(SpeculatingBatch)
        fixed["drafts"] = case.drafts
    if hashed and case.role != "decodes":
        layers.append(PrefixBatch)
        if case.shelves:
            layers.append(TieredBatch)
            fixed["tiers"] = [Tier(*shelf) for shelf in case.shelves]
    ordered = case.order.policy != "fcfs" or case.host_blocks > 0
    if case.host_blocks:
        layers.append(SwappingBatch)
    elif ordered:
        layers.append(ScheduledBatch)
    if case.async_scheduling:
        layers.append(AsyncBatch)
    kind = composed(*layers)

    def batch_of() -> Batch:
        policy: Batching = BATCHING[case.policy](case.max_num_batched_tokens)
        kv = KvBlocks(case.blocks, case.block_tokens)
        own = dict(fixed)
        if case.drafts is not None:
            kv = DraftedBlocks(case.blocks, case.block_tokens, case.drafts.tokens)
        if PrefixBatch in layers and not case.shelves:
            own["prefix"] = PrefixCache()
        if case.role == "decodes" or case.host_blocks:
            policy = Joining(policy)
        if ordered:
            policy = Settling(policy)
            own["queue"] = queue_of(case.order, case.drafts is not None)
        if case.host_blocks:
            own["host"] = HostMemory(case.host_blocks, case.move_s)
        return kind(
            policy,
            *case.speed_at(1.0),
            kv,
            case.max_num_seqs,
            math.inf if case.max_queue is None else case.max_queue,
            gaps,
            **own,
        )

    batch = in_lockstep(case.ranks, batch_of) if case.pp == 1 else in_turns(case.pp, batch_of)
    if any(asked.reasoning for asked in case.requests):
        batch.note_answers()
    if any(asked.images for asked in case.requests):
        assert isinstance(batch, Batch)
        batch.sees = True
    requests = [
        Request(
            number,
            asked.arrival_s,
            asked.prompt,
            asked.output,
            asked.cached,
            asked.deadline_s,
            hashes=hashes_of(asked),
            reasoning=asked.reasoning,
            images=asked.images,
        )
        for number, asked in enumerate(case.requests)
    ]
    for asked, request in zip(case.requests, requests, strict=True):
        if asked.made_s is not None:
            request.emitted, request.carried = 1, asked.prompt
            request.first_token_s = request.last_token_s = asked.made_s
            request.hit = min(asked.cached, asked.prompt - 1) // case.block_tokens
            request.hit *= case.block_tokens
    for asked, request in zip(case.requests, requests, strict=True):
        request.priority, request.tenant = asked.priority, asked.tenant
        request.deadline_s = asked.promised_s
    run = EngineRun(requests, batch, gaps)

    def leave(replica: Replica, request: Request, time: float, outcome: str) -> None:
        if case.role == "prompts" and outcome == "completed" and request.emitted < request.output:
            outcome = "sent"
            sent_s = time + case.requests[request.number].sends_s
            env.call(sent_s, CONTROL, lambda _: (batch.release(request), replica.wake()))
        assert request.number not in run.left, "a request leaves once"
        run.left[request.number] = (outcome, time)
        if outcome == "completed":
            for number, asked in enumerate(case.requests):
                if asked.follows == request.number:
                    follow(requests[number], time)

    def follow(request: Request, answered_s: float) -> None:
        request.arrival_s += answered_s
        request.due_s += request.arrival_s
        env.call(request.arrival_s, ARRIVAL, lambda _: arrive(request))

    replica = (LinkedReplica if case.role else Replica)(
        env, 0, [0], batch, case.speed_at, leave, True
    )

    def arrive(request: Request) -> None:
        if not replica.submit(request):
            leave(replica, request, env.now, "rejected")

    for request in sorted(requests, key=lambda request: request.arrival_s):
        if case.requests[request.number].follows is not None:
            continue
        env.call(request.arrival_s, ARRIVAL, lambda _, request=request: arrive(request))
    for time_s, clock in case.clock_changes:
        change = env.timeout(time_s)
        change.callbacks.append(lambda _, clock=clock: replica.hold_clock("test", clock))
    for time_s in sorted(case.looks_s):
        look = env.timeout(time_s)
        look.callbacks.append(lambda _: run.looks.append(replica.totals()))
    while env.peek() < math.inf:
        env.step()
        run.events += 1
    for number in range(len(requests)):
        run.left.setdefault(number, ("", math.nan))  # never sent
    return run
