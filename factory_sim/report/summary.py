"""The summary of a run on the terminal: what a planner reads first, in 80 columns.

It prints what `summary.json` and `run.json` hold and computes nothing but units; a figure
that a run does not have takes no line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any

from rich.console import Console
from rich.text import Text

from factory_sim.report.building import building, energy, failures
from factory_sim.report.causes import CAUSES, words
from factory_sim.report.classes import classes
from factory_sim.report.layout import Block, Entry, Table, rendered
from factory_sim.report.losses import losses, stations
from factory_sim.report.money import money
from factory_sim.report.pools import pools
from factory_sim.report.saved import keeps_rows, sampled
from factory_sim.report.scaling import autoscaling
from factory_sim.report.sites import buildings, sites
from factory_sim.report.sureness import bands, intervals
from factory_sim.report.text import duration, megawatts, number, percent, with_unit
from factory_sim.report.training import training
from factory_sim.report.trips import regions, services

LATENCIES = {
    "ttft": "time to first token",
    "ttfo": "to first of the answer",
    "tpot": "time per output token",
    "itl": "between tokens (ITL)",
    "e2e": "end to end",
    "upload": "request being sent",
    "transfer": "KV cache on its way",
    "encoding": "images encoded",
}
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
_OUTCOMES = ("arrived", "completed", "rejected", "timed_out", "unfinished")
_BASES = {
    "": "whole site",
    "_per_gpu": "per GPU",
    "_per_it_mw": "per IT MW drawn",
    "_per_utility_mw": "per utility MW drawn",
    "_per_it_mw_provisioned": "per IT MW provisioned",
    "_per_utility_mw_provisioned": "per utility MW provisioned",
}
_LEVELS = {"gpu": "GPUs", "server": "servers", "it": "all IT", "grid": "meter"}
_BAR_COLUMNS = 36
_TOO_LONG_MS = 100_000.0

Figures = Mapping[str, Any]


def show(console: Console, name: str, summary: Figures, record: Figures) -> None:
    """Print the summary of a run of the scenario `name` on `console`, in colour where it can."""
    for line in lines(name, summary, record):
        text = Text(line)
        text.highlight_regex(r"^\S.*", "bold")
        text.highlight_regex(r"\bkept$", "green")
        text.highlight_regex(r"\bbroken$", "bold red")
        console.print(text, soft_wrap=True)


def lines(name: str, summary: Figures, record: Figures) -> Iterator[str]:
    """Yield the lines of the summary; headings are the ones that are not indented.

    summary, record: the contents of `summary.json` and `run.json`.
    """
    yield title(name, summary, record)
    for heading, body in sections(summary, record).items():
        yield from ("", heading, *rendered(body))


def sections(summary: Figures, record: Figures) -> dict[str, list[Block]]:
    """Return what there is to say, by heading."""
    found: dict[str, Iterator[Block]] = {
        f"Latency in {_unit(summary)[0]}": _latency(summary, record),
        "Promises (SLO)": _promises(summary),
        "Requests": _requests(summary, record),
        "By class or workload": classes(summary),
        "Services": services(summary),
        "Users by region (medians of answers; longest gap between tokens)": regions(summary),
        "Tokens per second": _throughput(summary),
        "Power": _power(summary),
        "Where the watts went": energy(summary),
        "Sites": sites(summary),
        "Building" if "sites" not in summary else "All buildings": building(summary),
        **dict(buildings(summary)),
        "Money": money(summary),
        "Failures": failures(summary),
        "Use of the factory": _use(summary),
        "Stations: WIP = throughput x cycle time": stations(summary),
        _pools_heading(summary): pools(summary),
        "Autoscaling": autoscaling(summary),
        "OEE: GPU time, from useful tokens to no demand": losses(summary),
        "Training": training(summary),
        "Where the GPU-seconds went": _time_lost(summary),
        "How sure: 95 % interval of the whole site": intervals(summary),
        "How sure: 90 % band as fitted parameters vary": bands(summary),
        "What this rests on": _kinds(record),
    }
    told = {heading: list(section) for heading, section in found.items()}
    return {heading: body for heading, body in told.items() if body}


def _pools_heading(summary: Figures) -> str:
    split = any("pools" in part for part in summary.get("deployments", {}).values())
    return "Pools" if split else "Links"


def title(name: str, summary: Figures, record: Figures) -> str:
    parts = [f"{summary['gpus']:,} GPUs"] if "gpus" in summary else []
    for deployment, shown in summary.get("represented_replicas", {}).items():
        parts.append(
            f"{shown['simulated']} replicas of {deployment} simulated for {shown['represented']:,}"
        )
    if "window_s" in summary:
        start, end = summary["window_s"]["start"], summary["window_s"]["end"]
        parts.append(f"measured from {duration(start)} to {duration(end)} of simulated time")
    if "seed" in record:
        parts.append(f"seed {record['seed']}")
    return f"{name}: {', '.join(parts)}" if parts else name


def _unit(summary: Figures) -> tuple[str, float]:
    """Return the unit of the latency table and its size in ms; seconds keep it in 80 columns."""
    longest = max((summary[f"{key}_ms"]["p99"] for key in _known(summary)), default=0.0)
    return ("s", 1e3) if longest >= _TOO_LONG_MS else ("ms", 1.0)


def _known(summary: Figures) -> list[str]:
    return [key for key in LATENCIES if f"{key}_ms" in summary]


def _latency(summary: Figures, record: Figures) -> Iterator[Block]:
    known = _known(summary)
    if known:
        _, unit_ms = _unit(summary)
        confidence = summary.get("confidence", {})
        halves = [confidence.get(f"{key}_ms", {}) for key in known]
        sure = [name for name in ("mean", "p99") if any(name in half for half in halves)]
        rows = [["", *_STATISTICS, *(f"± {name}" for name in sure)]]
        for key, half in zip(known, halves, strict=True):
            figures = [_short(summary[f"{key}_ms"][name] / unit_ms) for name in _STATISTICS]
            margins = [_short(half[name] / unit_ms) if name in half else "" for name in sure]
            rows.append([LATENCIES[key], *figures, *margins])
        yield Table(rows)
        if sure:
            yield Entry("±", f"half width of the 95 % confidence interval{_blanks(rows)}")
        error = record.get("recording", {}).get("quantile_error")
        if error is not None:
            yield Entry("percentiles", f"within {100 * error:g} % of their value, of all requests")
    if "interactivity_tokens_per_s_per_user" in summary:
        speed = number(summary["interactivity_tokens_per_s_per_user"])
        yield Entry("a user receives", f"{speed} tokens/s (1 / median time per output token)")


def _blanks(rows: Sequence[Sequence[str]]) -> str:
    """Return why margins of a latency table are blank, and what fills them; nothing if none is."""
    sought = {LATENCIES[key] for key in ("ttft", "tpot", "e2e")}
    blank = {label for label, *cells in rows[1:] if "" in cells}
    few = "; blank: too few are so long, raise `duration`" * bool(blank & sought)
    return few + "; only of TTFT, TPOT and E2E" * bool(blank - sought)


def _promises(summary: Figures) -> Iterator[Block]:
    promises = promises_of(summary)
    rows = []
    for name, promise in promises.items():
        for key, label in LATENCIES.items():
            # Kept, and without a value: nobody asked.
            asked = key in promise and ("value_ms" in promise[key] or not promise[key]["met"])
            if asked:
                part, at = promise[key], f"p{promise['percentile']:g}"
                reached = duration(part["value_ms"] / 1e3) if "value_ms" in part else None
                found = f"no {at}" if reached is None else f"{at} is {reached}"
                limit = f"limit {duration(part['limit_ms'] / 1e3)}"
                verdict = "kept" if part["met"] else "broken"
                of = f"{name}: {label}" if len(promises) > 1 else label
                rows.append([of, found, limit, verdict])
    if rows:
        yield Table(rows, left=(0, 3), headed=False)
    for name, promise in promises.items():
        if "share_of_requests_met" in promise:
            of = f"{name}: all met by" if len(promises) > 1 else "all met by"
            yield Entry(of, f"{percent(promise['share_of_requests_met'])} of requests")


def promises_of(summary: Figures) -> dict[str, Figures]:
    """Return the `slo` group of each deployment that promises something, or of its classes.

    One has {met, percentile, share_of_requests_met} and, per latency with a limit,
    {limit_ms, met, value_ms}; no value_ms where too many requests were never answered.
    """
    parts = dict(summary.get("deployments", {}))
    if any("percentile" not in part["slo"] for part in parts.values() if "slo" in part):
        parts = summary.get("classes", {})  # several promises to one deployment
    return {name: part["slo"] for name, part in parts.items() if "slo" in part}


def _requests(summary: Figures, record: Figures) -> Iterator[Block]:
    counts = {what: summary.get(f"requests_{what}") for what in _OUTCOMES}
    told = [
        f"{count:,} {what.replace('_', ' ')}"
        for what, count in counts.items()
        if count or (count == 0 and what in ("arrived", "completed"))
    ]
    if told:
        yield Entry("in all", ", ".join(told))
    share = sampled(record)
    if share is not None:
        yield Entry("rows kept", f"of {percent(share)} of requests, drawn by the seed")
    elif not keeps_rows(record):
        yield Entry("rows kept", "none: requests were counted as they left")
    if "goodput_requests_per_s" in summary:
        requests = f"{number(summary['goodput_requests_per_s'])} requests/s"
        tokens = summary.get("goodput_output_tokens_per_s")
        also = "" if tokens is None else f" and {number(tokens)} output tokens/s"
        late = tokens is not None and tokens > summary.get("output_tokens_per_s", inf)
        after = "; tokens made after the window are among them" if late else ""
        yield Entry("goodput", f"{requests}{also} kept their promise{after}")
    if "sessions" in summary:
        yield Entry("sessions", _sessions(summary["sessions"]))
    if "prefix_cache" in summary:
        cache = summary["prefix_cache"]
        found = f"{percent(cache['hit_rate'])} of {number(cache['prompt_tokens'])} prompt tokens"
        yield Entry("prefix cache", f"{found} found")
    if "reasoning" in summary:
        part = summary["reasoning"]
        who, made = percent(part["share_of_requests"]), percent(part["share_of_output_tokens"])
        yield Entry("reasoning", f"{who} of requests, {made} of output tokens")
    if "images" in summary:
        seen = summary["images"]
        who, many = percent(seen["share_of_requests"]), number(seen["per_request"])
        yield Entry("images", f"with {who} of requests, {many} a request in the mean")
    for key, title in (("host_cache", "host memory"), ("nvme_cache", "NVMe drives")):
        if key in summary:
            tokens, size = number(summary[key]["loaded_tokens"]), number(summary[key]["loaded_gb"])
            yield Entry(title, f"{tokens} tokens, {size} GB brought back")
    if "speculation" in summary:
        drafts = summary["speculation"]
        rate = percent(drafts["draft_acceptance_rate"])
        length = number(drafts["mean_acceptance_length"])
        yield Entry("speculation", f"{length} tokens a step, {rate} of the drafts right")
    if "recomputed_tokens" in summary:
        yield Entry("recomputed", f"{summary['recomputed_tokens']:,} tokens, after preemption")
    if "swapped_gb" in summary:
        moved = f"{number(summary['swapped_gb'])} GB to host memory and back, in preemptions"
        yield Entry("swapped", moved)


def _sessions(sessions: Figures) -> str:
    said = {
        "completed": "completed",
        "context_full": "as long as the model takes",
        "failed": "ended by a turn that failed",
        "unfinished": "unfinished",
    }
    told = [f"{sessions[key]:,} {words}" for key, words in said.items() if sessions[key]]
    if "turns" in sessions:
        turns, lasted_s = sessions["turns"]["mean"], sessions["duration_s"]["mean"]
        told.append(f"{number(turns)} turns in {number(lasted_s)} s in the mean")
    return f"{sessions['started']:,} started" + "".join(f", {part}" for part in told)


def _throughput(summary: Figures) -> Iterator[Block]:
    rows = [["", "output", "prompt + output"]]
    for suffix, label in _BASES.items():
        figures = [summary.get(f"{base}_tokens_per_s{suffix}") for base in ("output", "total")]
        if any(figure is not None for figure in figures):
            of = "all sites" if "sites" in summary and not suffix else label
            rows.append([of, *("" if f is None else number(f) for f in figures)])
    if len(rows) > 1:
        yield Table(rows)


def _power(summary: Figures) -> Iterator[Block]:
    if "grid_power_mw" in summary:
        grid = summary["grid_power_mw"]
        drawn = f"{megawatts(grid['mean'])} mean, {megawatts(grid['max'])} highest"
        yield Entry("drawn at the meter", drawn)
    if "grid_limit_mw" in summary:
        yield Entry("cap", _cap(summary))
    if "provisioned" in summary:
        given = summary["provisioned"]
        it, utility = megawatts(given["it_mw"]), megawatts(given["utility_mw"])
        yield Entry("provisioned", f"{it} of IT, {utility} at the meter")
    if "power_mw" in summary:
        means = summary["power_mw"]
        levels = [f"{_LEVELS[key]} {megawatts(means[key])}" for key in _LEVELS if key in means]
        yield Entry("mean by level", ", ".join(levels))
    if "pue" in summary:
        yield Entry("PUE", f"{summary['pue']:.3f}")
    if "energy_per_output_token_j" in summary:
        energy = f"{with_unit(summary['energy_per_output_token_j'], 'J')} at the meter"
        if "gpu_energy_per_output_token_j" in summary:
            energy += f", {with_unit(summary['gpu_energy_per_output_token_j'], 'J')} at the GPUs"
        yield Entry("per output token", energy)
    if "per_answer" in summary:
        yield Entry("per answer", _answer(summary["per_answer"]))
    if "clock" in summary:
        clock, told = summary["clock"], lowered(summary["clock"])
        if clock["share_below_reference"]:
            mean, lowest = percent(clock["mean"]), percent(clock["lowest"])
            told += f"; {mean} of reference in the mean, {lowest} lowest"
        yield Entry("GPU clock", told)


def _answer(answer: Figures) -> str:
    told = f"{number(answer['output_tokens'])} output tokens"
    if "energy_j" in answer:
        told += f", {with_unit(answer['energy_j'], 'J')} at the meter"
    for key, of in (("energy_usd", "of energy"), ("revenue_usd", "paid")):
        if key in answer:
            told += f", {number(1e3 * answer[key])} USD a thousand {of}"
    return told


def lowered(clock: Figures) -> str:
    """Say for how much of the time clocks were below their reference."""
    share = clock["share_below_reference"]
    return f"lowered {percent(share)} of the time" if share else "never lowered"


def _cap(summary: Figures) -> str:
    text = megawatts(summary["grid_limit_mw"])
    if "grid_limit_highest_mw" in summary:
        text += f" to {megawatts(summary['grid_limit_highest_mw'])}"
    if "cap_headroom_mw" in summary:
        text += f", {megawatts(summary['cap_headroom_mw'])} of it unused in the mean"
    if "cap_overshoot_s" in summary:
        over = summary["cap_overshoot_s"]
        text += f", exceeded for {duration(over)}" if over else ", never exceeded"
        if over and "cap_overshoot_max_mw" in summary:
            text += f" by up to {megawatts(summary['cap_overshoot_max_mw'])}"
    return text


def _use(summary: Figures) -> Iterator[Block]:
    use = summary.get("utilisation", {})
    if "gpu_busy" in use:
        yield Entry("GPUs busy", f"{percent(use['gpu_busy'])} of the time")
    if "mean_batch" in use:
        yield Entry("batch of a replica", f"{number(use['mean_batch'])} requests in the mean")
    if "kv_use" in use:
        mean, highest = percent(use["kv_use"]["mean"]), percent(use["kv_use"]["max"])
        yield Entry("KV cache in use", f"{mean} mean, {highest} highest")


def _time_lost(summary: Figures) -> Iterator[Block]:
    shares = summary.get("time_lost", {})
    if shares:
        largest = max(shares.values()) or 1.0
        known = [cause for cause in CAUSES if cause in shares]
        yield Table(
            [
                [words(cause), percent(shares[cause]), _bar(shares[cause] / largest)]
                for cause in [*known, *(cause for cause in shares if cause not in CAUSES)]
            ],
            left=(0, 2),
            headed=False,
        )
    if "bottleneck" in summary:
        cause = summary["bottleneck"]
        advice = f": {CAUSES[cause].meaning}" if cause in CAUSES else ""
        refused = summary.get("requests_rejected", 0)
        if cause == "waiting_for_work" and refused:
            advice = f", while {refused:,} requests were refused: see max_queue, and the "
            advice += "longest request that `factory-sim check` names"
        yield Entry("largest loss", f"{words(cause)}{advice}")


def _bar(share: float) -> str:
    return "#" * max(round(_BAR_COLUMNS * share), 1 if share > 0 else 0)


def _kinds(record: Figures) -> Iterator[Block]:
    """Yield how many of the catalogue figures used are of each kind, and what GPUs cannot do."""
    for name, unpacked in record.get("weight_only", {}).items():
        text = f"{unpacked['weights']} weights, multiplied in {unpacked['multiplied_in']}"
        yield Entry(name, text)
    if record.get("kinds"):
        told = ", ".join(f"{count:,} {kind}" for kind, count in record["kinds"].items())
        yield Entry("catalog figures", told)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else number(value)
