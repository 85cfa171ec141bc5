"""By how much a sample may be off for other reasons than chance: its router, and what fails.

A poll among few knows its own chance; that it asked otherwise than all would be asked, or on a day
when nothing breaks, takes a second poll to see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.year.broken import shares_away
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.scenario.scenario import Scenario

Summary = dict[str, Any]

REACH = 1.0 / (math.sqrt(2.0) - 1.0)
"""Times what half the replicas change: what all the others may. What a router does to latencies
falls with the root of its replicas, as measured (docs/sampling.md), or faster."""

HISTORIES = 100
"""Of failures, each as long as the run, from which follows how many replicas they keep away."""

MOST_AWAY = 0.02
"""Share of the replicas that failures may keep away: what they do is taken for proportional."""

RAISE = 0.01
"""By what share a run is busier, at least, that shows what being busier does."""


class Away(NamedTuple):
    """The share of replicas that failures keep away: in the mean, and at most in 95 % of runs.

    pod: the replicas of the smallest pod.
    """

    mean: float
    most: float
    pod: int

    @property
    def load(self) -> float:
        """Return the load of the run that shows what more of it does: that of a pod which has lost
        a replica. Few pods are so much busier, and not all of them a little: queues feel that."""
        return 1.0 + max(self.most, RAISE, 1.0 / self.pod)


def away(scenario: Scenario) -> Away | None:
    """Return what failures at random keep away of all replicas; None where nothing fails.

    Raises InputError for failures at given times, and for more than a sample may leave out.
    """
    if scenario.failures is None:
        return None
    if scenario.failures.schedule:
        said = "a failure at a given time strikes one place, and here few places stand for many; "
        said += "leave out failures.schedule, or run the whole site"
        raise InputError(Problem("sample", said))
    shares = shares_away(scenario, HISTORIES)
    pod = min(min(fleet.pods) for fleet in fleets_of(lay_out_sites(scenario)))
    found = Away(float(shares.mean()), float(np.quantile(shares, 0.95)), pod)
    if found.most > MOST_AWAY:
        said = f"failures keep up to {100 * found.most:.2g} % of the replicas away, and a sample "
        said += f"can leave out {100 * MOST_AWAY:g} %; run the whole site, or leave them out "
        said += "(--set failures=null)"
        raise InputError(Problem("sample", said))
    return found


def with_routing(summary: Mapping[str, Any], halved: Mapping[str, Any]) -> Summary:
    """Return a summary with `routing_bias`, which `confidence` then includes.

    halved: of the same requests where routers see half as many replicas.
    """
    found = {
        key: {name: REACH * off for name, off in width.items()}
        for key, width in _differences(summary, halved).items()
        if isinstance(width, Mapping)
    }
    return _with(summary, "routing_bias", found)


def with_failures(summary: Mapping[str, Any], busier: Mapping[str, Any], gone: Away) -> Summary:
    """Return a summary with `failure_bias`, which `confidence` then includes.

    busier: of a run at `gone.load`. Who is left is as much busier as others are away; what these
    would have drawn and made at the most is missing in watts and tokens.
    """
    times = gone.most / (gone.load - 1.0)
    found = {
        key: {name: times * off for name, off in width.items()}
        if isinstance(width, Mapping)
        else gone.most * width
        for key, width in _differences(summary, busier).items()
    }
    return _with(summary, "failure_bias", found)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Summary:
    """Return of what has an interval: of latencies how far two runs are apart, else the value."""
    found: Summary = {}
    for key, width in one.get("confidence", {}).items():
        figure = one[key]
        if not isinstance(width, Mapping):
            found[key] = figure["mean"] if isinstance(figure, Mapping) else figure
        elif key in other:
            found[key] = {name: abs(figure[name] - other[key][name]) for name in width}
    return found


def _with(summary: Mapping[str, Any], name: str, bias: Summary) -> Summary:
    if not bias:
        return dict(summary)
    widths = dict(summary["confidence"])
    for key, off in bias.items():
        own = widths[key]
        if isinstance(off, Mapping):
            widths[key] = {part: own[part] + off[part] for part in own}
        else:
            widths[key] = own + off
    return {**summary, "confidence": widths, name: bias}
