"""A sizing in the terminal and as JSON: the answer, what a perfect system needs, and what binds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isnan, nan
from typing import Any

from factory_sim.experiments.sizing.bounds import Perfect
from factory_sim.experiments.sizing.promises import Kept
from factory_sim.experiments.sizing.questions import counted_replicas
from factory_sim.experiments.sizing.size import Looked, Sized
from factory_sim.report.causes import CAUSES, words
from factory_sim.report.layout import Block, Entry, Table, rendered
from factory_sim.report.sweep import records
from factory_sim.report.text import duration, megawatts, number, percent

_MOST_CAUSES = 3


def lines(sized: Sized) -> Iterator[str]:
    """Yield what a terminal shows: see `blocks`."""
    return rendered(blocks(sized))


def blocks(sized: Sized) -> Iterator[Block]:
    """Yield what a terminal shows of a search: the answer first."""
    if sized.aim == "demand":
        yield f"The fewest {sized.unit} that keep every promise at this traffic"
    else:
        yield "The most traffic that this site carries with every promise kept"
    yield Entry("answer", _answer(sized))
    if sized.answer is not None:
        yield Entry("promises", "; ".join(map(_promise, sized.answer.promises)))
        if over := _over(sized.answer):
            yield Entry("over the cap", over)
    yield Entry("perfect system", _perfect(sized))
    queued = _queued(sized)
    if queued:
        yield Entry("queueing formula", queued)
    if sized.beyond is not None:
        yield Entry("breaks first", _breaks(sized))
        yield Entry("what binds", _binds(sized, sized.beyond))
    elif sized.answer is not None and sized.aim == "cap":
        told = "nothing up to twice the best that a perfect system does, where the search ends"
        yield Entry("breaks first", f"{told}; those whom nothing is promised may wait")
    if sized.bounds.power < 1.0:
        share = percent(sized.bounds.power)
        told = f"the grid limit is {share} of what all GPUs draw at their power limits"
        yield Entry("power cap", told)
    yield Table(list(_rows(sized)))
    seeds = "one run of each" if sized.replications == 1 else f"{sized.replications} runs of each"
    yield Entry("runs", f"{seeds}; every one has to keep the promises, and the worst is shown")


def document(sized: Sized) -> dict[str, Any]:
    """Return a search as plain data; what is not there is left out."""
    answer, beyond = sized.answer, sized.beyond
    pools = [
        {
            "pool": pool.pool,
            "requests_per_s_asked": pool.asked_per_s,
            "requests_per_s_of_a_perfect_replica": pool.replica_per_s,
            "replicas_of_a_perfect_system": pool.needed,
            "replicas_by_the_queueing_formula": pool.queued,
            "share_of_the_best_by_the_queueing_formula": pool.queued_load,
        }
        for pool in sized.bounds.pools
    ]
    found = {
        "for": sized.aim,
        "unit": sized.unit,
        "answer": None if answer is None else answer.size,
        "promises": None if answer is None else [_told(each) for each in answer.promises],
        "breaks_first": None if beyond is None else _named(_worst(beyond)),
        "time_lost_beyond": None if beyond is None else dict(_lost(beyond)),
        "bounds": [_known(pool) for pool in pools],
        "replications": sized.replications,
        "looked_at": records(sized.table.replace(inf, nan)),
    }
    return _known(found)


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _answer(sized: Sized) -> str:
    looked = sized.answer
    if looked is None:
        return "none: no size that fits keeps the promises"
    goodput = _mean(looked, "goodput_requests_per_s")
    carried = (
        f"goodput {number(goodput)} requests/s, "
        f"{number(_mean(looked, 'goodput_output_tokens_per_s'))} output tokens/s"
    )
    watts = (
        f"{megawatts(_mean(looked, 'grid_power_mw.mean'))} at the meter in the mean, "
        f"{megawatts(max(float(run['grid_power_mw.max']) for run in looked.runs))} at most"
    )
    gpus = f"{_mean(looked, 'gpus'):,.0f} GPUs"
    if sized.unit == "replicas" and sized.scenario is not None:
        racks = sized.scenario["racks"][0]["count"]
        gpus = f"{racks:,} {'rack' if racks == 1 else 'racks'} with {gpus}"
        pools = counted_replicas(sized.scenario)
        if len(pools) > 1:
            each = ", ".join(f"{pool} {count:,}" for pool, count in pools.items())
            gpus = f"{each}; {gpus}"
    return f"{_size(sized, looked)}, {gpus}; {carried}; {watts}"


def _over(looked: Looked) -> str:
    """Return for how long an answer's runs are over the cap, which breaks no promise."""
    longest = max(looked.runs, key=lambda run: float(run.get("cap_overshoot_s", 0.0)))
    if float(longest.get("cap_overshoot_s", 0.0)) == 0.0:
        return ""
    highest = megawatts(float(longest["cap_overshoot_max_mw"]))
    return f"for {duration(float(longest['cap_overshoot_s']))} of a run, by {highest} at most"


def _size(sized: Sized, looked: Looked) -> str:
    if sized.unit == "load":
        return f"{number(looked.size)} times the traffic that is given"
    one = looked.size == 1
    return f"{looked.size:,.0f} {sized.unit.removesuffix('s') if one else sized.unit}"


def _perfect(sized: Sized) -> str:
    pools = [pool for pool in sized.bounds.pools if pool.needed is not None]
    if not pools:
        return "unknown: clients wait for answers, and send as fast as they get them"
    if sized.aim == "demand":
        needed = ", ".join(_of(pool.pool, number(pool.needed or 0.0), pools) for pool in pools)
        told = f"{needed} replicas, whose batches are always full and never wait"
        pool, *others = pools
        if sized.answer is not None and sized.unit == "replicas" and pool.needed and not others:
            told += f"; this takes {percent(sized.answer.size / pool.needed - 1.0)} more"
        return told
    load = sized.bounds.load or 0.0
    told = f"{number(1.0 / load)} times the traffic, with batches always full that never wait"
    if sized.answer is not None:
        told += f"; this carries {percent(sized.answer.size * load)} of it"
    return told


def _of(pool: str, count: str, pools: Sequence[Perfect]) -> str:
    """Return a number of replicas, and of which pool where there are several."""
    return count if len(pools) == 1 else f"{pool} {count}"


def _queued(sized: Sized) -> str:
    """Return what the queueing formula says, where it says something."""
    of = "M/G/c: replicas as so many slots of one queue"
    if sized.aim == "demand":
        pools = [pool for pool in sized.bounds.pools if pool.queued is not None]
        told = ", ".join(_of(pool.pool, f"{pool.queued:,}", sized.bounds.pools) for pool in pools)
        return f"{told} replicas ({of})" if told else ""
    share, load = sized.bounds.queued_load, sized.bounds.load
    if share is None or load is None:
        return ""
    return f"{number(share / load)} times the traffic ({of})"


def _promise(promise: Kept) -> str:
    """Return what came of a promise at the answer."""
    whose, limit = promise.who.rpartition(".")[2], duration(promise.limit_ms / 1e3)
    told = f"{promise.what.upper()} of {whose} {duration(promise.mean_ms / 1e3)}"
    if not isnan(promise.half_width_ms):
        told += f" ± {duration(promise.half_width_ms / 1e3)}"
    return f"{told} of {limit}"


def _breaks(sized: Sized) -> str:
    beyond = sized.beyond
    assert beyond is not None
    worst = _worst(beyond)
    whose = worst.who.rpartition(".")[2]
    value = "for ever" if worst.value_ms == inf else duration(worst.value_ms / 1e3)
    limit = duration(worst.limit_ms / 1e3)
    return f"{worst.what.upper()} of {whose}: {value} at {_size(sized, beyond)}, over {limit}"


def _binds(sized: Sized, beyond: Looked) -> str:
    """Return where the GPU-seconds went of the size that breaks a promise."""
    if sized.answer is None and sized.aim == "cap":
        return (
            "the promise itself, which even this little traffic breaks: make replicas faster (more "
            "GPUs for each, fewer bits), prompts shorter, or promise less"
        )
    if sized.answer is None:
        return "room: the grid limit, or the row of racks, holds no more"
    lost = sorted(_lost(beyond), key=lambda each: -each[1])
    told = ", ".join(f"{words(cause)} {percent(share)}" for cause, share in lost[:_MOST_CAUSES])
    largest = lost[0][0]
    meaning = CAUSES[largest].meaning if largest in CAUSES else words(largest)
    level, slowed = beyond.runs[0].get("binding_limit"), dict(lost).get("power_throttled", 0.0)
    if level is None or largest == "power_throttled" or not slowed:
        return f"{meaning} ({told})"
    return f"{meaning} ({told}); the limit of the {level} slows it by {percent(slowed)}"


def _lost(looked: Looked) -> list[tuple[str, float]]:
    """Return the shares of GPU-seconds by cause: means over the runs."""
    head = "time_lost."
    causes = [key for key in looked.runs[0] if key.startswith(head)]
    return [(key.removeprefix(head), _mean(looked, key)) for key in causes]


def _worst(looked: Looked) -> Kept:
    """Return the promise that is broken by most, or nearest to it."""
    return max(looked.promises, key=lambda each: (not each.met, each.value_ms / each.limit_ms))


def _told(promise: Kept) -> dict[str, Any]:
    """Return a promise that is kept: the mean of its value over the runs, and how sure it is."""
    interval = {"mean_ms": promise.mean_ms, "half_width_ms": promise.half_width_ms}
    return _named(promise) | {k: v for k, v in interval.items() if not isnan(v)}


def _named(promise: Kept) -> dict[str, Any]:
    value = None if promise.value_ms == inf else promise.value_ms
    name = f"{promise.who}.{promise.what}"
    return _known({"promise": name, "limit_ms": promise.limit_ms, "value_ms": value})


def _mean(looked: Looked, figure: str) -> float:
    values = [float(run.get(figure, 0.0)) for run in looked.runs]
    return sum(values) / len(values)


def _rows(sized: Sized) -> Iterator[list[str]]:
    """Yield a line for each size that was looked at, with the promise nearest to its limit."""
    yield [sized.unit, "kept", "tightest", "worst", "goodput/s", "meter"]
    for looked in sized.looked:
        worst = _worst(looked)
        yield [
            number(looked.size, 4) if sized.unit == "load" else f"{looked.size:,.0f}",
            "answer" if looked is sized.answer else "yes" if looked.met else "no",
            f"{worst.what.upper()} {worst.who.rpartition('.')[2]}"[:16],
            "never" if worst.value_ms == inf else duration(worst.value_ms / 1e3),
            number(_mean(looked, "goodput_requests_per_s")),
            megawatts(_mean(looked, "grid_power_mw.mean")),
        ]
