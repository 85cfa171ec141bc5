"""Where do the megawatts go? From the meter through the building to the GPUs, widths to scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from factory_sim.report.plots import sankey, style
from factory_sim.report.plots.sankey import Node
from factory_sim.report.plots.scale import mean_mw
from factory_sim.report.plots.time_axis import window_of
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import megawatts, percent

_IT = {
    "gpus": ("GPUs", style.BLUE),
    "hosts": ("hosts", style.SKY),
    "server_supplies": ("server supplies", style.SKY),
    "fans": ("server fans", style.SKY),
    "switches": ("switches", style.GREEN),
}
_COOLING = {
    "chillers": "chillers",
    "roof_fans": "roof fans",
    "air_movers": "air movers",
    "water_pumps": "water pumps",
    "coolant_pumps": "coolant pumps",
}
_LOSSES = {"transformer": "transformer", "ups": "UPS", "pdu": "PDU"}
_USES = {
    "prefill": style.BLUE,
    "decode": style.SKY,
    "communication": style.GREEN,
    "training": style.PURPLE,
    "idle": style.PALE,
}
WORK = ("prefill", "decode", "communication", "training")
"""What GPUs do for requests and for training jobs; what else they draw is idling."""

_COLUMNS = (0.12, 0.12, 2.5, 5.0, 7.9)
_COLUMNS_WITH_SOURCES = (0.12, 1.95, 3.95, 6.1, 8.55)


def applies(run: SavedRun) -> bool:
    """Say whether a run has booked its energy."""
    window = window_of(run.summary)
    booked = run.summary.get("energy_mwh", {})
    return window is not None and sum(mwh for mwh in booked.values() if mwh > 0.0) > 0.0


def draw(run: SavedRun) -> Figure:
    """Return the flow of mean power from its sources to where it ends."""
    figure = style.figure(12.0, 8.6)
    question = "Where do the megawatts go?"
    if not applies(run):
        style.ask(figure, question)
        style.nothing(figure.subplots(), "this run kept no account of them")
        return figure
    power = mean_mw(run.summary)
    site = site_of(run)
    sources = _sources(run.summary, power)
    style.ask(figure, question, answer(site))
    if len(sources) == 1:
        site, sources = Node(sources[0].name, site.size, site.colour, site.parts), ()
    columns = _COLUMNS_WITH_SOURCES if sources else _COLUMNS
    sankey.draw(
        style.board(figure),
        site,
        sources,
        columns,
        lambda node: f"{megawatts(node.size)}, {percent(node.size / site.size)}",
    )
    return figure


def site_of(run: SavedRun) -> Node:
    """Return a site as a tree of mean megawatts: what it took in, split into where that ended."""
    return _site(mean_mw(run.summary), mean_mw(run.summary, "energy_use_mwh"))


def _site(power: Mapping[str, float], uses: Mapping[str, float]) -> Node:
    """Return the site as a tree: what it took in, split into where that ended."""
    ends = tuple(Node(use, uses[use], _USES[use]) for use in _USES if uses.get(use, 0.0) > 0.0)
    it = tuple(
        Node(name, power[part], colour, ends if part == "gpus" else ())
        for part, (name, colour) in _IT.items()
        if power.get(part, 0.0) > 0.0
    )
    cooling = _parts(power, _COOLING, style.ORANGE)
    losses = _parts(power, _LOSSES, style.VERMILLION)
    # A site with a constant PUE knows no more of its building than that.
    building = "building" if cooling or losses else "cooling and losses, by a constant PUE"
    groups = (
        Node("IT", _sum(it), style.GREY, it),
        Node("cooling", _sum(cooling), style.ORANGE, cooling),
        Node("losses", _sum(losses), style.VERMILLION, losses),
        Node(building, power.get("building", 0.0), style.BLACK),
        Node("into the battery", power.get("battery", 0.0), style.PURPLE),
    )
    parts = tuple(group for group in groups if group.size > 0.0)
    return Node("site", _sum(parts), style.GREY, parts)


def _parts(power: Mapping[str, float], names: Mapping[str, str], colour: str) -> tuple[Node, ...]:
    found = [Node(name, power[p], colour) for p, name in names.items() if power.get(p, 0.0) > 0.0]
    return tuple(sorted(found, key=lambda node: -node.size))


def _sum(nodes: tuple[Node, ...]) -> float:
    return sum(node.size for node in nodes)


def _sources(summary: Mapping[str, Any], power: Mapping[str, float]) -> tuple[Node, ...]:
    given = {
        "meter": (summary.get("power_mw", {}).get("grid", 0.0), style.GREY),
        "own generation": (summary.get("generation_mw", 0.0), style.YELLOW),
        "from the battery": (-power.get("battery", 0.0), style.PURPLE),
    }
    return tuple(Node(name, mw, colour) for name, (mw, colour) in given.items() if mw > 0.0)


def answer(site: Node) -> str:
    """Say how much of what came in reaches the work of GPUs, and where the rest went."""
    sizes = {node.name: node.size for node in sankey.walk(site)}
    gpus, it = sizes.get("GPUs", 0.0), sizes["IT"]
    worked = sum(sizes.get(use, 0.0) for use in WORK)
    idle = gpus - worked if worked else 0.0
    reach = "reach the GPUs' work" if worked else "reach the GPUs"
    rest = {
        "idle GPUs": idle,
        "other IT": it - gpus,
        "building": site.size - it - sizes.get("into the battery", 0.0),
        "battery": sizes.get("into the battery", 0.0),
    }
    took = ", ".join(
        f"{name} {percent(mw / site.size)}" for name, mw in rest.items() if mw > 1e-9 * site.size
    )
    text = f"{percent((worked or gpus) / site.size)} of {megawatts(site.size)} {reach}"
    return f"{text}; the rest: {took}" if took else text
