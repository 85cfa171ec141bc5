"""What the catalogue holds of money: GPUs, sites and tokens, each figure with its day."""

from __future__ import annotations

from factory_sim.catalog.facts import Fact
from factory_sim.frozen import Frozen
from factory_sim.units import (
    Dollars,
    DollarsPerSecond,
    DollarsPerToken,
    DollarsPerWatt,
    DollarsPerWattSecond,
    Fraction,
    Kilograms,
    PositiveSeconds,
)


class GpuPrice(Frozen):
    """What a GPU costs (the accelerator of that name).

    equipment: to buy, with its share of server, rack, network and storage. hyperscaler, neocloud,
    rental: by the hour with everything in it, electricity too. embodied: CO2e of its making.
    """

    name: str
    title: str
    equipment: Fact[Dollars] | None = None
    hyperscaler: Fact[DollarsPerSecond] | None = None
    neocloud: Fact[DollarsPerSecond] | None = None
    rental: Fact[DollarsPerSecond] | None = None
    embodied: Fact[Kilograms] | None = None


class SiteCosts(Frozen):
    """What a site costs beside its equipment and its electricity.

    construction: of the building with power and cooling, a watt of IT. maintenance: of equipment, a
    share of its price a year. spares: equipment beside that in racks. staff: a watt of IT.
    """

    name: str
    title: str
    construction: Fact[DollarsPerWatt]
    facility_life: Fact[PositiveSeconds]
    equipment_life: Fact[PositiveSeconds]
    cost_of_capital: Fact[Fraction]
    maintenance: Fact[Fraction]
    spares: Fact[Fraction]
    staff: Fact[DollarsPerWattSecond]


class TokenPrices(Frozen):
    """What tokens sell for: of a prompt, of a prompt found in the prefix cache, of an answer."""

    name: str
    title: str
    input: Fact[DollarsPerToken]
    cached: Fact[DollarsPerToken]
    output: Fact[DollarsPerToken]
