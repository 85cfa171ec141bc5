"""The building's part of the summary on the terminal: where watts went, what carried them, what
failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import duration, megawatts, number, percent, with_unit

Figures = Mapping[str, Any]

USES = {
    "prefill": "GPUs: prefill",
    "decode": "GPUs: decode",
    "communication": "GPUs: exchanging data",
    "training": "GPUs: training jobs",
    "idle": "GPUs: idle",
    "hosts": "hosts, fans, switches",
    "losses": "losses of the chain",
    "cooling": "cooling",
    "building": "rest of the building",
    "battery": "battery",
}
"""What energy was for, from the GPUs outwards, in a planner's words."""

STAGES = {"transformer": "transformers", "ups": "UPS", "pdu": "PDUs"}

DOMAINS = {
    "gpu": "GPUs",
    "server": "servers",
    "rack": "racks",
    "nic": "network ports",
    "link": "network links",
    "switch": "leaf switches",
    "cdu": "CDUs",
    "plant": "cooling plant",
    "pdu": "PDUs",
    "ups": "UPS",
    "transformer": "transformers",
    "feed": "utility feed",
    "storage": "storage",
    "heat": "racks too hot",
}


def energy(summary: Figures) -> Iterator[Block]:
    """Yield what the energy was for: mean watts and shares of what came in."""
    uses = summary.get("energy_use_mwh", {})
    if not uses or "window_s" not in summary:
        return
    hours = (summary["window_s"]["end"] - summary["window_s"]["start"]) / 3600.0
    whole = sum(uses.values())
    known = [use for use in USES if use in uses]
    yield Table(
        [[USES[use], megawatts(uses[use] / hours), percent(uses[use] / whole)] for use in known],
        headed=False,
    )


def building(summary: Figures) -> Iterator[Block]:
    """Yield the power chain, the levels that bind, temperatures, water, carbon and the bill."""
    for name, stage in summary.get("power_chain", {}).items():
        text = (
            f"{stage['blocks']} for {megawatts(stage['rating_mw'])}, {stage['redundancy']}, "
            f"{megawatts(stage['mean_mw'])} in the mean, at most {percent(stage['highest_load'])} "
            "of a rating"
        )
        if stage["stranded_mw"]:
            text += f"; {megawatts(stage['stranded_mw'])} stand by"
        yield Entry(STAGES[name], text)
    # Of several sites each tells its own.
    limits = {} if "sites" in summary else summary.get("limits", {})
    for name, level in limits.items():
        if name != "meter":
            yield Entry(name, _level(level))
    if "binding_limit" in summary:
        yield Entry("slowed for", f"the limit of the {summary['binding_limit']}")
    if "output_tokens_per_s_held_back_by_cap" in summary:
        lost = summary["output_tokens_per_s_held_back_by_cap"]
        yield Entry("held back by it", f"up to {number(lost)} output tokens/s")
    if "over_preference" in summary:
        over = summary["over_preference"]
        yield Entry(
            "above the preference",
            f"{with_unit(over['mwh'] * 1e6, 'Wh')}, for {number(over['cost_usd'])} USD",
        )
    hot = summary.get("temperature_c", {})
    if hot:
        yield Entry(
            "at the hottest",
            f"GPUs at {hot['gpu_hottest_c']:.0f} C, their coolant or air at "
            f"{hot['coolant_hottest_c']:.0f} C",
        )
    if summary.get("water_l"):
        yield Entry(
            "water",
            f"{number(summary['water_l'])} l, {number(summary['wue_l_per_kwh'])} l/kWh of IT",
        )
    yield from _footprint(summary)


def _footprint(summary: Figures) -> Iterator[Block]:
    if "carbon_kg" in summary:
        text = f"{number(summary['carbon_kg'])} kg of CO2"
        if "gco2_per_million_output_tokens" in summary:
            text += f", {number(summary['gco2_per_million_output_tokens'])} g a million tokens made"
        yield Entry("carbon", text)
    if "energy_cost_usd" in summary:
        text = f"{number(summary['energy_cost_usd'])} USD"
        if "energy_usd_per_million_output_tokens" in summary:
            each = number(summary["energy_usd_per_million_output_tokens"])
            text += f", {each} USD a million tokens made"
        yield Entry("bill for energy", text)


def _level(level: Figures) -> str:
    text = f"at most {megawatts(level['highest_mw'])} of {megawatts(level['limit_mw'])}"
    if level["overshoot_s"]:
        text += (
            f", exceeded for {duration(level['overshoot_s'])} by up to "
            f"{megawatts(level['overshoot_max_mw'])}"
        )
    if level["held_back_s"]:
        text += f"; clocks held for it for {duration(level['held_back_s'])}"
    return text


def failures(summary: Figures) -> Iterator[Block]:
    """Yield what failed and what that cost."""
    outages = summary.get("outages", {})
    if outages:
        rows = [["", "failures", "carried", "replicas stopped", "requests lost"]]
        for kind, tally in outages.items():
            rows.append([DOMAINS[kind], *(f"{count:,}" for count in tally.values())])
        yield Table(rows)
    if "availability" in summary:
        yield Entry("availability", percent(summary["availability"]))
        lost = summary["output_tokens_lost_to_failures"]
        yield Entry("tokens lost", f"{lost:,} that were made and not delivered")
