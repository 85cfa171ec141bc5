"""Designing the building for its racks: blocks, loops and ratings, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from factory_sim.errors import InputError, Problem
from factory_sim.factory.facility.building import Building
from factory_sim.factory.facility.chain import STAGES, ChainStage, stage
from factory_sim.factory.facility.plant import ConstantPue, Heat, Loops, Plant, loops
from factory_sim.factory.site import Rack
from factory_sim.physics.psychrometrics import Ambient
from factory_sim.scenario.facility import PowerChainSpec
from factory_sim.scenario.scenario import Scenario


def design(
    scenario: Scenario, racks: Sequence[Rack], bays: Sequence[int], ambient: Ambient
) -> Building:
    """Return the building around `racks`, sized for their nameplates in this weather.

    bays: of each rack, the one that it behaves like. Raises InputError for a chain or a plant
    that cannot feed or cool them.
    """
    kinds = sorted(set(bays))
    bay_of = [kinds.index(bay) for bay in bays]
    simulated = [racks[bay] for bay in kinds]
    plant_for = _plant_for(scenario)
    nameplates_w = [rack.nameplate_w for rack in racks]
    liquid_w = sum(rack.nameplate_w * rack.liquid_share for rack in racks)
    it_w = sum(nameplates_w)
    lost_w = 0.0
    behind_w, behind_racks = nameplates_w, [1] * len(racks)
    # What racks are taken to need, which a stated rating must carry.
    need_w = [_need_w(scenario, rack) for rack in racks]
    stages: list[ChainStage] = []
    plant: Plant | None = None
    chain_spec: PowerChainSpec | None = None
    if scenario.site.cooling is not None:
        chain_spec = spec = scenario.site.power_chain or PowerChainSpec()
        chain = scenario.facts.power_chain(spec.kind)
        for name in STAGES:
            if name == "transformer":
                heat = Heat(it_w - liquid_w + lost_w, liquid_w, it_w)
                plant = plant_for(heat)
                scale = 1.0 + plant.draw(heat, ambient).total_w / sum(behind_w)
                behind_w = [watts * scale for watts in behind_w]
                need_w = [watts * scale for watts in need_w]
            made = stage(name, getattr(chain, name), getattr(spec, name), behind_w, behind_racks)
            if made is None:
                continue
            stages.append(made)
            need_w, needed = made.through(need_w)
            _check_ratings(scenario, made, needed)
            inputs, outputs = made.through(behind_w)
            lost_w += sum(inputs) - sum(outputs)
            behind_w = inputs
            behind_racks = [sum(behind_racks[i] for i in block.feeds) for block in made.blocks]
        _check_racks(scenario, spec, racks)
    if plant is None:
        plant = plant_for(Heat(it_w - liquid_w + lost_w, liquid_w, it_w))
    if isinstance(plant, Loops):
        _check_supply(plant, racks)
    rack_limit_w = chain_spec.rack_limit if chain_spec else None
    return Building(simulated, bay_of, stages, plant, rack_limit_w, ambient)


def _plant_for(scenario: Scenario):  # type: ignore[no-untyped-def]
    """Return what makes the plant of a scenario for the most heat it will have."""
    spec = scenario.site.cooling
    if spec is None:
        pue = float(scenario.site.pue or 1.0)
        return lambda heat: ConstantPue(pue)
    entry = scenario.facts.cooling_plant(spec.plant)
    return lambda heat: loops(entry, spec, heat)


def _check_supply(plant: Loops, racks: Sequence[Rack]) -> None:
    """Refuse water or air that is warmer than GPUs may be."""
    for rack in racks:
        name, loop = "air", plant.air
        if rack.liquid_share > 0.0 and plant.liquid is not None:
            name, loop = "liquid", plant.liquid
        throttle_c = rack.enclosure.throttle.value
        if loop.supply_c >= throttle_c:
            raise InputError(
                Problem(
                    f"site.cooling.{name}_supply",
                    f"{loop.supply_c:g} degC are as hot as the GPUs of {rack.system.name} may be "
                    f"({throttle_c:g} degC); supply something cooler",
                )
            )


def _need_w(scenario: Scenario, rack: Rack) -> float:
    """Return the watts that a rack is provisioned with."""
    provisioning = scenario.provisioning
    if provisioning.basis == "nameplate":
        return rack.nameplate_w
    return rack.peak_w * (1.0 + provisioning.margin)


def _check_ratings(scenario: Scenario, made: ChainStage, outputs_w: Sequence[float]) -> None:
    """Refuse blocks that cannot feed their racks, unless oversubscription was asked for."""
    allowed = scenario.provisioning.oversubscribe * (1 + 1e-9)
    for block, output_w in zip(made.blocks, outputs_w, strict=True):
        if output_w > block.rating_w * allowed:
            raise InputError(
                Problem(
                    f"site.power_chain.{made.name}.rating",
                    f"{block.name} must deliver {output_w / 1e3:,.1f} kW to the racks behind it "
                    f"({scenario.provisioning.basis}), and may deliver "
                    f"{block.rating_w / 1e3:,.1f} kW; raise the rating, put fewer racks behind a "
                    f"block, or ask for it with 'provisioning: "
                    f"{{oversubscribe: {output_w / block.rating_w + 0.005:.2f}}}'",
                )
            )


def _check_racks(scenario: Scenario, spec: PowerChainSpec, racks: Sequence[Rack]) -> None:
    """Refuse racks that draw more than their feed carries, unless that was asked for."""
    limit_w = spec.rack_limit
    if limit_w is None:
        return
    for kind in Counter(rack.system.name for rack in racks):
        rack = next(rack for rack in racks if rack.system.name == kind)
        need_w = _need_w(scenario, rack)
        ratio = need_w / limit_w
        if ratio > scenario.provisioning.oversubscribe * (1 + 1e-9):
            raise InputError(
                Problem(
                    "site.power_chain.rack_limit",
                    f"a {kind} rack needs {need_w / 1e3:,.1f} kW "
                    f"({scenario.provisioning.basis}), and its feed carries "
                    f"{limit_w / 1e3:,.1f} kW; raise it, take a smaller racks.servers_per_rack, "
                    "or ask for it with 'provisioning: "
                    f"{{oversubscribe: {ratio + 0.005:.2f}}}'",
                )
            )
