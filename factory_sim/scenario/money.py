"""Money: what a site costs and what its tokens sell for.

costs: us-2025                                  # a site of one's own, at figures of the catalogue
costs: {rent: 1.41 USD/h}                       # GPUs that are rented, with everything in it
prices: {input: 1 USD/Mtoken, output: 4 USD/Mtoken, cached: 0.1 USD/Mtoken}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from factory_sim.errors import Problem
from factory_sim.frozen import Frozen
from factory_sim.scenario.names import SiteCostsName, TokenPricesName
from factory_sim.units import (
    Dollars,
    DollarsPerSecond,
    DollarsPerToken,
    DollarsPerWatt,
    DollarsPerWattSecond,
    Kilograms,
    PositiveSeconds,
    Share,
)

if TYPE_CHECKING:
    from factory_sim.catalog import Catalog
    from factory_sim.scenario.scenario import Scenario

COMPONENTS = (
    "equipment",
    "facility",
    "colocation",
    "maintenance",
    "spares",
    "staff",
    "electricity",
    "demand",
    "rent",
)
"""Of what a site costs, in the order in which they are told."""

Owner = Literal["hyperscaler", "neocloud", "rental"]
NotNegative = Field(ge=0)
Part = Annotated[Share, Field(ge=0, le=1)]
PerToken = Annotated[DollarsPerToken, NotNegative]
PerWattSecond = Annotated[DollarsPerWattSecond, NotNegative]


class Equipment(Frozen):
    """All IT that is bought. price: of a GPU with its part of server, rack, network and storage,
    and embodied: CO2e of making that; the catalogue's (gpu_prices) without. life: of its use."""

    price: Annotated[Dollars, NotNegative] | None = None
    life: PositiveSeconds | None = None
    embodied: Annotated[Kilograms, NotNegative] | None = None


class Facility(Frozen):
    """The building with its power and its cooling. price: of a watt of IT that it provisions."""

    price: Annotated[DollarsPerWatt, NotNegative] | None = None
    life: PositiveSeconds | None = None


class Demand(Frozen):
    """What the utility asks for the highest mean power of an `interval`, beside energy."""

    charge: PerWattSecond
    interval: PositiveSeconds = 900.0

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"charge": given} if isinstance(given, str) else given


class Range(Frozen):
    """How far off a figure may be, as shares of it: the ends of a triangle with its top at 1."""

    low: Annotated[Share, Field(ge=0, le=1)]
    high: Annotated[Share, Field(ge=1)]

    @model_validator(mode="after")
    def _is_one(self) -> Range:
        if self.low == self.high:
            raise ValueError("is a point; leave it out, or give for example {low: 80 %, high: 1.3}")
        return self


class Costs(Frozen):
    """What a site costs, beside its electricity (site.price); of several sites, each of them.

    rent: of a GPU by the hour with everything in it, electricity too, or an owner whose cost the
    catalogue knows (gpu_prices); then there is nothing else. Otherwise what is given counts and,
    with `like`, what an entry of the catalogue (site_costs) says of the rest. equipment, facility:
    capital, written off by `method`: annuity, or straight-line with interest on half of it.
    colocation: rent of a building, a watt of IT, in place of a facility. maintenance: of equipment,
    a share of its price a year. spares: equipment beside that in racks. staff: a watt of IT.
    demand: the utility's charge on peaks. ranges: how far off components, or `revenue`, may be.
    """

    like: SiteCostsName | None = None
    rent: Annotated[DollarsPerSecond, NotNegative] | Owner | None = None
    equipment: Equipment | None = None
    facility: Facility | None = None
    colocation: PerWattSecond | None = None
    method: Literal["annuity", "straight-line"] = "annuity"
    cost_of_capital: Part | None = None
    maintenance: Part | None = None
    spares: Part | None = None
    staff: PerWattSecond | None = None
    demand: Demand | None = None
    ranges: Annotated[dict[str, Range], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"like": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _adds_up(self) -> Costs:
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        given -= {"ranges"}
        if not given - {"method", "cost_of_capital"}:
            raise ValueError("nothing costs anything; leave it out, or say 'us-2025'")
        if self.rent is not None and len(given) > 1:
            others = ", ".join(f"'{n}'" for n in Costs.model_fields if n in given - {"rent"})
            raise ValueError(f"'rent' has everything in it; leave out {others}, or 'rent'")
        if self.colocation is not None and self.facility is not None:
            raise ValueError("'colocation' is in place of a 'facility'; leave one of them out")
        if self.like is None:
            for wrong in self._missing():
                raise ValueError(wrong)
        return self

    @property
    def counted(self) -> tuple[str, ...]:
        """Return the components that are paid for, in their order."""
        if self.rent is not None:
            return ("rent",)
        paid = {name for name in COMPONENTS if getattr(self, name, None) is not None}
        if self.like is not None:
            paid |= {"equipment", "maintenance", "spares", "staff"}
            paid |= {"facility"} if self.colocation is None else set()
        return tuple(name for name in COMPONENTS if name in paid or name == "electricity")

    def _missing(self) -> Iterator[str]:
        """Yield what is missing, or without use, where no entry of the catalogue says the rest."""
        for name in ("equipment", "facility"):
            part = getattr(self, name)
            if part is not None and part.life is None:
                yield f"{name}.life is missing; give for example '4 year', or 'like: us-2025'"
            if part is not None and self.cost_of_capital is None:
                yield f"cost_of_capital is missing for '{name}'; give for example '10 %'"
        if self.facility is not None and self.facility.price is None:
            yield "facility.price is missing; give for example '11.7 MUSD/MW', or 'like: us-2025'"
        if self.equipment is None:
            for name in ("maintenance", "spares"):
                if getattr(self, name) is not None:
                    yield f"'{name}' is of equipment; leave it out, or give 'equipment'"
            if self.facility is None:
                for name in ("method", "cost_of_capital"):
                    if name in self.model_fields_set:
                        yield f"there is no capital; leave out '{name}', or give 'equipment'"


class Price(Frozen):
    """What a completed request costs its sender, a token of the prompt and one of the answer.

    cached: of prompt tokens found in the prefix cache; as other ones without. within_slo: only who
    got what was promised pays.
    """

    input: PerToken
    output: PerToken
    cached: PerToken | None = None
    within_slo: bool = False

    @model_validator(mode="after")
    def _costs_something(self) -> Price:
        if not self.input and not self.output:
            raise ValueError("nothing costs anything; leave out 'price', or give '3 USD/Mtoken'")
        return self


class Prices(Frozen):
    """What tokens sell for to who has no class with a price: as `Price`.

    like: an entry of the catalogue (token_prices) that says what is not given here.
    """

    like: TokenPricesName | None = None
    input: PerToken | None = None
    output: PerToken | None = None
    cached: PerToken | None = None
    within_slo: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"like": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _has_prices(self) -> Prices:
        if self.like is None and (self.input is None or self.output is None):
            raise ValueError(
                "give input and output, such as '1 USD/Mtoken', or 'inferencex-neutral'"
            )
        if self.input == 0.0 and self.output == 0.0:
            raise ValueError("nothing costs anything; leave out 'prices', or give '3 USD/Mtoken'")
        return self

    def price(self, facts: Catalog) -> Price:
        """Return the price, with what the catalogue says of the rest."""
        given = {name: getattr(self, name) for name in ("input", "output", "cached")}
        if self.like is not None:
            entry = facts.token_price(self.like)
            given = {n: getattr(entry, n).value if p is None else p for n, p in given.items()}
        return Price.model_construct(**given, within_slo=self.within_slo)


def unpaid(scenario: Scenario) -> Iterator[Problem]:
    """Yield what of prices and ranges nothing would look at."""
    classes, workload = scenario.classes or {}, scenario.workload
    if scenario.costs is not None:
        yield from _uncounted(scenario, scenario.costs)
    own = {name: tier.price for name, tier in classes.items() if tier.price is not None}
    payers = {
        f"classes.{tier}.price": [n for n, spec in workload.items() if spec.class_ == tier]
        for tier, price in own.items()
        if price.within_slo
    }
    if scenario.prices is not None:
        rest = [name for name, spec in workload.items() if spec.class_ not in own]
        if not rest:
            yield Problem("prices", "the class of every workload has a price; leave it out")
        elif scenario.prices.within_slo:
            payers["prices"] = rest
    for path, names in payers.items():
        if not any(_promised(scenario, name) for name in names):
            yield Problem(
                f"{path}.within_slo",
                "nobody who pays it is promised anything; leave it out, or give a class or a "
                "deployment an slo",
            )


def _uncounted(scenario: Scenario, costs: Costs) -> Iterator[Problem]:
    """Yield what costs lack, and ranges of what nobody pays."""
    if costs.rent is None:
        sites = {f"sites.{name}": site for name, site in (scenario.sites or {}).items()}
        for here, site in (sites or {"site": scenario.site}).items():
            if site.price is None:
                yield Problem(
                    f"{here}.price",
                    "costs without electricity would be too low; give what energy costs, for "
                    "example '0.07 USD/kWh'",
                )
    sells = any(scenario.price_of(name) for name in scenario.workload)
    known = (*costs.counted, *["revenue"] * sells)
    for name in costs.ranges or {}:
        if name not in known:
            told = ", ".join(known)
            yield Problem(f"costs.ranges.{name}", f"nothing is paid for it; there is {told}")


def _promised(scenario: Scenario, workload: str) -> bool:
    own = scenario.promise_to(workload)
    return own is not None or any(scenario.deployments[d].slo for d in scenario.reach(workload))
