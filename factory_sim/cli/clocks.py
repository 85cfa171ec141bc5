"""`factory-sim clocks`: what each GPU clock yields, and where a joule makes most tokens."""

from __future__ import annotations

from pathlib import Path

from factory_sim.cli.options import CatalogFolder, Overrides, Scenario
from factory_sim.report.layout import Entry, Table
from factory_sim.report.text import number, percent, with_unit


def clocks(
    scenario: Scenario = None, overrides: Overrides = None, catalog: CatalogFolder = None
) -> None:
    """Show pace, watts and joules a token at each GPU clock, by phase, and the best of them."""
    import factory_sim
    from factory_sim.experiments.clocks import best
    from factory_sim.experiments.clocks import clocks as points_of
    from factory_sim.factory.layout import lay_out_sites
    from factory_sim.workload.means import images_per_request, mean_lengths

    given = factory_sim.load(scenario, overrides or [], catalog=catalog)
    layouts = lay_out_sites(given)
    pools = [
        (name, spec, layout, fleet)
        for name, spec in given.workload.items()
        for layout in layouts
        for fleet in layout.fleets
        if fleet.deployment in given.reach(name) and not fleet.encodes
    ]
    for fleet in (fleet for layout in layouts for fleet in layout.fleets if fleet.encodes):
        print(f"{fleet.name} makes no tokens, only images: it is not shown\n")
    for index, (name, spec, layout, fleet) in enumerate(pools):
        phases = fleet.phases
        keeps = given.deployments[fleet.deployment].front_engine.prefix_caching is not False
        where = f"workload.{name}"
        lengths = mean_lengths(spec, given.facts, Path(), where, given.duration, keeps)
        images = images_per_request(spec, where, given.duration)
        points = points_of(layout, fleet, *lengths, images)
        lead = "\n" if index else ""
        print(f"{lead}{fleet.name}, for requests of {name}: each clock in each phase")
        rows = [["clock"], [""]]
        for phase in phases:
            rows[0] += [phase, "of a GPU", "J/token"]
            rows[1] += ["tokens/s", "", "at meter"]
        for point in points:
            cells = [percent(point.clock)]
            for at in map(point.of, phases):
                cells += [number(at.tokens_per_s), with_unit(at.gpu_w, "W"), number(at.site_j)]
            rows.append(cells)
        for line in Table(rows).lines():
            print(line)
        full = points[0]
        for phase in phases:
            found = best(points, phase)
            here, there = found.of(phase), full.of(phase)
            text = f"{percent(found.clock)} of the reference clock"
            if found is not full:
                saved = 1.0 - here.site_j / there.site_j
                slower = 1.0 - here.tokens_per_s / there.tokens_per_s
                text += f": {percent(saved)} less energy a token, {percent(slower)} slower"
            for line in Entry(f"least J in {phase}", text).lines():
                print(line)
