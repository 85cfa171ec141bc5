"""Names that point into the catalogue, checked as a scenario is read.

The catalogue comes in the validation context under `catalog`; without one (a scenario made
in Python, piece by piece) names are checked when the factory is laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from factory_sim.errors import InputError


def _checked(section: str) -> Callable[[str, ValidationInfo], str]:
    def check(name: str, info: ValidationInfo) -> str:
        catalog = info.context.get("catalog") if isinstance(info.context, Mapping) else None
        if catalog is not None:
            try:
                getattr(catalog, section)(name)
            except InputError as error:
                raise ValueError("; ".join(map(str, error.problems))) from None
        return name

    return check


def _known(section: str) -> Any:
    return AfterValidator(_checked(section))


known_model = _checked("model")
"""Return the name of a model; ValueError if a catalogue is at hand and does not have it."""


SystemName = Annotated[str, _known("system")]
ModelName = Annotated[str, _known("model")]
EngineName = Annotated[str, _known("engine")]
CoolingName = Annotated[str, _known("cooling_plant")]
PowerChainName = Annotated[str, _known("power_chain")]
FabricName = Annotated[str, _known("fabric")]
SiteCostsName = Annotated[str, _known("site_cost")]
TokenPricesName = Annotated[str, _known("token_price")]
