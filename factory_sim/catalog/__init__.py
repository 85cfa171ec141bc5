"""Facts with their sources: accelerators, systems, models, engines, efficiencies, cooling."""

from factory_sim.catalog.catalog import Catalog, load_catalog
from factory_sim.catalog.entries import (
    Accelerator,
    Engine,
    FabricKind,
    Fact,
    Family,
    Mla,
    Model,
    Moe,
    PowerCurve,
    Precision,
    Shape,
    Sparse,
    System,
    Window,
)
from factory_sim.catalog.facility import (
    Cooling,
    Enclosure,
    FailureRate,
    LoopFacts,
    LossFacts,
    PowerChain,
    Stage,
)

__all__ = [
    "Accelerator",
    "Catalog",
    "Cooling",
    "Enclosure",
    "Engine",
    "FabricKind",
    "Fact",
    "FailureRate",
    "Family",
    "LoopFacts",
    "LossFacts",
    "Mla",
    "Model",
    "Moe",
    "PowerChain",
    "PowerCurve",
    "Precision",
    "Shape",
    "Sparse",
    "Stage",
    "System",
    "Window",
    "load_catalog",
]
