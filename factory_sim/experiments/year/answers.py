"""What a site makes of each hour: its clock, tokens, latencies, watts and water.

The clock is the highest at which the whole site, with the building that the weather asks for, stays
under the limit less the margin that the power policy keeps: what the engine's policy settles at
when it is left alone for an hour. Boards draw the mean of their load all hour. Requests beyond what
can be served in an hour are turned away: no queue goes over into the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factory_sim.experiments.year.hours import Hours
from factory_sim.experiments.year.subject import Subject
from factory_sim.experiments.year.surface import MET, SERVED, WATTS, Surface

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

TURNED_AWAY = 0.005
"""A smaller share that is not served is the noise of the runs."""

LEAST_UP = 1e-9


class Answers(NamedTuple):
    """By hour. clock: share of the reference; over: even the lowest exceeds the limit. asked,
    served: requests/s of the site. gpu_w, it_w, load_w: of all boards, of IT, and of the site
    before own generation; meter_w: after it. water_kg_per_s: of the loops. met: the share of
    requests within every promise. latencies: by name, ms."""

    clock: Floats
    over: NDArray[np.bool_]
    asked: Floats
    served: Floats
    gpu_w: Floats
    it_w: Floats
    load_w: Floats
    meter_w: Floats
    water_kg_per_s: Floats
    met: Floats
    latencies: dict[str, Floats]


@dataclass(frozen=True)
class Asked:
    """What each replica that is up is asked: requests/s at the speed of the start."""

    subject: Subject
    hours: Hours

    @property
    def replicas(self) -> Floats:
        """Return how many replicas are up."""
        return self.hours.up * self.subject.fleet.represented

    @property
    def whole(self) -> Floats:
        """Return the requests/s of the site."""
        return self.hours.load * self.subject.per_s

    @property
    def each(self) -> Floats:
        """Return the requests/s of a replica, were it as fast as at the start."""
        each = self.whole / self.hours.speed / np.maximum(self.replicas, LEAST_UP)
        return np.where(self.replicas < LEAST_UP, 0.0, each)


def fits(asked: Asked, surface: Surface, clock: float, places: Places) -> NDArray[np.bool_]:
    """Tell of some hours whether the site stays under its limit at a clock."""
    hours, subject = asked.hours, asked.subject
    boards_w = _boards_w(asked, surface, clock, places)
    pairs = zip(boards_w, places, strict=True)
    load_w = np.array([subject.flow(watts, hours.ambient[at]).load_w for watts, at in pairs])
    allowed_w = hours.limit_w[places] * (1.0 - subject.scenario.power.margin)
    return np.asarray(load_w - hours.generation_w[places] <= allowed_w * (1 + 1e-9))


def answers(asked: Asked, surface: Surface, clocks: Sequence[float]) -> Answers:
    """Return what comes of every hour with the clocks that there are, the highest first."""
    subject, hours = asked.subject, asked.hours
    rung, over = _rungs(asked, surface, clocks)
    asked_each = asked.each
    responses = {name: np.empty(len(hours)) for name in surface.names}
    for number in np.unique(rung):
        mine = rung == number
        for name, values in surface.read(clocks[number], asked_each[mine]).items():
            responses[name][mine] = values
    boards_w = _with_those_down(asked, responses[WATTS], np.arange(len(hours)))
    gpu_w, it_w, load_w, water = np.array(list(_watts(subject, hours, boards_w))).T
    share = responses[SERVED] / np.maximum(asked_each, LEAST_UP)
    share = np.where(share > 1.0 - TURNED_AWAY, 1.0, share) * (asked.replicas >= LEAST_UP)
    latencies = {
        name: values / hours.speed
        for name, values in responses.items()
        if name not in (WATTS, SERVED, MET)
    }
    return Answers(
        np.array(clocks)[rung],
        over,
        asked.whole,
        asked.whole * share,
        gpu_w,
        it_w,
        load_w,
        load_w - np.minimum(hours.generation_w, load_w),
        water,
        np.clip(responses[MET], 0.0, 1.0),
        latencies,
    )


def _rungs(
    asked: Asked, surface: Surface, clocks: Sequence[float]
) -> tuple[Places, NDArray[np.bool_]]:
    """Return the first clock that fits of each hour, and whether none does."""
    last = len(clocks) - 1
    low, high = np.full(len(asked.hours), -1), np.full(len(asked.hours), last)  # too high; may do
    middle = np.zeros_like(low)  # most hours need no other clock
    while len(open_ := np.flatnonzero(high > low + 1)):
        for number in np.unique(middle[open_]):
            mine = open_[middle[open_] == number]
            fit = fits(asked, surface, clocks[number], mine)
            high[mine[fit]] = number
            low[mine[~fit]] = number
        middle = (low + high) // 2
    lowest = np.flatnonzero(high == last)
    over = np.zeros(len(asked.hours), dtype=bool)
    over[lowest] = ~fits(asked, surface, clocks[last], lowest)
    return high, over


def _boards_w(asked: Asked, surface: Surface, clock: float, places: Places) -> Floats:
    """Return the watts of a board in the mean of those that are up and those that are not."""
    gpu_w = surface.read(clock, asked.each[places])[WATTS]
    return _with_those_down(asked, gpu_w, places)


def _with_those_down(asked: Asked, gpu_w: Floats, places: Places) -> Floats:
    idle_w = asked.subject.fleet.power.idle_w
    return np.asarray(idle_w + asked.hours.up[places] * (gpu_w - idle_w))


def _watts(
    subject: Subject, hours: Hours, boards_w: Floats
) -> Iterator[tuple[float, float, float, float]]:
    """Yield the watts of all boards, of IT and of the site, and the water, of each hour."""
    for watts, ambient in zip(boards_w, hours.ambient, strict=True):
        flow = subject.flow(watts, ambient)
        water = sum(loop.water_kg_per_s for loop in flow.plant[:2] if loop is not None)
        yield flow.parts[0], flow.it_w, flow.load_w, water
