"""The site of a scenario: its grid limit, what cooling adds, its racks, and who guards the cap."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.names import CoolingName, SystemName
from factory_sim.scenario.signal import signal_of
from factory_sim.units import NonNegativeSeconds, PositiveSeconds, PositiveWatts, Share

Count = Annotated[int, Field(gt=0, strict=True)]


class Site(Frozen):
    """One site behind one utility meter.

    grid_limit: the hard limit at the meter, watts; a signal, so a curtailment is a step in
    it. pue: utility watts over IT watts, a constant; or cooling: a catalogue entry that
    gives it.
    """

    grid_limit: signal_of(PositiveWatts)  # type: ignore[valid-type]
    pue: Annotated[float, Field(ge=1)] | None = None
    cooling: CoolingName | None = None

    @model_validator(mode="after")
    def _one_source_of_pue(self) -> Site:
        if (self.pue is None) == (self.cooling is None):
            raise ValueError(
                "give either 'pue', such as 1.3, or 'cooling', such as 'air' "
                "(`factory-sim catalog cooling` lists them)"
            )
        return self


class Racks(Frozen):
    """A row of equal racks. count: how many, or 'fill': as many as the grid limit provisions.

    servers_per_rack: fewer or more than the system's usual number. gpu_power_limit: what each
    board's firmware holds it to by its clock (`nvidia-smi -pl`); measured-peak provisioning
    counts with it.
    """

    system: SystemName
    count: Count | Literal["fill"]
    servers_per_rack: Count | None = None
    gpu_power_limit: PositiveWatts | None = None


class Provisioning(Frozen):
    """How many watts a rack is taken to need when racks are counted against the limit.

    nameplate: what its label says. measured-peak: every GPU at its power limit and the host
    at full load, which is less. oversubscribe: accept racks whose sum exceeds the limit by
    this factor; the cap then has to be guarded (`power`).
    """

    basis: Literal["nameplate", "measured-peak"] = "nameplate"
    oversubscribe: Annotated[float, Field(ge=1)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"basis": given} if isinstance(given, str) else given


class Power(Frozen):
    """The power manager: it reads the meter every `period` and keeps the site under its limit.

    policy: `clock` lowers the GPU clocks in steps, `admit` lowers the sequences a replica may
    run, `none` only watches. telemetry_delay: age of a reading when it is used.
    actuation_delay: time from a decision to its effect. margin: share of the limit kept free.
    step: the clock's (or the batch limit's) step, as a share of its full value.
    """

    policy: Literal["clock", "admit", "none"] = "clock"
    period: PositiveSeconds = 1.0
    telemetry_delay: NonNegativeSeconds = 0.1
    actuation_delay: NonNegativeSeconds = 0.1
    margin: Annotated[Share, Field(ge=0, lt=0.5)] = 0.02
    step: Annotated[Share, Field(gt=0, le=0.5)] = 0.05
