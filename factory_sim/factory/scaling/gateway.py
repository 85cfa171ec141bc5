"""The gateway of a deployment that is scaled: it says who is through, and who finds no replica."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from factory_sim.factory.engine.request import Request
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.replica import Replica


class Told(Protocol):
    """Who is told."""

    @property
    def asleep(self) -> bool:
        """Whether no replica is wanted, and one more request would start one."""

    def emptied(self, number: int) -> None:
        """A replica that takes no new requests has none left."""

    def missing(self) -> None:
        """A request has found no replica open."""


class ScaledGateway(Gateway):
    """A layer over a gateway of any kind: tells `told` what a scaler has to know.

    draining: replicas that are to stop; waited: requests that had to wait for one to open.
    """

    told: Told

    def __init__(self, *gateway: Any, **more: Any) -> None:
        super().__init__(*gateway, **more)
        self.draining: set[int] = set()
        self.waited = 0

    @property
    def open(self) -> bool:
        """Tell whether a replica takes requests, or one would start for the next."""
        return super().open or self.told.asleep

    def leave(self, replica: Replica, request: Request, time: float, outcome: str) -> None:
        """Note how a request ended; say so if it was the last one."""
        super().leave(replica, request, time, outcome)
        self._relieved(replica.number)

    def resend(self, number: int, lost: list[Request]) -> None:
        """Send requests that a replica has lost to others; it has none left."""
        super().resend(number, lost)
        self._relieved(number)

    def _relieved(self, number: int) -> None:
        if number in self.draining and not self.outstanding[number]:
            self.told.emptied(number)

    def _keep(self, request: Request) -> None:
        super()._keep(request)
        self.waited += 1
        self.told.missing()


Kind = TypeVar("Kind", bound=Gateway)


def scaled(kind: type[Kind]) -> type[Kind]:
    """Return the class of gateways of a kind whose replicas are scaled."""
    return type("Scaled" + kind.__name__, (ScaledGateway, kind), {})
