"""Autoscaling: how many of a deployment's replicas are up, who decides it, and what it takes.

{policy: reactive, outstanding: 16, min: 1}
{policy: scheduled, replicas: {daily: [["07:00", 2], ["09:00", 8], ["20:00", 2]]}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.signal import Signal
from factory_sim.scenario.signal_forms import signal_of
from factory_sim.units import BytesPerSecond, NonNegativeSeconds, PositiveSeconds, Share

NonNegative = Annotated[float, Field(ge=0, strict=True)]
if TYPE_CHECKING:
    CountSignal: TypeAlias = Signal
else:
    CountSignal = signal_of(NonNegative)

BOOT_S = 300.0
"""A server from power on to ready: an estimate; guides of GPU servers speak of minutes, two of them
for the management controllers alone (docs.nvidia.com/dgx/dgxgb200-user-guide, reboot sequence)."""


def _off_is_a_word(given: Any) -> Any:
    """Return what was meant: YAML reads a bare `off` as false."""
    return "off" if given is False else given


class Scaling(Frozen):
    """What every autoscaling has, whoever decides.

    period: between two looks. weights_link: the link of the `network` that weights cross on a cold
    start (without: storage, as after a failure, over the fabric if that has one); per_replica:
    bytes a second that one replica takes from it at the most (without: the whole link).
    drain_deadline: how long a replica that is to stop may finish what it has; the rest is sent to
    others (without: as long as it takes). stopped: what a stopped replica draws: `idle`, its GPUs
    at rest; `off`, nothing, once nothing else runs on its servers. boot: how long such a server
    takes to come back.
    """

    period: PositiveSeconds = 15.0
    weights_link: str | None = None
    per_replica: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    drain_deadline: NonNegativeSeconds | None = None
    stopped: Annotated[Literal["idle", "off"], BeforeValidator(_off_is_a_word)] = "idle"
    boot: PositiveSeconds | None = None

    @property
    def boot_s(self) -> float:
        """Return how long a server that was off takes to come back."""
        return BOOT_S if self.boot is None else self.boot

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Scaling:
        if self.boot is not None and self.stopped != "off":
            raise ValueError(
                "servers of stopped replicas stay on and need no 'boot'; leave it out, or say "
                "'stopped: off'"
            )
        if self.per_replica is not None and self.weights_link is None:
            raise ValueError(
                "per_replica is what a replica takes from 'weights_link'; name one, or leave it "
                "out (failures.storage.per_server bounds what comes from storage)"
            )
        return self


class Reactive(Scaling):
    """Follows the load, as the Kubernetes HorizontalPodAutoscaler and KEDA do.

    outstanding: requests waiting and running that a replica should have; kv_use: the share of its
    KV cache that should be in use; of both, the one that wants more replicas counts. tolerance: how
    far from the target changes nothing. stabilisation: fewer replicas only if that was enough for
    so long. min: the fewest; 0 stops the last one too, and a request that finds none starts one.
    initial: how many are up at the start (`min` without). The most is the deployment's `replicas`.
    """

    policy: Literal["reactive"]
    outstanding: Annotated[float, Field(gt=0, strict=True)] | None = None
    kv_use: Annotated[Share, Field(gt=0, le=1)] | None = None
    tolerance: Annotated[Share, Field(ge=0, lt=1)] = 0.1
    stabilisation: NonNegativeSeconds = 300.0
    min: Annotated[int, Field(ge=0, strict=True)] = 1
    initial: Annotated[int, Field(ge=0, strict=True)] | None = None

    @model_validator(mode="after")
    def _has_a_target(self) -> Reactive:
        if self.outstanding is None and self.kv_use is None:
            raise ValueError(
                "give a target: 'outstanding', such as 16 requests a replica, or 'kv_use', such "
                "as 70 %, or both"
            )
        if self.initial is not None and self.initial < self.min:
            raise ValueError(f"initial ({self.initial}) must be at least min ({self.min})")
        return self

    def most(self) -> tuple[str, float]:
        """Return the field that asks for the most replicas without load, and how many."""
        return ("min", self.min) if self.initial is None else ("initial", self.initial)


class Scheduled(Scaling):
    """Follows a timetable. replicas: how many, by time; parts of one are rounded up."""

    policy: Literal["scheduled"]
    replicas: CountSignal

    def most(self) -> tuple[str, float]:
        """Return the field that asks for the most replicas, and how many."""
        return "replicas", self.replicas.max_over(0.0, float("inf"))


Autoscaling = Annotated[Reactive | Scheduled, Field(discriminator="policy")]
