"""What a policy of dispatch may know of a deployment and of a request, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Offer(Protocol):
    """What a deployment offers now. outstanding: requests there, or on their way to it."""

    @property
    def outstanding(self) -> int: ...

    @property
    def open(self) -> bool:
        """Whether a replica of it takes requests, or would be started for one."""

    def price(self, now: float) -> float:
        """Return the price of energy at its site, USD/J."""

    def carbon(self, now: float) -> float:
        """Return the carbon of energy at its site, g/J."""


class Ask(NamedTuple):
    """A request that asks for a deployment. region: its number, from 0. now: in s."""

    number: int
    region: int
    now: float


class Surroundings(NamedTuple):
    """What a policy is made with. names, offers: of the deployments, in the service's order.

    class_name: of the requests. round_trips: seconds, by deployment and region.
    seed: of what it draws.
    """

    names: Sequence[str]
    offers: Sequence[Offer]
    class_name: str
    round_trips: Sequence[Sequence[float]]
    seed: int


class Dispatcher(Protocol):
    """Picks the deployment that a request goes to, and another if that does not do."""

    def first(self, ask: Ask) -> int:
        """Return the place of the deployment that a request goes to."""

    def then(self, ask: Ask, asked: Sequence[int], outcome: str) -> int | None:
        """Return where a request goes that came back from the last of `asked`; None: it ends."""

    def patience_s(self, at: int) -> float:
        """Return how long that deployment has for the whole answer."""


class Once:
    """What most policies have in common: whoever is asked first is asked alone."""

    def then(self, ask: Ask, asked: Sequence[int], outcome: str) -> int | None:
        """Let the request end as it did."""
        return None

    def patience_s(self, at: int) -> float:
        """Wait for ever."""
        return float("inf")
