"""The site's part of a summary: power, energy and where it went, the power chain, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from factory_sim.metrics.share import Share

Summary = dict[str, Any]
Floats = NDArray[np.float64]


class StageUse(NamedTuple):
    """What a stage of the power chain carried. fullest: the highest load of a block."""

    blocks: int
    redundancy: str
    rating_w: float
    installed_w: float
    mean_w: float
    fullest: float


class LevelUse(NamedTuple):
    """How a limited level fared: its lowest limit, its highest period, and how far it was over.

    held_s: how long a policy held something back for its sake.
    """

    limit_w: float
    highest_w: float
    over_s: float
    over_w: float
    over_j: float
    held_s: float


class LinkUse(NamedTuple):
    """How full a link was: the share of its bandwidth in the window, and in the fullest period."""

    mean: float
    highest: float
    carried_bytes: float


class GroupUse(NamedTuple):
    """How full one kind of a fabric's ports was, all together, as of a link.

    carried_bytes: counted at every port that they crossed. several: there is more than one port.
    fullest: the one that was used most in the window, and its share of use there.
    """

    mean: float
    highest: float
    carried_bytes: float
    several: bool
    fullest: str
    fullest_mean: float


class OverPreference(NamedTuple):
    """Energy above a preferred limit, and what it cost."""

    over_j: float
    cost_usd: float


@dataclass(frozen=True)
class Window:
    """The site over the window [start_s, end_s].

    parts_j: joules by where they ended. it_j: those of IT. meter_j, generation_j: where they came
    from. water_kg: of the air loop and of the liquid loop; parts_g: carbon by part; cost_usd: all
    None where the site does not know. stages: of the power
    chain, from the feed; levels: those with a limit, the meter first; outages: by kind of domain;
    links: by name; fabric: by kind of port; hottest_c: by column. provisioned: watts set aside.
    meters: how the columns of each meter begin; of several sites a window has the sums.
    """

    start_s: float
    end_s: float
    run_s: float
    parts_j: Mapping[str, float]
    it_j: float
    meter_j: float
    generation_j: float
    water_kg: tuple[float, float] | None
    parts_g: Mapping[str, float] | None
    cost_usd: float | None
    stages: Mapping[str, StageUse]
    levels: Mapping[str, LevelUse]
    outages: Mapping[str, Mapping[str, int]]
    links: Mapping[str, LinkUse]
    fabric: Mapping[str, GroupUse]
    hottest_c: Mapping[str, float]
    over_preference: OverPreference | None
    provisioned_it_w: float
    provisioned_grid_w: float
    gpus: int
    meters: tuple[str, ...] = ("",)

    @property
    def load_j(self) -> float:
        """Return the joules that the site used itself, without what its battery took."""
        return sum(self.parts_j.values()) - self.parts_j["battery"]

    @property
    def seconds(self) -> float:
        """Return the length of the window."""
        return self.end_s - self.start_s


def power_of_site(timeseries: pd.DataFrame, window: Window, output: float, total: float) -> Summary:
    """Return what the site drew, by level, and what its tokens cost in energy.

    output, total: tokens/s within the window.
    """
    seconds, parts = window.seconds, window.parts_j
    it_mw, grid_mw = window.it_j / seconds / 1e6, window.meter_j / seconds / 1e6
    server_j = sum(parts[part] for part in ("gpus", "hosts", "fans", "server_supplies"))
    found: Summary = {
        "grid_power_mw": {"mean": grid_mw, "max": float(timeseries["grid_power_mw"].max())},
        "power_mw": {
            "gpu": parts["gpus"] / seconds / 1e6,
            "server": server_j / seconds / 1e6,
            "it": it_mw,
            "grid": grid_mw,
        },
        "energy_mwh": {part: joules / 3.6e9 for part, joules in parts.items() if joules},
        "provisioned": {
            "it_mw": window.provisioned_it_w / 1e6,
            "utility_mw": window.provisioned_grid_w / 1e6,
        },
    }
    found |= _cap(timeseries, window)
    if window.generation_j:
        found["generation_mw"] = window.generation_j / seconds / 1e6
    if window.it_j:  # a site that was dark all the time has no PUE
        found["pue"] = window.load_j / window.it_j
    found |= _per_mw(window, output, total)
    if output:
        found["energy_per_output_token_j"] = window.meter_j / (output * seconds)
        found["gpu_energy_per_output_token_j"] = parts["gpus"] / (output * seconds)
    found |= _chain(window) | _footprint(window, output * seconds, total * seconds)
    if window.outages:
        found["outages"] = {kind: dict(tally) for kind, tally in window.outages.items()}
    if window.links:
        found["links"] = {name: _carried(use) for name, use in window.links.items()}
    if window.fabric:
        found["fabric"] = {name: _carried_by(group) for name, group in window.fabric.items()}
    if window.hottest_c:
        found["temperature_c"] = dict(window.hottest_c)
    return found


def _per_mw(window: Window, output: float, total: float) -> Summary:
    """Return tokens/s per MW, of what IT and the utility gave and of what is set aside."""
    bases_mw = {
        "it_mw": window.it_j / window.seconds / 1e6,
        "utility_mw": window.meter_j / window.seconds / 1e6,
        "it_mw_provisioned": window.provisioned_it_w / 1e6,
        "utility_mw_provisioned": window.provisioned_grid_w / 1e6,
    }
    return {
        f"{tokens}_tokens_per_s_per_{base}": rate / watts_mw
        for tokens, rate in (("output", output), ("total", total))
        for base, watts_mw in bases_mw.items()
        if watts_mw > 0.0  # own generation may leave nothing to the meter
    }


def _carried(use: LinkUse | GroupUse) -> Summary:
    return {
        "utilisation": {"mean": use.mean, "max": use.highest},
        "carried_gb": use.carried_bytes / 1e9,
    }


def _carried_by(group: GroupUse) -> Summary:
    found = _carried(group)
    if group.several:
        found["fullest"] = {"link": group.fullest, "utilisation": group.fullest_mean}
    return found


def _cap(timeseries: pd.DataFrame, window: Window) -> Summary:
    """Return how the limit at the meter was kept: what was left, how far over, at what clocks."""
    grid, limit = timeseries["grid_power_mw"], timeseries["grid_limit_mw"]
    over = reduce(add, [_over(timeseries, meter) for meter in window.meters])
    period = seconds_within(timeseries, 0.0, window.run_s)
    weights = seconds_within(timeseries, window.start_s, window.end_s)
    found: Summary = {
        "grid_limit_mw": float(limit.min()),
        "cap_headroom_mw": float(np.average(limit - grid, weights=weights)),
        "cap_overshoot_s": float(period[over > 0].sum()),
        "cap_overshoot_max_mw": float(over.max()),
        "cap_overshoot_mwh": float((over * period).sum()) / 3600,
    }
    if "clock" in timeseries:
        clock = timeseries["clock"]
        found["clock"] = {
            "mean": float(np.average(clock, weights=weights)),
            "lowest": float(clock[weights > 0.0].min()),
            "share_below_reference": float(np.average(clock < 1 - 1e-9, weights=weights)),
        }
    if limit.max() > limit.min():
        found["grid_limit_highest_mw"] = float(limit.max())
    return found


def _over(timeseries: pd.DataFrame, meter: str) -> pd.Series:
    """Return how far each period was above the limit of a meter; another's room does not help."""
    limit = timeseries[f"{meter}grid_limit_mw"]
    over = (timeseries[f"{meter}grid_power_mw"] - limit).clip(lower=0.0)
    return over.where(over > 1e-9 * limit, 0.0)


def seconds_within(timeseries: pd.DataFrame, start_s: float, end_s: float) -> Floats:
    """Return how much of each row's period, of which it gives the end, lies in a stretch of time.

    One value a row, seconds.
    """
    ends = timeseries["time_s"].to_numpy()
    starts = np.concatenate([[0.0], ends[:-1]])
    within: Floats = np.minimum(ends, end_s) - np.maximum(starts, start_s)
    return np.maximum(within, 0.0)


def _footprint(window: Window, output_tokens: float, total_tokens: float) -> Summary:
    """Return water, carbon and the energy bill, where the site knows them."""
    bases = {
        "total": total_tokens,
        "input": total_tokens - output_tokens,
        "output": output_tokens,
    }

    def per_million(before: str, amount: float) -> Summary:
        return {
            f"{before}_per_million_{base}_tokens": amount / many * 1e6
            for base, many in bases.items()
            if many
        }

    found: Summary = {}
    it_kwh = window.it_j / 3.6e6
    if window.water_kg is not None:
        water_kg = sum(window.water_kg)
        if it_kwh:
            found["wue_l_per_kwh"] = water_kg / it_kwh
        found["water_l"] = water_kg
        found |= per_million("water_l", water_kg)
        if water_kg:
            loops = zip(("air_loop", "liquid_loop"), window.water_kg, strict=True)
            found["water_use_l"] = {loop: drunk_kg for loop, drunk_kg in loops if drunk_kg}
    if window.parts_g is not None:
        carbon_g = sum(window.parts_g.values())
        found["carbon_kg"] = carbon_g / 1e3
        found |= per_million("gco2", carbon_g)
    if window.cost_usd is not None:
        found["energy_cost_usd"] = window.cost_usd
        found |= per_million("energy_usd", window.cost_usd)
    return found


def _chain(window: Window) -> Summary:
    """Return the stages of the power chain, the limited levels, and the one that binds."""
    found: Summary = {}
    if window.stages:
        found["power_chain"] = {
            name: {
                "blocks": use.blocks,
                "redundancy": use.redundancy,
                "rating_mw": use.rating_w / 1e6,
                "installed_mw": use.installed_w / 1e6,
                "stranded_mw": (use.installed_w - use.rating_w) / 1e6,
                "mean_mw": use.mean_w / 1e6,
                "highest_load": use.fullest,
            }
            for name, use in window.stages.items()
        }
    if len(window.levels) > 1:
        found["limits"] = {
            name: {
                "limit_mw": use.limit_w / 1e6,
                "highest_mw": use.highest_w / 1e6,
                "overshoot_s": use.over_s,
                "overshoot_max_mw": use.over_w / 1e6,
                "overshoot_mwh": use.over_j / 3.6e9,
                "held_back_s": use.held_s,
            }
            for name, use in window.levels.items()
        }
    binding = max(window.levels, key=lambda name: window.levels[name].held_s)
    if window.levels[binding].held_s:
        found["binding_limit"] = binding
    if window.over_preference is not None:
        found["over_preference"] = {
            "mwh": window.over_preference.over_j / 3.6e9,
            "cost_usd": window.over_preference.cost_usd,
        }
    return found


def uses_of(window: Window, shares: Sequence[Share], training_j: float = 0.0) -> Summary:
    """Return MWh by what they were for, and, where known, kg of carbon; they sum to what came in.

    A step that carries prompt chunks is prefill, another decode; of both, the share of their time
    that GPUs spend exchanging data is communication. The carbon of GPUs is split as their joules.
    training_j: of the boards of training jobs while they work.
    """
    prefill = decode = communication = 0.0
    for share in shares:
        totals, gpus = share.totals, share.gpus_per_replica
        talking = totals.network_s / totals.busy_s if totals.busy_s else 0.0
        prefill += gpus * totals.prefill_j * (1.0 - talking)
        decode += gpus * (totals.energy_j - totals.prefill_j) * (1.0 - talking)
        communication += gpus * totals.energy_j * talking
    boards_j = window.parts_j["gpus"]
    phases = {"prefill": prefill, "decode": decode, "communication": communication}
    if training_j:
        phases["training"] = training_j
    phases["idle"] = boards_j - sum(phases.values())
    split = {name: joules / boards_j for name, joules in phases.items()} if boards_j else {}
    found: Summary = {"energy_use_mwh": _by_use(window.parts_j, split, 3.6e9)}
    if window.parts_g is not None:
        found["carbon_use_kg"] = _by_use(window.parts_g, split, 1e3)
    return found


USES = {
    "hosts": ("hosts", "fans", "server_supplies", "switches"),
    "losses": ("pdu", "ups", "transformer"),
    "cooling": ("air_movers", "coolant_pumps", "water_pumps", "roof_fans", "chillers"),
    "building": ("building",),
    "battery": ("battery",),
}
"""Uses of energy besides the GPUs', and the parts they sum."""


def _by_use(parts: Mapping[str, float], split: Mapping[str, float], unit: float) -> Summary:
    """Return the sums of parts by use, in a unit; of GPU boards split as told."""
    uses = {name: share * parts["gpus"] for name, share in split.items()}
    uses |= {use: sum(parts[part] for part in inside) for use, inside in USES.items()}
    least = 1e-12 * sum(parts.values())  # what is left of sums that cancel
    return {use: amount / unit for use, amount in uses.items() if abs(amount) > least}
