"""A site before it runs: racks, and the watts of every level of its power chain."""

from __future__ import annotations

from factory_sim.factory.layout import Layout
from factory_sim.factory.review import Section


def site(layout: Layout) -> Section:
    """Return the racks, servers and GPUs of a site."""
    servers = sum(len(rack.servers) for rack in layout.site.racks)
    systems = ", ".join(sorted({rack.system.title for rack in layout.site.racks}))
    found = {
        "racks": f"{len(layout.site.racks)}, with {servers} servers and "
        f"{len(layout.site.gpus)} GPUs",
        "system": systems,
    }
    if layout.spare_gpus:
        found["spare GPUs"] = f"{layout.spare_gpus}, in no replica; they draw idle power"
    return found


def power(layout: Layout) -> Section:
    """Return what a site may draw, at rest and at most, in the hottest weather of the run."""
    site, scenario = layout.site, layout.scenario
    limit = scenario.site.grid_limit
    low_w = limit.min_over(0.0, scenario.duration)
    high_w = limit.max_over(0.0, scenario.duration)
    idle, peak = layout.idle, layout.peak
    nameplate_w, nameplate_grid_w = site.nameplate_it_w(), layout.nameplate_grid_w
    falls = "" if low_w == high_w else f", {low_w / 1e3:,.1f} kW at its lowest"
    rows = {"grid limit": f"{high_w / 1e3:,.1f} kW{falls}"}
    if scenario.site.cooling is not None:
        air = layout.hottest
        rows["weather"] = f"up to {air.dry_c:.1f} C dry bulb and {air.wet_c:.1f} C wet bulb"
    rows["nameplate"] = (
        f"{nameplate_w / 1e3:,.1f} kW of IT, {nameplate_grid_w / 1e3:,.1f} kW at the meter"
    )
    for label, flow in (("all GPUs at their limit", peak), ("idle", idle)):
        servers_w = sum(flow.parts[:4])
        rows[label] = (
            f"GPUs {flow.parts[0] / 1e3:,.1f} kW, servers {servers_w / 1e3:,.1f} kW, all IT "
            f"{flow.it_w / 1e3:,.1f} kW, meter {flow.load_w / 1e3:,.1f} kW, PUE "
            f"{flow.load_w / flow.it_w:.3f}"
        )
    rows |= _chain(layout)
    rows["provisioned"] = f"{layout.provisioned_grid_w / 1e3:,.1f} kW at the meter"
    rows["nameplate over limit"] = f"{nameplate_grid_w / low_w:.0%}"
    rows["peak over limit"] = f"{peak.load_w / low_w:.0%}" + (
        "; the cap can bind" if peak.load_w > low_w else "; the cap never binds"
    )
    return rows


def _chain(layout: Layout) -> Section:
    """Return a line for each stage of the power chain, from the feed to the racks."""
    rows = {}
    stages = zip(layout.building.stages, layout.peak.stages, strict=True)
    for stage, most in reversed(list(stages)):
        blocks = stage.blocks
        rating_w = sum(block.rating_w for block in blocks)
        stranded_w = sum(block.installed_w for block in blocks) - rating_w
        fullest = max(w / block.rating_w for w, block in zip(most, blocks, strict=True))
        rows[WORDS[stage.name]] = (
            f"{len(blocks)} of {blocks[0].rating_w / 1e3:,.1f} kW, {stage.redundancy}"
            + (f" ({stranded_w / 1e3:,.1f} kW stranded)" if stranded_w else "")
            + f", at most {fullest:.0%} loaded"
            + ("; can bind" if fullest > 1 + 1e-9 else "")
        )
    return rows


WORDS = {"transformer": "transformers", "ups": "UPS", "pdu": "PDUs"}
