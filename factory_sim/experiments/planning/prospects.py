"""Prospects: what a perfect system of a candidate's kind could do, before anything is run.

Its batches are always full and never wait, its clocks never lowered; but its steps are no longer
than the promise of TPOT, since a mean over it breaks the promise. What is less than another
candidate was seen to do needs no run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any, NamedTuple

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.planning.candidates import (
    Candidate,
    Given,
    apart,
    deployment_of,
    parallelism_of,
    scenario_of,
    shown_by_few,
    wider,
)
from factory_sim.experiments.sizing.search import threshold
from factory_sim.factory.check import asked_by_all, asked_of
from factory_sim.factory.facility.climate import Climate
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.factory.racks import horizon_s, racks_of
from factory_sim.factory.review.deployment import best, pace
from factory_sim.factory.review.workload import Asked
from factory_sim.scenario.load import scenario_from
from factory_sim.scenario.scenario import Scenario

MOST_SEQS = 1024
"""The largest batch that is thought of."""

MOST_APART = 64
"""Replicas of a site whose pools stand apart: all of them are simulated, as all share a fabric."""


@dataclass(frozen=True)
class Prospect:
    """A candidate that can be. given: its scenario. requests_per_s, output_tokens_per_s: at best,
    of the whole site. tokens_per_s_per_user: of a request alone on a replica."""

    candidate: Candidate
    given: Given
    racks: int
    gpus: int
    replicas: int
    requests_per_s: float
    output_tokens_per_s: float
    tokens_per_s_per_user: float

    @property
    def ranked(self) -> bool:
        """Tell whether attention is computed by ranks, in lockstep (data-parallel attention)."""
        return parallelism_of(self.candidate.spread).get("dp", 1) > 1

    @property
    def simulated_per_s(self) -> float:
        """Return the requests/s, at best, of those replicas that are simulated."""
        (spec,) = self.given["deployments"].values()
        told = spec["replicas"]
        share = told["simulate"] / self.replicas if isinstance(told, dict) else 1.0
        return self.requests_per_s * share


class Refused(NamedTuple):
    """A candidate that cannot be. kind: in a word, to be counted by; why: what would mend it."""

    candidate: Candidate
    kind: str
    why: str


_KINDS = {
    "tp": "does not fit",
    "pp": "does not fit",
    "dp": "does not fit",
    "ep": "does not fit",
    "precision": "precision",
    "count": "power",
    "grid_limit": "power",
    "tpot": "too slow",
    "system": "no figures",
}
"""What a refusal is about, by the last part of the field it names; others by that part."""


class Prospects:
    """Looks at candidates for one site, its deployment and what it is asked."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._network: Given = given.get("network") or {}
        self._scenario = scenario_from(given)
        self._asked = asked_by_all(self._scenario)
        self._racks = cache(self._count_racks)
        self._tpot_s = self._tightest()

    @property
    def asked_per_s(self) -> float:
        """Return the requests/s of the scenario's traffic, in the mean."""
        rates = [each.per_s for each in self._asked.values()]
        if not rates or any(rate is None for rate in rates):
            said = "a plan needs requests that come by themselves, at a rate"
            raise InputError(Problem("workload", said))
        return sum(rate or 0.0 for rate in rates)

    def of(self, wanted: Iterator[Candidate]) -> tuple[list[Prospect], list[Refused]]:
        """Return those candidates that can be, the best first, and why the others cannot.

        Where a dense model fits on no GPUs of one server, several are tried.
        """
        found: list[Prospect] = []
        refused: list[Refused] = []
        queue = list(wanted)
        while queue:
            candidate = queue.pop(0)
            looked = self.look(candidate)
            if isinstance(looked, Prospect):
                found.append(looked)
                continue
            refused.append(looked)
            if looked.kind == _KINDS["tp"]:
                queue += [each for each in wider(candidate) if each not in queue]
        return sorted(found, key=lambda each: -each.output_tokens_per_s), refused

    def look(self, candidate: Candidate) -> Prospect | Refused:
        """Return what a candidate could do at best, or why it cannot be."""
        try:
            return self._looked(candidate)
        except InputError as error:
            first = error.problems[0]
            kind = first.path.rpartition(".")[2]
            return Refused(candidate, _KINDS.get(kind, kind or "no such thing"), str(first))

    def _looked(self, candidate: Candidate) -> Prospect:
        racks = self._racks(candidate.system)
        rack = self._roomy(candidate)
        asked = self._asked_of(rack)
        own = candidate._replace(batch=candidate.batch or self._batch(rack, asked, candidate.clock))
        rack = _laid_out(scenario_of(self._given, own, 1))
        replicas = racks * rack.fleet.represented
        if candidate.prompts != 0.0:
            return self._apart(own, racks, replicas, asked)
        rate = replicas * self._rate(rack.fleet, asked, own)
        given = shown_by_few(scenario_of(self._given, own), rack.fleet, replicas)
        return self._prospect(own, given, racks, replicas, rate, rack, asked)

    def _apart(self, candidate: Candidate, racks: int, replicas: int, asked: Asked) -> Prospect:
        """Return what two pools could do: in the given parts, or where they are balanced."""
        if not 2 <= replicas <= MOST_APART:
            said = f"pools apart need 2 to {MOST_APART} replicas, all of them simulated"
            raise InputError(Problem("prefill.replicas", f"{said}, and there are {replicas}"))
        one = scenario_of(self._given, candidate, 1)
        # What a fabric is like can only be said where something crosses it.
        network = {key: own for key, own in self._network.items() if key != "fabric"}
        rack = _laid_out(apart(one, 1, 1, {**self._given, "network": network}))
        rates = [self._rate(fleet, asked, candidate) for fleet in (rack.prompts, rack.fleet)]

        def rate(few: int) -> float:
            return min(rates[0] * few, rates[1] * (replicas - few))

        few = max(range(1, replicas), key=rate)
        if candidate.prompts is not None:
            few = min(max(round(candidate.prompts * replicas), 1), replicas - 1)
        own = candidate._replace(prompts=few / replicas)
        given = apart(scenario_of(self._given, own), few, replicas - few, self._given)
        _laid_out(given)
        return self._prospect(own, given, racks, replicas, rate(few), rack, asked)

    def _prospect(
        self,
        candidate: Candidate,
        given: Given,
        racks: int,
        replicas: int,
        rate: float,
        rack: _Rack,
        asked: Asked,
    ) -> Prospect:
        alone = pace(rack.fleet, asked, candidate.clock)(1)
        made, gpus = rate * asked.output, racks * rack.gpus
        return Prospect(candidate, given, racks, gpus, replicas, rate, made, 1.0 / alone)

    def _roomy(self, candidate: Candidate) -> _Rack:
        """Return a rack of a candidate whose batches are bounded by little else than its memory."""
        budget = deployment_of(self._given)[1].get("engine", {}).get("max_num_batched_tokens")
        many = candidate._replace(batch=candidate.batch or min(MOST_SEQS, budget or MOST_SEQS))
        try:
            return _laid_out(scenario_of(self._given, many, 1))
        except InputError:  # of some models, every sequence takes memory that is not KV cache
            return _laid_out(scenario_of(self._given, candidate, 1))

    def _asked_of(self, rack: _Rack) -> Asked:
        asked = asked_of(rack.scenario, rack.fleet, self._asked)
        assert asked is not None  # the only deployment is sent something
        return asked

    def _rate(self, fleet: Fleet, asked: Asked, candidate: Candidate) -> float:
        """Return the requests/s of a replica at best, within the promise of TPOT."""
        seqs = None
        if not fleet.computes_prompts:
            seqs = min(candidate.batch or 1, self._largest(fleet, asked, candidate.clock))
        return best(fleet, asked, seqs, candidate.clock).requests_per_s * fleet.batches

    def _batch(self, rack: _Rack, asked: Asked, clock: float) -> int:
        """Return the largest batch that keeps the promise, in whole eights where it has them."""
        most = self._largest(rack.fleet, asked, clock)
        return most - most % 8 if most > 8 else most

    def _largest(self, fleet: Fleet, asked: Asked, clock: float) -> int:
        """Return the most sequences of a batch whose steps are within the promise of TPOT.

        Raises InputError where even a request alone takes longer.
        """
        room = int(fleet.memory.tokens / (asked.prompt + asked.output / 2))
        held = max(1, min(fleet.max_num_seqs, room))
        token_s = pace(fleet, asked, clock)
        first = threshold(
            lambda seqs: token_s(seqs) > self._tpot_s, held, 1, held, max(1, held // 2)
        )
        if first == 1:
            told = f"{token_s(1) * 1e3:.1f} ms a token, over {self._tpot_s * 1e3:.1f} ms"
            said = f"a request alone takes {told}; more GPUs a replica or fewer bits make it faster"
            raise InputError(Problem("slo.tpot", said))
        return held if first is None else first - 1

    def _count_racks(self, system: str) -> int:
        """Return how many racks of a system the grid limit provisions."""
        given = scenario_of(self._given, Candidate(system, "bf16", "tp1"))
        scenario = scenario_from(given)
        problems: list[Any] = []
        hottest = Climate(scenario.site.weather).hottest(horizon_s(scenario))
        racks = racks_of(scenario, hottest, problems)
        if problems:
            raise InputError(problems)
        return len(racks)

    def _tightest(self) -> float:
        """Return the tightest promise of TPOT, infinite where none is made."""
        promises = [self._scenario.promise_to(name) for name in self._scenario.workload]
        return min((slo.tpot for slo in promises if slo and slo.tpot is not None), default=inf)


def counted(refused: list[Refused]) -> dict[str, int]:
    """Return how many candidates were refused, by what it is about, the most first."""
    return dict(Counter(each.kind for each in refused).most_common())


class _Rack(NamedTuple):
    """One rack of a candidate. fleet: who decodes; prompts: who computes prompts, where apart."""

    scenario: Scenario
    gpus: int
    fleet: Fleet
    prompts: Fleet


def _laid_out(given: Given) -> _Rack:
    scenario = scenario_from(given)
    layouts = lay_out_sites(scenario)
    fleets = sorted(fleets_of(layouts), key=lambda fleet: fleet.computes_prompts)
    return _Rack(scenario, len(layouts[0].site.gpus), fleets[0], fleets[-1])
