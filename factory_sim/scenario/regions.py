"""Regions: where users are, and what lies between them and the deployments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from factory_sim.frozen import Frozen
from factory_sim.scenario.lengths import ProperShare, Proportion
from factory_sim.units import BytesPerSecond, NonNegativeSeconds


def _form(given: Any) -> str:
    return "dict[deployment]" if isinstance(given, Mapping) else "literal[one]"


RoundTrip = Annotated[
    Annotated[NonNegativeSeconds, Tag("literal[one]")]
    | Annotated[dict[str, NonNegativeSeconds], Tag("dict[deployment]")],
    Discriminator(_form),
]


class Region(Frozen):
    """Users who are equally far away, on equal lines.

    share: of the requests of each workload, in proportion to those of the other regions.
    round_trip: to every deployment, or by deployment. jitter: the mean of what queues on the way
    add, each way. last_mile: bandwidth of a user's connection (left out: no limit); uplink: of its
    other direction, in which requests are sent (left out: they take no time to send, unless they
    come in by a deployment's `users_link`). loss: share of packets.
    """

    share: Proportion = 1.0
    round_trip: RoundTrip
    jitter: NonNegativeSeconds = 0.0
    last_mile: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    uplink: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    loss: Annotated[ProperShare, Field(lt=0.5)] = 0.0

    def round_trip_to(self, deployment: str) -> float:
        """Return the seconds to a deployment and back."""
        given = self.round_trip
        return given[deployment] if isinstance(given, dict) else given
