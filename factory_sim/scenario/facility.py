"""The building of a scenario: its power chain, its cooling plant, its battery."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.names import CoolingName, PowerChainName
from factory_sim.units import Celsius, PositiveJoules, PositiveWatts, Share

Count = Annotated[int, Field(gt=0, strict=True)]


class StageSpec(Frozen):
    """One stage of the power chain. What is left out comes from the catalogue's entry.

    racks: how many racks a block of it feeds; all of them without. rating: watts that a block may
    deliver, without its redundant modules; the nameplates behind it without. redundancy: N, N+1
    (one module more than `modules`), or 2N.
    """

    racks: Count | None = None
    rating: PositiveWatts | None = None
    redundancy: Literal["N", "N+1", "2N"] | None = None
    modules: Count | None = None

    @model_validator(mode="after")
    def _modules_have_a_use(self) -> StageSpec:
        if self.modules is not None and self.redundancy not in (None, "N+1"):
            raise ValueError(f"{self.redundancy} has no spare module; leave out 'modules'")
        return self


class UpsSpec(StageSpec):
    """The UPS stage. eco: the load runs past the converters while the feed is good."""

    eco: bool = False


class PowerChainSpec(Frozen):
    """From the utility feed to the racks. kind: the catalogue's entry (`factory-sim catalog
    power_chains`). rack_limit: watts that the feed of one rack may carry."""

    kind: PowerChainName = "n-plus-1"
    transformer: StageSpec = StageSpec()
    ups: UpsSpec = UpsSpec()
    pdu: StageSpec = StageSpec()
    rack_limit: PositiveWatts | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given


class CoolingSpec(Frozen):
    """The cooling plant. plant: the catalogue's entry (`factory-sim catalog cooling`).

    air_supply, liquid_supply: of the water that the two loops send to racks. air_capacity,
    liquid_capacity: heat that they can carry; the nameplates and a margin without. cdu_racks: how
    many racks with coolant share a CDU.
    """

    plant: CoolingName
    air_supply: Celsius | None = None
    liquid_supply: Celsius | None = None
    air_capacity: PositiveWatts | None = None
    liquid_capacity: PositiveWatts | None = None
    cdu_racks: Count = 8

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"plant": given} if isinstance(given, str) else given


class Battery(Frozen):
    """A battery at the meter. It gives when the site would draw more than its limit, and fills
    when there is room under it. It carries the site without feed, as long as it can.

    efficiency: of a charge and discharge together. start: the share it holds at the beginning.
    """

    energy: PositiveJoules
    power: PositiveWatts
    efficiency: Annotated[Share, Field(gt=0, le=1)] = 0.9
    start: Annotated[Share, Field(ge=0, le=1)] = 1.0
