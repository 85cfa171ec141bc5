"""Money in the summary of a run: what everything costs, what tokens earn, and to whom it goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from factory_sim.economics.band import band
from factory_sim.economics.bill import share_of, total
from factory_sim.economics.capital import HOUR_S, YEAR_S
from factory_sim.economics.served import Served, merged
from factory_sim.economics.tokens import MILLION, Tokens
from factory_sim.factory.results.books import Books, Premise, books_of
from factory_sim.metrics.answers import Answers
from factory_sim.metrics.requests import Tariff
from factory_sim.metrics.share import Share
from factory_sim.scenario.scenario import Scenario

Summary = dict[str, Any]


def with_money(
    summary: Summary,
    scenario: Scenario,
    premises: Sequence[Premise],
    answers: Answers,
    tariffs: Mapping[str, Tariff],
) -> Summary:
    """Return a summary with what the site costs and what its tokens earn, where that is said."""
    if scenario.costs is None and scenario.prices is None:
        return summary
    seconds = premises[0].window.seconds
    books = [books_of(premise) for premise in premises]
    pace = _common_pace(premises, answers)
    served: dict[str, Served] = {}
    for premise, own in zip(premises, books, strict=True):
        for name, pools in _pools(premise.shares).items():
            served[name] = _deployment(pools, own, answers.of([name]), tariffs, pace)
    sites = [_site(*each, served) for each in zip(premises, books, strict=True)]
    told = summary | _of_all(scenario, premises, sites, books)
    told |= _held_back(told)
    gpus = {name: part["gpus"] for name, part in summary["deployments"].items()}
    keys = {name: part.told(seconds, gpus[name]) for name, part in served.items()}
    told["deployments"] = _with(summary["deployments"], keys)
    models: dict[str, list[str]] = {}
    for name in served:
        models.setdefault(scenario.deployments[name].model, []).append(name)
    if len(models) > 1:
        told["models"] = {
            model: merged([served[n] for n in names]).told(seconds, sum(gpus[n] for n in names))
            for model, names in models.items()
        }
    if "classes" in summary:
        found = _by_class(scenario, premises, answers, served, tariffs)
        told["classes"] = _with(summary["classes"], {n: own.told(seconds) for n, own in found})
    if "sites" in summary:
        each = zip(premises, sites, strict=True)
        keys = {p.layout.part.name: site.told(seconds, *_serving(p)) for p, site in each}
        told["sites"] = _with(summary["sites"], keys)
    jobs = {job: bill for own in books if own for job, bill in own.jobs.items()}
    if jobs:
        paid = {job: {"cost_usd": total(bill), "costs_usd": bill} for job, bill in jobs.items()}
        told["training"] = _with(summary["training"], paid)
    return told


def _with(parts: Mapping[str, Summary], keys: Mapping[str, Summary]) -> Summary:
    return {name: part | keys[name] for name, part in parts.items()}


def _pools(shares: Sequence[Share]) -> dict[str, list[Share]]:
    found: dict[str, list[Share]] = {}
    for share in shares:
        found.setdefault(share.deployment, []).append(share)
    return found


def _serving(premise: Premise) -> tuple[float, float]:
    """Return the GPUs and the provisioned utility watts of a site that no training job holds."""
    window = premise.window
    gpus = window.gpus - sum(job.gpus for job in premise.jobs)
    return gpus, window.provisioned_grid_w * gpus / window.gpus


def _common_pace(premises: Sequence[Premise], answers: Answers) -> float | None:
    """Return the output tokens made in the window over those of requests that came in it, where
    several deployments worked for the same request; None where each worked for its own."""
    if not answers.sums("measured").earlier:
        return None
    shares = [share for premise in premises for share in premise.shares]
    made = 0.0
    for name, scale in {share.deployment: share.scale for share in shares}.items():
        own = answers.of([name]).sums("measured")
        made += scale * (own.output + own.earlier)
    return sum(share.totals.output_tokens for share in shares) / made


def _deployment(
    pools: Sequence[Share],
    books: Books | None,
    own: Answers,
    tariffs: Mapping[str, Tariff],
    pace: float | None,
) -> Served:
    """Return what a deployment served: tokens that were made in the window.

    They earn what those of requests that came in the window do, by the output token: of a backlog
    that is served later, nothing counts yet. pace: of all deployments together, where its own
    tokens are for requests that others answer too.
    """
    name, scale = pools[0].deployment, pools[0].scale
    output = sum(pool.totals.output_tokens for pool in pools)
    prompts = sum(pool.input_tokens for pool in pools)
    admitted, made = own.sums("admitted"), scale * own.sums("measured").output
    found = admitted.cached / admitted.prompt if admitted.prompt else 0.0
    drawn = sum(pool.gpus_per_replica * pool.totals.energy_j for pool in pools)
    on_prompts = sum(
        pool.gpus_per_replica
        * (pool.totals.prompt_j if "decode" in pool.role else pool.totals.energy_j)
        for pool in pools
    )
    tokens = Tokens(prompts, found * prompts, output, on_prompts / drawn if drawn else 0.0)
    earned = None
    if tariffs:
        own_pace = output / made if made else 0.0
        earned = own.dollars(tariffs, {name: scale}) * (own_pace if pace is None else pace)
    return Served(books.deployments[name] if books else None, tokens, earned)


def _site(premise: Premise, books: Books | None, served: Mapping[str, Served]) -> Served:
    """Return what the deployments of a site served, at the cost of GPUs that nobody holds too."""
    own = [served[name] for name in _pools(premise.shares)]
    return merged([*own, Served(books.idle)] if books else own)


def _of_all(
    scenario: Scenario,
    premises: Sequence[Premise],
    sites: Sequence[Served],
    books: Sequence[Books | None],
) -> Summary:
    """Return the keys of all sites together, without what training jobs hold."""
    whole, seconds = merged(sites), premises[0].window.seconds
    gpus, watts = (sum(each) for each in zip(*map(_serving, premises), strict=True))
    told = whole.told(seconds, gpus, watts)
    kept = [each for each in books if each is not None]
    idle = sum(total(each.idle) for each in kept)
    if idle:
        told["unassigned_cost_usd"] = idle
    worn = [each.embodied_kg for each in kept]
    if kept and None not in worn:
        told |= _worn(sum(each or 0.0 for each in worn), whole.tokens)
    ranges = scenario.costs.ranges if scenario.costs else None
    if ranges and whole.bill is not None:
        tokens = whole.tokens
        over = {
            "usd_per_gpu_h": gpus * seconds / HOUR_S,
            "usd_per_million_total_tokens": (tokens.input + tokens.output) / MILLION,
            "usd_per_million_input_tokens": tokens.input / MILLION,
            "usd_per_million_output_tokens": tokens.output / MILLION,
        }
        known = {name: many for name, many in over.items() if name in told}
        mw_years = seconds / YEAR_S * watts / 1e6
        seed = scenario.seed
        told["cost_band"] = band(whole.bill, whole.earned_usd, ranges, seed, known, mw_years)
    return told


def _held_back(told: Summary) -> Summary:
    """Return what the tokens would have earned that the cap held back: as they do, an estimate."""
    held = told.get("output_tokens_per_s_held_back_by_cap")
    if not held or "revenue_usd_per_h" not in told:
        return {}
    each = told["revenue_usd_per_h"] / told["output_tokens_per_s"]
    return {"revenue_usd_per_h_held_back_by_cap": each * held}


def _worn(kilograms: float, tokens: Tokens) -> Summary:
    """Return the CO2e of equipment worn off, and of a million output tokens where there are any."""
    found = {"embodied_carbon_kg": kilograms}
    if tokens.output:
        each = kilograms * 1e3 / tokens.output * MILLION
        found["embodied_gco2_per_million_output_tokens"] = each
    return found


def _by_class(
    scenario: Scenario,
    premises: Sequence[Premise],
    answers: Answers,
    served: Mapping[str, Served],
    tariffs: Mapping[str, Tariff],
) -> Iterator[tuple[str, Served]]:
    """Yield what each class, or workload, was served: its share of every deployment."""
    scales = {share.deployment: share.scale for p in premises for share in p.shares}
    for name, own in answers.by("class" if scenario.classes else "workload"):
        parts = [
            _part(answers.of([deployment]), own.of([deployment]), whole, tariffs, scales)
            for deployment, whole in served.items()
            if deployment in own.deployments
        ]
        yield name, merged([Served({} if scenario.costs else None), *parts])


def _part(
    all_: Answers,
    own: Answers,
    whole: Served,
    tariffs: Mapping[str, Tariff],
    scales: Mapping[str, float],
) -> Served:
    """Return what some of a deployment's requests were served.

    Its prompts' part of the bill is split by the prompt tokens that were computed, the rest by
    output tokens.
    """
    every, mine = all_.sums("measured"), own.sums("measured")
    if not every.output:
        return Served(None)
    tokens = whole.tokens
    answer = mine.output / every.output
    fresh = every.prompt - every.cached
    computed = (mine.prompt - mine.cached) / fresh if fresh else answer
    on_prompts = tokens.prompt_share * computed
    share = on_prompts + (1.0 - tokens.prompt_share) * answer
    earned = None
    if whole.earned_usd is not None:
        paid, of = own.dollars(tariffs, scales), all_.dollars(tariffs, scales)
        earned = whole.earned_usd * paid / of if of else 0.0
    mine_of = Tokens(
        tokens.input * mine.prompt / every.prompt,
        tokens.cached * mine.cached / every.cached if every.cached else 0.0,
        tokens.output * answer,
        on_prompts / share if share else 0.0,
    )
    return Served(share_of(whole.bill, share) if whole.bill is not None else None, mine_of, earned)
