"""Several sites in one run: their tables side by side, their sums, and each one's own summary.

A run of one site is the case of one table and one window, which are returned as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from factory_sim.metrics.share import Share
from factory_sim.metrics.site import (
    Floats,
    OverPreference,
    Summary,
    Window,
    power_of_site,
    uses_of,
)
from factory_sim.metrics.summary import rates
from factory_sim.metrics.training import TrainingShare, training_joules

SUMMED = ("_mw", "_requests", "_per_s")
"""How the names of columns end that have a sum over sites: power, requests and flows."""


def column_of(site: str, name: str = "") -> str:
    """Return the name of a column of one of several sites, or how all of them begin."""
    return f"site/{site}.{name}"


def joined_table(tables: Mapping[str, Mapping[str, Floats]]) -> Mapping[str, Floats]:
    """Return one time series of those of all sites, by name; all have the same periods.

    First what has a sum, then what deployments, links and jobs have of their own (a name with a
    dot), then the columns of each site.
    """
    if list(tables) == [""]:
        return tables[""]
    columns = dict(_totals(list(tables.values())))
    for table in tables.values():
        columns |= {name: values for name, values in table.items() if _has_an_owner(name)}
    for site, table in tables.items():
        own = (name for name in table if not _has_an_owner(name) and name != "time_s")
        columns |= {column_of(site, name): table[name] for name in own}
    return columns


def _has_an_owner(name: str) -> bool:
    """Tell whether a column names a deployment, a link or a job, which no other site has too."""
    return "." in name and not name.startswith("fabric/")


def _totals(tables: Sequence[Mapping[str, Floats]]) -> Iterator[tuple[str, Floats]]:
    """Yield the columns that all sites have together."""
    nothing = np.zeros(len(tables[0]["time_s"]))

    def summed(name: str) -> Floats:
        return sum((table[name] for table in tables if name in table), start=nothing)

    yield "time_s", tables[0]["time_s"]
    for name in dict.fromkeys(
        name for table in tables for name in table if not _has_an_owner(name)
    ):
        if name.endswith(SUMMED):
            yield name, summed(name)
        elif name == "pue":
            it_mw = summed("it_power_mw")
            used_mw = summed("grid_power_mw") + summed("generation_mw") - summed("battery_mw")
            unknown = np.full(len(it_mw), np.nan)
            yield name, np.divide(used_mw, it_mw, out=unknown, where=it_mw > 1e-6)
        elif name == "kv_use":  # the mean of all deployments
            own = [table[key] for table in tables for key in table if key.endswith(".kv_use")]
            yield name, sum(own, start=nothing) / len(own)


def joined_window(windows: Mapping[str, Window]) -> Window:
    """Return the sums over all sites, by name; of what a site does not know there is no sum."""
    if list(windows) == [""]:
        return windows[""]
    found = list(windows.values())
    outages: dict[str, Counter[str]] = {}
    for window in found:
        for kind, tally in window.outages.items():
            outages.setdefault(kind, Counter()).update(tally)
    hot = {name for window in found for name in window.hottest_c}
    water, parts_g = [w.water_kg for w in found], [w.parts_g for w in found]
    costs, over = [w.cost_usd for w in found], [w.over_preference for w in found]
    return Window(
        start_s=found[0].start_s,
        end_s=found[0].end_s,
        run_s=found[0].run_s,
        parts_j=_by_part([window.parts_j for window in found]),
        it_j=sum(window.it_j for window in found),
        meter_j=sum(window.meter_j for window in found),
        generation_j=sum(window.generation_j for window in found),
        water_kg=None if None in water else _pair(water),
        parts_g=None if None in parts_g else _by_part(parts_g),
        cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
        stages={},
        levels={
            f"{site}/{name}": use
            for site, window in windows.items()
            for name, use in window.levels.items()
        },
        outages=outages,
        links={name: use for window in found for name, use in window.links.items()},
        fabric={
            f"{site}/{name}": use
            for site, window in windows.items()
            for name, use in window.fabric.items()
        },
        hottest_c={n: max(w.hottest_c.get(n, -np.inf) for w in found) for n in sorted(hot)},
        over_preference=None if None in over else _over(over),
        provisioned_it_w=sum(window.provisioned_it_w for window in found),
        provisioned_grid_w=sum(window.provisioned_grid_w for window in found),
        gpus=sum(window.gpus for window in found),
        meters=tuple(column_of(site) for site in windows),
    )


def site_summary(
    table: pd.DataFrame, window: Window, shares: Sequence[Share], jobs: Sequence[TrainingShare]
) -> Summary:
    """Return what one of several sites has of its own: its tokens, its power, where that went.

    table, window: of the site. shares, jobs: what its deployments and its training jobs did.
    """
    output = sum(share.totals.output_tokens for share in shares) / window.seconds
    total = output + sum(share.input_tokens for share in shares) / window.seconds
    found: Summary = {
        "deployments": list(dict.fromkeys(share.deployment for share in shares)),
        "window_s": {"start": window.start_s, "end": window.end_s},
        "gpus": window.gpus,
    }
    found |= rates(output, total, window.gpus) | power_of_site(table, window, output, total)
    return found | uses_of(window, shares, training_joules(jobs))


def _by_part(parts: Sequence[Mapping[str, float] | None]) -> dict[str, float]:
    known = [each for each in parts if each is not None]
    return {name: sum(each[name] for each in known) for name in known[0]}


def _pair(water: Sequence[tuple[float, float] | None]) -> tuple[float, float]:
    known = [each for each in water if each is not None]
    return sum(air for air, _ in known), sum(liquid for _, liquid in known)


def _over(over: Sequence[OverPreference | None]) -> OverPreference:
    known = [each for each in over if each is not None]
    return OverPreference(sum(o.over_j for o in known), sum(o.cost_usd for o in known))
