"""Clients: open streams that send whatever happens, and closed loops that wait for answers."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import count
from typing import Any, Protocol

import numpy as np
from simpy import Event

from factory_sim.factory.engine.prefix_cache import Hashes
from factory_sim.factory.engine.request import Request
from factory_sim.factory.timetable import ARRIVAL, COMPLETION, Timetable
from factory_sim.workload.stream import Block

Story = Generator[Event, Any, None]

RETRY_AFTER_S = 1.0
"""How long a refused client of a closed loop stays away, as HTTP's Retry-After would say."""


class Entry(Protocol):
    """Where requests come in: a gateway, or a front door."""

    def arrive(self, request: Request) -> None:
        """Take a request that comes now."""


class Stream:
    """What the requests of one workload share.

    number: of the workload in the scenario, of so `many`. lag_s: from the client's sending to the
    arrival at a replica (half the round trip, and the host's time per request), 0 to a front door.
    timeout_s: how long a client waits; infinity for ever. numbers: gives each request of the run
    its own.
    hash_blocks: KV blocks that each hash of a prompt covers; 0 where no cache asks for hashes.
    """

    def __init__(
        self,
        env: Timetable,
        gateway: Entry,
        number: int,
        lag_s: float,
        timeout_s: float,
        numbers: count[int],
        many: int = 1,
        hash_blocks: int = 0,
    ) -> None:
        self.env, self.gateway, self.number = env, gateway, number
        self.lag_s, self.timeout_s, self.numbers = lag_s, timeout_s, numbers
        self.many, self.hash_blocks = many, hash_blocks
        self.sent = 0

    def request(
        self,
        arrival_s: float,
        prompt: int,
        output: int,
        cached: int,
        archetype: int = 0,
        session: int = -1,
        keys: tuple[int, ...] = (),
        reasoning: int = 0,
        images: int = 0,
        forgets: bool = False,
    ) -> Request:
        """Return a request that its client sends at `arrival_s`.

        session, keys: as in the workload's blocks; no two workloads have any in common. forgets:
        the session goes on without this reasoning.
        """
        self.sent += 1
        many, number = self.many, self.number
        hashes = None
        if keys and self.hash_blocks:
            own = tuple([key * many + number for key in keys])
            hashes = Hashes(own, self.hash_blocks, forgets)
        request = Request(
            next(self.numbers),
            arrival_s,
            prompt,
            output,
            cached,
            arrival_s + self.timeout_s,
            number,
            archetype,
            session * many + number if session >= 0 else -1,
            hashes,
            reasoning,
            images,
        )
        request.lot = (self.sent - 1) * many + number
        return request


class ServedStream(Stream):
    """A stream whose requests carry what the queues of replicas go by.

    priority: of its class. promised_s: seconds from arrival until the first token is promised, as
    seen from the replica; infinity where nothing is promised. tenants: numbers of who sends one
    request after another.
    """

    priority: int
    promised_s: float
    tenants: Iterator[int]

    def serve(self, priority: int, promised_s: float, tenants: Iterator[int]) -> None:
        """Say what its requests carry."""
        self.priority, self.promised_s, self.tenants = priority, promised_s, tenants
        self._by_session: dict[int, int] = {}

    def request(self, arrival_s: float, *asked: Any, **more: Any) -> Request:
        """Return a request that its client sends at `arrival_s`; a session is of one tenant."""
        request = super().request(arrival_s, *asked, **more)
        request.priority = self.priority
        request.deadline_s = arrival_s + self.promised_s
        session = request.session
        if session < 0:
            request.tenant = next(self.tenants)
        else:
            if session not in self._by_session:
                self._by_session[session] = next(self.tenants)
            request.tenant = self._by_session[session]
        return request


def open_stream(stream: Stream, blocks: Iterable[Block]) -> None:
    """Send each request at its own time, as users do who do not know of each other."""
    env, sending = stream.env, _sending(stream, blocks)

    def go_on(_: int) -> None:
        for next_s in sending:
            env.call(next_s, ARRIVAL, go_on)
            return

    env.call(env.now, COMPLETION, go_on)


def _sending(stream: Stream, blocks: Iterable[Block]) -> Iterator[float]:
    """Yield the time of each arrival, and let it happen when asked for the next."""
    lag_s, arrive, request = stream.lag_s, stream.gateway.arrive, stream.request
    for block in blocks:
        for arrival_s, *asked in zip(
            block.arrival_s.tolist(),
            block.prompt.tolist(),
            block.output.tolist(),
            block.cached.tolist(),
            block.archetype.tolist(),
            block.session.tolist(),
            block.hashes.tolist(),
            block.reasoning.tolist(),
            block.images.tolist(),
            strict=True,
        ):
            yield arrival_s + lag_s
            arrive(request(arrival_s, *asked))


def closed_client(
    stream: Stream,
    draws: Iterator[tuple[int, int, int, int, int]],
    thinking: Iterator[float],
    back_s: float,
    end_s: float,
    budget: Iterator[int],
) -> Story:
    """Send, wait for the answer, think, send again.

    draws: prompt, output, cached and reasoning tokens, and images, of the next request of this
    workload. thinking: pauses, seconds. back_s: from the replica back to the client. end_s: nobody
    sends after it. budget: gives out the requests that all clients together may send. A client
    that is refused waits RETRY_AFTER_S before its next request.
    """
    env = stream.env
    for _ in budget:
        prompt, output, cached, reasoning, images = next(draws)
        request = stream.request(
            env.now, prompt, output, cached, reasoning=reasoning, images=images
        )
        answer = request.client = env.event()
        yield env.at(env.now + stream.lag_s, ARRIVAL)
        stream.gateway.arrive(request)
        outcome = yield answer
        refused_s = RETRY_AFTER_S if outcome == "rejected" else 0.0
        yield env.at(env.now + back_s + next(thinking) + refused_s, ARRIVAL)
        if env.now >= end_s:
            return


def thinking_times(
    mean_s: float, exponential: bool, seed: np.random.SeedSequence
) -> Iterator[float]:
    """Yield think times: all of `mean_s`, or exponential with that mean."""
    rng = np.random.default_rng(seed)
    while True:
        yield from (rng.exponential(mean_s, 256).tolist() if exponential else [mean_s])


def senders(
    numbers: list[int], weights: list[float], seed: np.random.SeedSequence
) -> Iterator[int]:
    """Yield which tenant sends the next request, by their weights."""
    if len(numbers) == 1:
        while True:
            yield numbers[0]
    rng = np.random.default_rng(seed)
    shares = np.array(weights) / sum(weights)
    while True:
        yield from rng.choice(numbers, size=256, p=shares).tolist()


def sending(limit: int | None) -> Iterator[int]:
    """Yield numbers up to `limit`, or for ever: who draws one may send a request."""
    return iter(range(limit)) if limit is not None else iter(range(2**62))
