"""What the site did between two readings: energy, levels, links, outages, temperatures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from factory_sim.factory.facility.building import PARTS
from factory_sim.factory.facility.facility import Books, Facility
from factory_sim.factory.premises import Premises
from factory_sim.factory.results.reading import Reading
from factory_sim.metrics.site import (
    GroupUse,
    LevelUse,
    LinkUse,
    OverPreference,
    StageUse,
    Window,
    seconds_within,
)
from factory_sim.scenario.scenario import Scenario


def window_of(
    premises: Premises, before: Reading, after: Reading, books: Books, timeseries: pd.DataFrame
) -> Window:
    """Return what a site did between two readings. books: sums of that time."""
    layout, run_s = premises.layout, premises.env.now
    scenario = layout.scenario
    return Window(
        start_s=scenario.warmup,
        end_s=scenario.duration,
        run_s=run_s,
        parts_j=dict(zip(PARTS, books.joules, strict=True)),
        it_j=books.it_j,
        meter_j=books.meter_j,
        generation_j=books.generation_j,
        water_kg=(books.air_water_kg, books.liquid_water_kg) if scenario.site.cooling else None,
        parts_g=dict(zip(PARTS, books.carbon_g, strict=True)) if scenario.site.carbon else None,
        cost_usd=books.cost_usd if scenario.site.price else None,
        stages=_stages(premises.facility, books, scenario.duration - scenario.warmup),
        levels=_levels(premises),
        outages=_outages(premises),
        links=_links(premises, before, after, timeseries),
        fabric=_fabric(premises, before, after, timeseries),
        hottest_c=_hottest(timeseries),
        over_preference=_over_preference(scenario, timeseries),
        provisioned_it_w=layout.provisioned_it_w,
        provisioned_grid_w=layout.provisioned_grid_w,
        gpus=len(layout.site.gpus),
    )


def _links(
    premises: Premises, before: Reading, after: Reading, timeseries: pd.DataFrame
) -> dict[str, LinkUse]:
    """Return how full each link was."""
    scenario = premises.layout.scenario
    seconds = scenario.duration - scenario.warmup
    found = {}
    for name, link in premises.links.items():
        carried = after.carried_bytes[name] - before.carried_bytes[name]
        found[name] = LinkUse(
            mean=carried / seconds / link.bytes_per_s,
            highest=float(timeseries[f"link/{name}.use"].max()),
            carried_bytes=carried,
        )
    return found


def _fabric(
    premises: Premises, before: Reading, after: Reading, timeseries: pd.DataFrame
) -> dict[str, GroupUse]:
    """Return how full each kind of ports of the fabric was, of those that carried something."""
    scenario = premises.layout.scenario
    seconds = scenario.duration - scenario.warmup
    found = {}
    for name, group in (premises.fabric.groups if premises.fabric else {}).items():
        carried = np.subtract(
            after.port_bytes[premises.name][name], before.port_bytes[premises.name][name]
        )
        use = carried / seconds / np.array([port.bytes_per_s for port in group.ports])
        if carried.any():
            found[name] = GroupUse(
                mean=float(carried.sum()) / seconds / group.bytes_per_s,
                highest=float(timeseries[f"{group.label}.use"].max()),
                carried_bytes=float(carried.sum()),
                several=len(group.ports) > 1,
                fullest=group.ports[int(use.argmax())].name,
                fullest_mean=float(use.max()),
            )
    return found


def _stages(facility: Facility, books: Books, seconds: float) -> dict[str, StageUse]:
    """Return what each stage of the power chain carried, from the feed to the racks."""
    found = {}
    for index, stage in reversed(list(enumerate(facility.building.stages))):
        found[stage.name] = StageUse(
            blocks=len(stage.blocks),
            redundancy=stage.redundancy,
            rating_w=sum(block.rating_w for block in stage.blocks),
            installed_w=sum(block.installed_w for block in stage.blocks),
            mean_w=books.stage_j[index] / seconds,
            fullest=facility.fullest[index],
        )
    return found


def _levels(premises: Premises) -> dict[str, LevelUse]:
    """Return how each limited level fared, the meter first."""
    end_s = premises.layout.scenario.duration
    return {
        level.limit.name: LevelUse(
            limit_w=level.limit.watts.min_over(0.0, end_s),
            highest_w=level.highest_w,
            over_s=level.over_s,
            over_w=level.over_w,
            over_j=level.over_j,
            held_s=level.held_s,
        )
        for level in premises.meter.levels
    }


def _outages(premises: Premises) -> dict[str, dict[str, int]]:
    """Return what failed, by kind of domain."""
    return {
        kind: {
            "failures": tally.failures,
            "carried_by_redundancy": tally.carried,
            "replicas_stopped": tally.stops,
            "requests_lost": tally.requests_lost,
        }
        for kind, tally in premises.outages.tallies.items()
    }


def _hottest(timeseries: pd.DataFrame) -> dict[str, float]:
    names = ("gpu_hottest_c", "coolant_hottest_c")
    return {name: float(timeseries[name].max()) for name in names if name in timeseries}


def _over_preference(scenario: Scenario, timeseries: pd.DataFrame) -> OverPreference | None:
    """Return the window's energy above the preferred limit and its cost, if one is preferred."""
    preference = scenario.power.preference
    if preference is None:
        return None
    seconds = seconds_within(timeseries, scenario.warmup, scenario.duration)
    start_s = timeseries["time_s"].shift(fill_value=0.0).to_numpy()
    over_w = 1e6 * timeseries["grid_power_mw"].to_numpy() - preference.limit.at(start_s)
    over_j = np.maximum(over_w, 0.0) * seconds
    return OverPreference(float(over_j.sum()), float((over_j * preference.price.at(start_s)).sum()))
