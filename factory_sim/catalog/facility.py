"""What the catalogue holds of the building: enclosures, power chains and cooling plants."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory_sim.catalog.facts import Fact, Number, PositiveInt
from factory_sim.frozen import Frozen
from factory_sim.units import Celsius, Efficiency, Fraction, Kelvins, PositiveSeconds, ThermalMass

Redundancy = Literal["N", "N+1", "2N"]


class Enclosure(Frozen):
    """How racks of one kind (`System.cooling`) feed themselves and shed their heat.

    supply_constant: watts that power supplies lose always, as a share of the nameplate.
    fan_floor: the lowest speed of server fans. liquid_share: of the rack's heat, what goes into
    coolant. heat_capacity: of what warms with the coolant (or the air) of a rack, per watt of its
    nameplate. coolant_rise: by how much the mean coolant (or inlet air) is above the water (or
    air) supplied, at the nameplate. gpu_rise: of a GPU above that, with its board at its TDP.
    throttle, shutdown: GPU temperatures above which its clock falls, and above which it stops.
    """

    name: str
    title: str
    supply_constant: Fact[Fraction]
    fan_floor: Fact[Fraction]
    liquid_share: Fact[Fraction]
    heat_capacity: Fact[ThermalMass]
    coolant_rise: Fact[Kelvins]
    gpu_rise: Fact[Kelvins]
    throttle: Fact[Celsius]
    shutdown: Fact[Celsius]


class LossFacts(Frozen):
    """Losses as shares of the rating: always, with load, and with its square."""

    no_load: Fact[Fraction]
    linear: Fact[Fraction]
    quadratic: Fact[Fraction]


class Stage(LossFacts):
    """One stage of a power chain. eco: its losses in eco mode, where it has one.

    redundancy: N, N+1 (one module more than `modules`) or 2N (all of it twice); every module
    carries its part of the load.
    """

    redundancy: Redundancy = "N"
    modules: PositiveInt = 1
    eco: LossFacts | None = None


class PowerChain(Frozen):
    """From the utility feed to the racks: transformer, UPS, PDU or busway. Absent: lossless."""

    name: str
    title: str
    transformer: Stage | None = None
    ups: Stage | None = None
    pdu: Stage | None = None


class ChillerFacts(Frozen):
    """A chiller (equation: physics/cooling.py)."""

    carnot: Fact[Efficiency]
    evaporator_approach: Fact[Kelvins]
    condenser_rise: Fact[Kelvins]
    least_lift: Fact[Kelvins]
    part_load: Fact[Fraction]


class LoopFacts(Frozen):
    """A cooling loop (equation: physics/cooling.py).

    movers, pumps, roof: watts at full speed per watt of heat. margin: how much more heat it is
    made for than its racks' nameplates. heat_capacity: of its water (or of the hall's air), per
    watt of the heat it is made for; it bridges the loss of the plant.
    """

    movers: Fact[Fraction]
    pumps: Fact[Fraction]
    roof: Fact[Fraction]
    floor: Fact[Fraction]
    supply: Fact[Celsius]
    range: Fact[Kelvins]
    approach: Fact[Kelvins]
    sink: Literal["dry-bulb", "wet-bulb"]
    latent: Fact[Fraction] | None = None
    cycles: Fact[Annotated[float, Field(gt=1)]] | None = None
    economiser: bool = False
    chiller: ChillerFacts | None = None
    margin: Fact[Fraction]
    heat_capacity: Fact[ThermalMass]

    @model_validator(mode="after")
    def _towers_drink(self) -> LoopFacts:
        if (self.sink == "wet-bulb") != (self.latent is not None and self.cycles is not None):
            raise ValueError(
                "a loop with sink 'wet-bulb' needs latent and cycles, and no other has them"
            )
        if self.chiller is None and not self.economiser:
            raise ValueError("a loop without chiller cools by the weather: set economiser: true")
        return self


class Cooling(Frozen):
    """A cooling plant: a loop for heat that leaves as warm air, and one for warm coolant.

    overhead: watts that the building draws always (lighting, controls, humidity, offices), per
    watt of the heat that the plant is made for.
    """

    name: str
    title: str
    overhead: Fact[Fraction]
    air: LoopFacts
    liquid: LoopFacts | None = None


class FailureRate(Frozen):
    """How often one unit of a failure domain fails, and how long until it works again.

    Times between failures are exponential, repairs log-normal: spread is the standard deviation
    of the logarithm.
    """

    name: str
    title: str
    mtbf: Fact[PositiveSeconds]
    repair: Fact[PositiveSeconds]
    spread: Fact[Number]
