"""The site of a scenario: its meter, its building, its racks, and who guards the cap."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.facility import Battery, CoolingSpec, PowerChainSpec
from factory_sim.scenario.names import SystemName
from factory_sim.scenario.signal_forms import signal_of
from factory_sim.scenario.weather import Weather
from factory_sim.units import (
    GramsPerJoule,
    NonNegativeSeconds,
    NonNegativeWatts,
    PerJoule,
    PositiveSeconds,
    PositiveWatts,
    Share,
    WattsPerSecond,
)

Count = Annotated[int, Field(gt=0, strict=True)]
Carbon = Annotated[GramsPerJoule, Field(ge=0)]


class Site(Frozen):
    """One site behind one utility meter.

    grid_limit: the hard limit at the meter, watts; a signal, so a curtailment is a step in it.
    Either pue: utility watts over IT watts, a constant that stands for the whole building; or
    cooling: a plant, which needs weather, and which power_chain feeds beside the racks. battery
    and generation (watts, a signal) are on the site's side of the meter. price and carbon are of
    energy at the meter.
    """

    grid_limit: signal_of(PositiveWatts)  # type: ignore[valid-type]
    pue: Annotated[float, Field(ge=1)] | None = None
    cooling: CoolingSpec | None = None
    power_chain: PowerChainSpec | None = None
    weather: Weather | None = None
    battery: Battery | None = None
    generation: signal_of(NonNegativeWatts) | None = None  # type: ignore[valid-type]
    price: signal_of(PerJoule) | None = None  # type: ignore[valid-type]
    carbon: signal_of(Carbon) | None = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _one_building(self) -> Site:
        if (self.pue is None) == (self.cooling is None):
            raise ValueError(
                "give either 'pue', such as 1.3, or 'cooling', such as 'air' "
                "(`factory-sim catalog cooling` lists them)"
            )
        if self.pue is not None and self.power_chain is not None:
            raise ValueError(
                "a 'pue' stands for the losses of a power chain too; leave out 'power_chain', or "
                "give 'cooling' in place of 'pue'"
            )
        if self.cooling is not None and self.weather is None:
            raise ValueError(
                "a cooling plant needs 'weather', for example "
                "'weather: {dry_bulb: 25 degC, humidity: 50 %}'"
            )
        if self.pue is not None and self.weather is not None:
            raise ValueError("a constant 'pue' knows no weather; leave one of them out")
        return self


class Racks(Frozen):
    """A row of equal racks. count: how many, or 'fill': as many as the grid limit provisions.

    servers_per_rack: fewer or more than the system's usual number. gpu_power_limit: what each
    board's firmware holds it to by its clock (`nvidia-smi -pl`); measured-peak provisioning
    counts with it. gpu_clock: the highest clock of its GPUs, a share of the reference (`nvidia-smi
    -lgc`). liquid_share: of a rack's heat that goes into coolant, where cold plates were
    fitted to it or the usual share does not hold. site: where they stand, of several `sites`.
    """

    system: SystemName
    site: str | None = None
    count: Count | Literal["fill"]
    servers_per_rack: Count | None = None
    gpu_power_limit: PositiveWatts | None = None
    gpu_clock: Annotated[Share, Field(gt=0, le=1)] | None = None
    liquid_share: Annotated[Share, Field(ge=0, le=1)] | None = None


class Provisioning(Frozen):
    """How many watts a rack is taken to need when racks are counted against the limit.

    nameplate: what its label says. measured-peak: every GPU at its power limit and the host
    at full load, which is less; margin: how much more than that to set aside. oversubscribe:
    accept racks whose sum exceeds the limit by this factor; the cap then has to be guarded
    (`power`).
    """

    basis: Literal["nameplate", "measured-peak"] = "nameplate"
    margin: Annotated[Share, Field(ge=0)] = 0.0
    oversubscribe: Annotated[float, Field(ge=1)] = 1.0

    @model_validator(mode="after")
    def _margin_has_a_use(self) -> Provisioning:
        if self.margin and self.basis == "nameplate":
            raise ValueError("a nameplate has its margin in it; leave out 'margin'")
        return self

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"basis": given} if isinstance(given, str) else given


class Preference(Frozen):
    """Watts at the meter that one would rather not exceed: going over them costs `price` for the
    energy above, and is avoided while that is more than the energy is `worth` to the site."""

    limit: signal_of(PositiveWatts)  # type: ignore[valid-type]
    price: signal_of(PerJoule)  # type: ignore[valid-type]
    worth: Annotated[PerJoule, Field(ge=0)]


class Power(Frozen):
    """The power manager: it reads the meter every `period` and keeps the site under its limit.

    period: a second where something can bind or fail, without; ten where nobody would act.
    policy: `clock` lowers the GPU clocks in steps, `decode-first` those of decode steps before
    those of steps with prompts, `admit` lowers the sequences a replica may run, `park` sends
    requests to fewer replicas, `none` only watches. telemetry_delay: age of a reading when it is
    used. actuation_delay: time from a decision to its effect. margin: share of the limit kept free.
    step: the clock's (or the batch limit's) step, as a share of its full value. notice: how long
    before a change of the grid limit the site is told. ramp: the fastest that its draw may be led
    down or up, watts a second. preference: a soft limit.
    """

    policy: Literal["clock", "decode-first", "admit", "park", "none"] = "clock"
    period: PositiveSeconds | None = None
    telemetry_delay: NonNegativeSeconds = 0.1
    actuation_delay: NonNegativeSeconds = 0.1
    margin: Annotated[Share, Field(ge=0, lt=0.5)] = 0.02
    step: Annotated[Share, Field(gt=0, le=0.5)] = 0.05
    notice: NonNegativeSeconds = 0.0
    ramp: Annotated[WattsPerSecond, Field(gt=0)] | None = None
    preference: Preference | None = None

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Power:
        if self.policy == "none":
            given = self.model_dump(exclude_defaults=True, exclude={"policy", "period"})
            if given:
                named = ", ".join(f"'{name}'" for name in given)
                raise ValueError(f"policy 'none' acts on nothing; leave out {named}")
        return self
