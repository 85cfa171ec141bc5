"""The failures of a scenario: by schedule, by chance, and what stands by."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.units import BytesPerSecond, NonNegativeSeconds, PositiveSeconds

DomainKind = Literal[
    "gpu",
    "server",
    "rack",
    "nic",
    "link",
    "switch",
    "cdu",
    "plant",
    "pdu",
    "ups",
    "transformer",
    "feed",
    "storage",
]
KINDS: tuple[DomainKind, ...] = get_args(DomainKind)


class Scheduled(Frozen):
    """One failure at a given time. what: the name of the thing, such as `rack-3`,
    `rack-3/server-1/gpu-0`, `rack-3/switch`, `cdu-0`, `ups-1`, `plant`, `feed` or `storage`.
    lasts: until it works again; for good without."""

    at: NonNegativeSeconds
    what: str
    lasts: PositiveSeconds | None = None


class Chance(Frozen):
    """Failures at random, at the catalogue's rates (`factory-sim catalog failures`).

    kinds: which domains fail; all that the site has without. times: how much more often than
    that, to see in an hour what takes months.
    """

    kinds: Annotated[tuple[DomainKind, ...], Field(min_length=1)] = KINDS
    times: Annotated[float, Field(gt=0)] = 1.0


class Spares(Frozen):
    """Servers that stand by, loaded with nothing: a failed GPU or server is replaced by one of
    them within `takeover`, and stands by in its place once it is repaired. servers: how many."""

    servers: Annotated[int, Field(gt=0, strict=True)]
    takeover: PositiveSeconds = 300.0


class Storage(Frozen):
    """Where weights come from. bandwidth: of all who load together; unbounded without.
    per_server: what all replicas of a server take together at the most."""

    bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    per_server: Annotated[BytesPerSecond, Field(gt=0)] = 8e9


class Failures(Frozen):
    """What fails. schedule: at given times. chance: at random. spares: who stands in."""

    schedule: tuple[Scheduled, ...] = ()
    chance: Chance | None = None
    spares: Spares | None = None
    storage: Storage = Storage()

    @model_validator(mode="after")
    def _spares_have_a_use(self) -> Failures:
        if not self.schedule and self.chance is None:
            raise ValueError(
                "nothing fails; give a 'schedule', such as [{at: 10 min, what: rack-0}], or "
                "'chance: {}'"
            )
        if self.spares is not None and self.chance is None:
            raise ValueError(
                "spares shorten repairs at random; a schedule says itself how long a failure "
                "lasts: leave out 'spares', or add 'chance'"
            )
        if self.spares and self.chance and not {"gpu", "server"} & set(self.chance.kinds):
            raise ValueError(
                "spares stand in for GPUs and servers, and chance.kinds has neither: leave out "
                "'spares', or add 'gpu' or 'server'"
            )
        return self
