"""The front door: it sends each request of a workload over the network to a deployment.

Like a travel agent near its customers: it picks a carrier, rebooks who is turned away, and knows
when each of them is back home.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from factory_sim.factory.dispatch.protocol import Ask, Dispatcher
from factory_sim.factory.engine.request import Request
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.timetable import ARRIVAL, COMPLETION, Timetable
from factory_sim.metrics.trips import TRIP
from factory_sim.physics.delivery import Line, deliver, way_in_s
from factory_sim.scenario.signal import Signal

NAN = float("nan")


class Tariff(Protocol):
    """What energy costs at a site, and its carbon; None where nobody says."""

    @property
    def price(self) -> Signal | None: ...

    @property
    def carbon(self) -> Signal | None: ...


class Counter:
    """A deployment as front doors see it. number: among the deployments. host_s: the host's time
    for each request. travelling: requests on their way to it."""

    def __init__(self, number: int, gateway: Gateway, host_s: float, site: Tariff) -> None:
        self.number, self.gateway, self.host_s = number, gateway, host_s
        self._site = site
        self.travelling = 0

    @property
    def outstanding(self) -> int:
        """Return the requests there or on their way."""
        return self.gateway.inside + self.travelling

    @property
    def open(self) -> bool:
        """Tell whether a replica takes requests, or would be started for one."""
        return self.gateway.open

    def price(self, now: float) -> float:
        """Return the price of energy at its site, USD/J."""
        assert self._site.price is not None
        return float(self._site.price.at(now))

    def carbon(self, now: float) -> float:
        """Return the carbon of energy at its site, g/J."""
        assert self._site.carbon is not None
        return float(self._site.carbon.at(now))


class Answer(NamedTuple):
    """A whole answer that did not do. leg: the request there; asked: deployments by then."""

    leg: Request
    asked: int
    end_s: float
    upload_s: float


class Trip:
    """A request on its way to an answer. It stands for the client at every deployment asked.

    leg: the request as the deployment that is asked now has it. asked: places of all so far.
    earlier: tokens that others than the last have made for it. upload_s: how long it took to send
    to the last. answer: the last whole one so far that a judge sent on.
    """

    __slots__ = (
        "answer",
        "asked",
        "client",
        "deadline_s",
        "door",
        "due_s",
        "earlier",
        "leg",
        "region",
        "sent_s",
        "upload_s",
    )

    def __init__(self, door: FrontDoor, request: Request, region: int) -> None:
        self.door, self.leg, self.region = door, request, region
        self.client, self.sent_s, self.due_s = request.client, request.arrival_s, request.due_s
        self.deadline_s = request.deadline_s
        self.asked: list[int] = []
        self.earlier = 0
        self.answer: Answer | None = None
        self.upload_s = NAN
        request.client = self

    def succeed(self, outcome: str) -> None:
        """Hear how a deployment has ended the request, as the client's event would."""
        self.door.returned(self, outcome)


class FrontDoor:
    """Where the requests of one workload enter, near their users.

    counters: the deployments it may ask, in the order that `policy` goes by. lines: by counter and
    region. regions: numbers of those that requests come from, one after another; a session stays
    in its own. seed: of jitter and loss, drawn by a request's number. asked: how many requests were
    sent to each counter.
    """

    def __init__(
        self,
        env: Timetable,
        counters: Sequence[Counter],
        policy: Dispatcher,
        lines: Sequence[Sequence[Line]],
        regions: Iterator[int],
        seed: int,
    ) -> None:
        self.env, self._counters, self._policy, self._lines = env, counters, policy, lines
        self._regions, self._seed = regions, seed
        self._by_session: dict[int, int] = {}
        self._under_way: dict[Trip, None] = {}
        self._rows: list[tuple[float, ...]] = []
        self.asked = [0] * len(counters)

    @property
    def under_way(self) -> int:
        """Return the requests on their way to a deployment."""
        return len(self._under_way)

    @property
    def ended(self) -> int:
        """Return the requests that have ended."""
        return len(self._rows)

    def arrive(self, request: Request) -> None:
        """Take a request that its client sends now."""
        trip = Trip(self, request, self._region(request))
        self._choose(trip, self._policy.first(self._ask(trip)))
        self._send(trip)

    def returned(self, trip: Trip, outcome: str) -> None:
        """Send a request on that has come back from a deployment, or let it go home."""
        now, onward = self.env.now, None
        if now < trip.due_s and outcome != "unfinished":
            onward = self._policy.then(self._ask(trip), trip.asked, outcome)
        if onward is None:
            if outcome == "rejected" and trip.answer is not None:
                self._stands(trip, trip.answer)
            else:
                self._home(trip, outcome)
            return
        if outcome == "completed":
            trip.answer = Answer(trip.leg, len(trip.asked), now, trip.upload_s)
        trip.earlier += trip.leg.emitted
        trip.leg = trip.leg.again()
        trip.leg.client = trip
        trip.upload_s = NAN
        self._under_way[trip] = None
        back_s = self._lines[trip.asked[-1]][trip.region].round_trip_s / 2.0
        self._choose(trip, onward)
        self.env.call(now + back_s, ARRIVAL, lambda _: self._send(trip))

    def close(self) -> None:
        """Note the requests that are still on their way as unfinished."""
        for trip in list(self._under_way):
            del self._under_way[trip]
            trip.leg.arrival_s = self.env.now
            self._counters[trip.asked[-1]].gateway.never_came(trip.leg, NAN, "unfinished")

    def table(self) -> np.ndarray:
        """Return a row for every request that has ended (dtype `TRIP`)."""
        return np.array(self._rows, dtype=TRIP)

    # -- inside ------------------------------------------------------------------------

    def _region(self, request: Request) -> int:
        session = request.session
        if session < 0:
            return next(self._regions)
        if session not in self._by_session:
            self._by_session[session] = next(self._regions)
        return self._by_session[session]

    def _choose(self, trip: Trip, at: int) -> None:
        trip.asked.append(at)
        self.asked[at] += 1

    def _ask(self, trip: Trip) -> Ask:
        return Ask(trip.leg.number, trip.region, self.env.now)

    def _chance(self, trip: Trip, line: Line, way: int, asked: int) -> np.random.Generator | None:
        """Return what draws the luck of one way (0: in, 1: back) to the last of so many `asked`."""
        if not line.chancy:
            return None
        return np.random.default_rng((self._seed, trip.leg.number, asked, way))

    def _send(self, trip: Trip) -> None:
        at = trip.asked[-1]
        leg, line = trip.leg, self._lines[at][trip.region]
        leg.due_s = min(trip.due_s, self.env.now + self._policy.patience_s(at))
        leg.deadline_s = trip.deadline_s - line.round_trip_s / 2.0
        self._under_way[trip] = None
        self._counters[at].travelling += 1
        self._travel(trip)

    def _travel(self, trip: Trip) -> None:
        """Bring a request, as one packet, to the deployment that is asked."""
        at = trip.asked[-1]
        leg, counter, line = trip.leg, self._counters[at], self._lines[at][trip.region]
        come_s = (
            self.env.now
            + way_in_s(line, self._chance(trip, line, 0, len(trip.asked)))
            + counter.host_s
        )

        def come(_: int) -> None:
            del self._under_way[trip]
            counter.travelling -= 1
            leg.arrival_s = come_s
            counter.gateway.arrive(leg)

        self.env.call(come_s, ARRIVAL, come)

    def _lost(self, trip: Trip) -> None:
        """Give up a request that is on its way to a deployment."""
        counter, now = self._counters[trip.asked[-1]], self.env.now
        del self._under_way[trip]
        counter.travelling -= 1
        trip.leg.arrival_s = now
        counter.gateway.never_came(trip.leg, now, "timed_out")

    def _home(self, trip: Trip, outcome: str) -> None:
        """Bring an answer, or the news that there is none, to the user."""
        leg, at = trip.leg, trip.asked[-1]
        line, now = self._lines[at][trip.region], self.env.now
        first_s = last_s = line.round_trip_s / 2.0
        gap_s = NAN
        if outcome == "completed":
            luck = self._chance(trip, line, 1, len(trip.asked))
            seen = deliver(line, leg.first_token_s, now, leg.emitted, luck)
            first_s, last_s = seen.first_s - leg.first_token_s, seen.last_s - now
            gap_s = seen.longest_gap_s
        self._note(trip, at, trip.earlier, (first_s, last_s, gap_s, trip.upload_s), False)
        self._tell(trip, outcome, now + last_s)

    def _stands(self, trip: Trip, answer: Answer) -> None:
        """Let the user keep an answer that was sent on, as nobody takes the request from there.

        Its tokens were seen as they were made; it is whole when the refusal is known.
        """
        leg, end_s, refused_at = answer.leg, answer.end_s, trip.asked[-1]
        at = trip.asked[answer.asked - 1]
        line, now = self._lines[at][trip.region], self.env.now
        luck = self._chance(trip, line, 1, answer.asked)
        seen = deliver(line, leg.first_token_s, end_s, leg.emitted, luck)
        known_s = now + self._lines[refused_at][trip.region].round_trip_s / 2.0
        home_s = max(seen.last_s, known_s)
        late = (seen.first_s - leg.first_token_s, home_s - end_s, seen.longest_gap_s)
        self._note(trip, at, trip.earlier - leg.emitted, (*late, answer.upload_s), True)
        self._tell(trip, "completed", home_s)

    def _note(
        self, trip: Trip, at: int, earlier: int, seconds: tuple[float, ...], stands: bool
    ) -> None:
        """Note a request that has ended: at which counter, and what delivery took (see `TRIP`)."""
        number, asked = self._counters[at].number, len(trip.asked)
        known = (trip.leg.number, number, trip.region, asked, earlier, trip.sent_s)
        self._rows.append((*known, *seconds, stands))

    def _tell(self, trip: Trip, outcome: str, home_s: float) -> None:
        """Tell the client, if it waits for that, how a request ended."""
        now = self.env.now
        if outcome == "completed" and home_s > trip.due_s:
            outcome, home_s = "timed_out", max(now, trip.due_s)
        client = trip.client
        if client is not None and outcome != "unfinished":

            def home(_: int) -> None:
                client.succeed(outcome)

            self.env.call(home_s, COMPLETION, home)
