"""Facts with their sources: accelerators, systems, models, engines, efficiencies, cooling."""

from factory_sim.catalog.catalog import Catalog, load_catalog
from factory_sim.catalog.entries import (
    Accelerator,
    Engine,
    FabricKind,
    Family,
    PowerCurve,
    System,
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
from factory_sim.catalog.facts import Fact, Precision
from factory_sim.catalog.prices import GpuPrice, SiteCosts, TokenPrices
from factory_sim.catalog.shapes import Mla, Model, Moe, Shape, Sparse, Window

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
    "GpuPrice",
    "LoopFacts",
    "LossFacts",
    "Mla",
    "Model",
    "Moe",
    "PowerChain",
    "PowerCurve",
    "Precision",
    "Shape",
    "SiteCosts",
    "Sparse",
    "Stage",
    "System",
    "TokenPrices",
    "Window",
    "load_catalog",
]
