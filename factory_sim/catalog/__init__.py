"""Facts with their sources: accelerators, systems, models, engines, efficiencies, cooling."""

from factory_sim.catalog.catalog import Catalog, load_catalog
from factory_sim.catalog.entries import (
    Accelerator,
    Cooling,
    Engine,
    Fact,
    Family,
    Mla,
    Model,
    Moe,
    PowerCurve,
    Precision,
    Shape,
    System,
    Window,
)

__all__ = [
    "Accelerator",
    "Catalog",
    "Cooling",
    "Engine",
    "Fact",
    "Family",
    "Mla",
    "Model",
    "Moe",
    "PowerCurve",
    "Precision",
    "Shape",
    "System",
    "Window",
    "load_catalog",
]
