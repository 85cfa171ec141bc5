"""Batches that step together, step by step: replicas of the plain reference, tied together.

Ranks of data-parallel attention, or micro-batches of a pipeline. Each plans for itself, as the
reference of one replica does. Then all take one step, and those without work come along. A step
starts when the one before has ended for all. How long it lasts, from what each carries, and who
gets the next request is told by the two kinds at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol

from factory_sim.physics.step_time import Cost
from tests.reference import (
    _POLICIES,
    SAME_TIME_S,
    Physics,
    ReferenceRecord,
    ReferenceRequest,
    ReferenceRun,
    ReferenceStep,
    _Plan,
    _Replica,
)


class SharedPhysics(Physics, Protocol):
    """Physics of a rank, which knows what it draws in a step that is not its own."""

    def shared_power_w(
        self,
        contexts: Sequence[float],
        chunks: Sequence[tuple[int, int]],
        sampled: int,
        shared: Cost,
        duration_s: float,
    ) -> float:
        """Return the watts of a GPU in a step of that duration, `shared` being done by all."""
        ...


Together = Callable[[int, int, int], Cost]
Load = tuple[list[float], list[tuple[int, int]], int, float]
"""What one batch carries in a step: contexts of its decodes, prompt chunks, tokens emitted; for how
many seconds it moves blocks."""
Lasts = Callable[[list[Load]], tuple[float, float]]
"""The seconds of a step of all, and the watts of a GPU in the mean."""
Scores = tuple[Callable[[int, int], int], bool]
"""How a batch with so many waiting and running scores, lowest first; whether the search begins
after the last one that got a request."""


def run_ranks(
    requests: Sequence[ReferenceRequest],
    *,
    ranks: int,
    policy: str,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    blocks: int,
    block_tokens: int,
    lasts_by_clock: Mapping[float, Lasts],
    scores: Scores,
    clock_changes: Sequence[tuple[float, float]],
    max_queue: int | None = None,
    async_scheduling: bool = False,
    **more: Any,
) -> ReferenceRun:
    """Serve `requests` by `ranks` ranks until all have left; `.steps` are those of all together.

    lasts_by_clock: what a step lasts and draws, from what every batch carries in it. more: what
    every rank can do as a replica can, see `run_reference`.
    """
    run = ReferenceRun(ReferenceRecord(request) for request in requests)
    arrivals = sorted(enumerate(run), key=lambda item: item[1].request.arrival_s)
    most = math.inf if max_queue is None else max_queue
    crew = [
        _Replica(
            max_num_seqs=max_num_seqs,
            budget=max_num_batched_tokens,
            blocks=blocks,
            block_tokens=block_tokens,
            max_queue=most,
            **more,
        )
        for _ in range(ranks)
    ]
    plans = [_Plan() for _ in crew]
    changes = list(clock_changes)
    _, clock = changes.pop(0)
    turn = 0

    def arrive() -> None:
        nonlocal turn
        best = None
        score_of, goes_round = scores
        for offset in range(ranks):
            number = (turn + offset) % ranks if goes_round else offset
            score = score_of(len(crew[number].waiting), len(crew[number].running))
            if best is None or score < best[0]:
                best = (score, number)
        assert best is not None
        turn = (best[1] + 1) % ranks
        crew[best[1]].join(*arrivals.pop(0))

    now = 0.0
    while True:
        while arrivals and arrivals[0][1].request.arrival_s < now - SAME_TIME_S:
            arrive()
        for replica, plan in zip(crew, plans, strict=True):
            replica.finish(plan, now)
        while changes and changes[0][0] <= now + SAME_TIME_S:
            _, clock = changes.pop(0)
        for replica in crew:
            replica.time_out(now)
        while arrivals and arrivals[0][1].request.arrival_s <= now + SAME_TIME_S:
            arrive()
        plans = []
        for replica in crew:
            replica.check()
            ahead = async_scheduling and replica.running
            replica.looked_s = run.steps[-1].start_s if ahead else math.inf
            replica.preempted, replica.moved, replica.fetching_s = False, 0, 0.0
            replica.see_newcomers()
            if policy != "static" or not replica.running:
                replica.join_carried(now)
            plans.append(_POLICIES[policy](replica, now))
        if all(plan.empty for plan in plans):
            while arrivals and crew[0].refuses(arrivals[0][1].request):
                arrive()  # all queues are empty: what one rank refuses, all do
            if not arrivals:
                return run
            now = arrivals[0][1].request.arrival_s
            continue
        step = _step(crew, plans, now, clock, lasts_by_clock[clock], more.get("move_s", 0.0))
        run.steps.append(step)
        now = step.end_s


def _step(
    crew: list[_Replica],
    plans: list[_Plan],
    now: float,
    clock: float,
    lasts: Lasts,
    move_s: float,
) -> ReferenceStep:
    sampled = 0
    chunks: list[tuple[int, int]] = []
    loads: list[Load] = []
    for replica, plan in zip(crew, plans, strict=True):
        sees = Fraction(sum(range(1, replica.drafts + 2)), replica.drafts + 1)
        contexts = [float(sequence.exact_kv + sees) for sequence in plan.decoded]
        own = [(sequence.kv, length) for sequence, length in plan.chunks]
        emitted = len(contexts)
        emitted += sum(length == sequence.remaining for sequence, length in plan.chunks)
        loads.append((contexts, own, emitted, replica.moved * move_s + replica.fetching_s))
        sampled += emitted
        chunks += own
    duration_s, power_w = lasts(loads)
    return ReferenceStep(
        start_s=now,
        end_s=now + duration_s,
        clock=clock,
        decoded=tuple(s.index for plan in plans for s in plan.decoded),
        prefilled=tuple(s.index for plan in plans for s, _ in plan.chunks),
        context=0,
        chunks=tuple(chunks),
        sampled=sampled,
        running=sum(len(replica.running) for replica in crew),
        waiting=sum(len(replica.waiting) for replica in crew),
        known=0,
        blocks_in_use=sum(replica.blocks - replica.free for replica in crew),
        energy_j=power_w * duration_s,
        made=sampled,
    )


# -- ranks of data-parallel attention --------------------------------------------------

RANK_SCORES: Scores = (lambda waiting, running: 4 * waiting + running, True)


def ranks_last(physics: SharedPhysics, together: Together) -> Lasts:
    """As long as the slowest rank's own part, and what they do together with all tokens."""

    def lasts(loads: list[Load]) -> tuple[float, float]:
        slowest_s, decoding, prompts, sampled = 0.0, 0, 0, 0
        for contexts, chunks, emitted, moving_s in loads:
            slowest_s = max(slowest_s, physics.step_s(contexts, chunks, emitted) + moving_s)
            decoding += len(contexts)
            prompts += sum(length for _, length in chunks)
            sampled += emitted
        shared = together(decoding, prompts, sampled)
        duration_s = slowest_s + shared.duration_s
        powers_w = [physics.shared_power_w(*load[:3], shared, duration_s) for load in loads]
        return duration_s, sum(powers_w) / len(loads)

    return lasts


# -- micro-batches of a pipeline -------------------------------------------------------

TURN_SCORES: Scores = (lambda waiting, running: waiting + running, False)


def turns_last(stages: Sequence[Physics], idle_w: float) -> Lasts:
    """As long as the busiest stage has work, or as the slowest micro-batch is on its way.

    GPUs of a stage draw what each micro-batch's turn there takes, one after the other, and then
    rest, at so many watts.
    """

    def lasts(loads: list[Load]) -> tuple[float, float]:
        times = [
            [stage.step_s(*load[:3]) if load[0] or load[1] else 0.0 for stage in stages]
            for load in loads
        ]
        on_its_way = [sum(row) for row in times]
        busy = [sum(row[number] for row in times) for number in range(len(stages))]
        round_s = max(on_its_way + busy)
        joules = [idle_w * (round_s - busy_s) for busy_s in busy]
        for load, row in zip(loads, times, strict=True):
            for number, (stage, turn_s) in enumerate(zip(stages, row, strict=True)):
                if turn_s:
                    joules[number] += turn_s * stage.step_power_w(*load[:3])
        watts = sum(joules) / len(joules) / round_s if round_s else idle_w
        return round_s, watts

    return lasts
