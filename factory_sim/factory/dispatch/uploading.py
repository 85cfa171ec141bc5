"""Front doors behind which requests take time to send: by users' own lines, and a link they share.

Like parcels: each is carried down its sender's drive at his own pace, and all meet on one road.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from factory_sim.factory.dispatch.front_door import FrontDoor, Trip
from factory_sim.factory.engine.request import Request
from factory_sim.factory.network.link import Link
from factory_sim.factory.timetable import CONTROL

Sizes = Callable[[Request], float]


class UploadingDoor(FrontDoor):
    """A front door whose requests are sent as bytes, of which the last packet then sets out.

    sizes: gives the bytes of a request. links: by counter, what its requests come in by; None: they
    share nothing. paces: by counter and region, bytes/s of a user's own line. A request gets the
    lower of its line's pace and its fair share of the link. Who gives up meanwhile, the client or
    the service's patience, sends no more of it.
    """

    def __init__(
        self,
        *door: Any,
        sizes: Sizes,
        links: Sequence[Link | None],
        paces: Sequence[Sequence[float]],
    ) -> None:
        super().__init__(*door)
        self._sizes, self._links, self._paces = sizes, links, paces

    def _travel(self, trip: Trip) -> None:
        at, now = trip.asked[-1], self.env.now
        link, pace = self._links[at], self._paces[at][trip.region]
        leg, size = trip.leg, self._sizes(trip.leg)
        sending = True

        def sent() -> None:
            nonlocal sending
            if sending:
                sending = False
                trip.upload_s = self.env.now - now
                super(UploadingDoor, self)._travel(trip)

        if link is None:
            self.env.call(now + size / pace, CONTROL, lambda _: sent())
        else:
            own = pace if pace < link.bytes_per_s else inf  # else the link alone bounds it
            number = link.send(size, None, own, sent)

        def give_up(_: int) -> None:
            nonlocal sending
            if sending:
                sending = False
                if link is not None:
                    link.drop(number)
                self._lost(trip)

        if leg.due_s < inf:
            self.env.call(leg.due_s, CONTROL, give_up)
