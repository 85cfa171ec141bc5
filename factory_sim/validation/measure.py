"""Running a case through the engine and reading off what was measured.

The stopwatch is that of the benchmark tools: it starts with the first request sent and stops
with the last answer, or, for a `steady` load, it runs while the load is held.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from factory_sim.catalog import Catalog
from factory_sim.errors import InputError, Problem
from factory_sim.factory.build import Factory, roofline
from factory_sim.factory.layout import lay_out
from factory_sim.factory.pools import StepTimes
from factory_sim.factory.replica import Replica
from factory_sim.metrics.requests import Promise, Terms, request_table
from factory_sim.metrics.totals import Totals
from factory_sim.validation.case import BEGUN, FOREVER_S, Case, of_case, scenario_of


def simulate_case(case: Case, facts: Catalog, step_time: StepTimes = roofline) -> dict[str, float]:
    """Return the simulated value of every metric that the case measured.

    Raises InputError for a case that cannot be simulated, or in which nothing completes.
    """
    scenario = scenario_of(case, facts)
    try:
        layout = lay_out(scenario)
    except InputError as error:
        raise InputError(Problem(of_case(p.path), p.message) for p in error.problems) from None
    factory = Factory(layout, step_time=step_time)
    gateway = factory.fronts["served"]
    window = _play(factory, case)
    raw = gateway.pieces()
    back_s = scenario.workload["sent"].round_trip / 2
    nothing = Promise(np.inf, np.inf, np.inf)
    table = request_table({"served": raw}, Terms(["sent"], [back_s], 0.0, {"served": nothing}))
    done = table[table["outcome"] == "completed"]
    if not len(done):
        raise InputError(Problem("load", "no request completes; nothing to compare"))
    found: dict[str, float] = {}
    for name in ("ttft", "tpot", "e2e"):
        values = done[f"{name}_ms"].dropna().to_numpy()
        if len(values):
            found[f"{name}_mean_ms"] = float(values.mean())
            for share in (50, 90, 99):
                found[f"{name}_p{share}_ms"] = float(np.percentile(values, share))
    if window.itl_p50_s is not None:
        found["itl_p50_ms"] = window.itl_p50_s * 1e3
    if case.load["kind"] == "static":
        found["prefill_ms"] = found["ttft_mean_ms"]
    if case.load.get("steady"):
        output, prompt = window.totals.output_tokens, float(window.input_tokens)
    else:
        output, prompt = float(done["output_tokens"].sum()), float(done["prompt_tokens"].sum())
    found["output_tok_s"] = output / window.seconds
    found["total_tok_s"] = (output + prompt) / window.seconds
    if case.prefill is None:
        found |= _watts(factory, case, window, output)
    return {name: found[name] for name in case.measured if name in found}


class _Window(NamedTuple):
    """What the replicas did while the stopwatch ran."""

    seconds: float
    totals: Totals
    input_tokens: int
    itl_p50_s: float | None


def _play(factory: Factory, case: Case) -> _Window:
    """Run until the last answer, with the stopwatch of the case."""
    env, gateway = factory.env, factory.fronts["served"]
    if not case.load.get("steady"):
        while env.peek() < FOREVER_S / 2:
            env.step()
        return _read(factory, 0.0, _ended_s(factory), Totals(), 0)
    # The ramp is over once as many requests have left as run at once, or have begun to answer;
    # the load is held until nobody is left to send, or to wait.
    sent, total = factory.streams[0], case.load["requests"]
    held = case.load.get("concurrency") or case.engine.max_num_seqs or 1
    batches = [replica.batch for replica in gateway.replicas]
    begun = case.load["steady"] == BEGUN
    answering = batches if begun else []
    while (
        len(gateway.rows) // gateway.row_bytes + sum(b.decoding for b in answering) < held
        and env.peek() < FOREVER_S / 2
    ):
        env.step()
    start_s, before, prompts = env.now, _totals(factory), _prompts(factory)
    if not begun:
        factory.gaps["served"].clear()
    while (sent.sent < total or any(batch.waiting for batch in batches)) and (
        env.peek() < FOREVER_S / 2
    ):
        env.step()
    window = _read(factory, start_s, env.now, before, prompts)
    while env.peek() < FOREVER_S / 2:
        env.step()
    if begun:  # gaps of every token, ramps and all
        window = window._replace(itl_p50_s=_itl(factory))
    if window.seconds <= 0.0:
        raise InputError(
            Problem("load.requests", f"too few for a steady load; take several times {held}")
        )
    return window


def _read(factory: Factory, start_s: float, end_s: float, before: Totals, prompts: int) -> _Window:
    totals = _totals(factory).minus(before)
    return _Window(end_s - start_s, totals, _prompts(factory) - prompts, _itl(factory))


def _itl(factory: Factory) -> float | None:
    """Return the median gap between tokens since the gaps were last forgotten."""
    gaps = factory.gaps["served"]
    return gaps.quantile_s(0.5) if gaps.count else None


def _ended_s(factory: Factory) -> float:
    """Return when the last request left (a stale event may tick after it)."""
    rows = factory.fronts["served"].table()
    return float(rows["end_s"].max()) if len(rows) else factory.env.now


def _totals(factory: Factory) -> Totals:
    totals = Totals()
    for replica in _replicas(factory):
        totals = totals.plus(replica.totals())
    return totals


def _prompts(factory: Factory) -> int:
    return sum(replica.batch.input_tokens for replica in _replicas(factory))


def _replicas(factory: Factory) -> list[Replica]:
    return [replica for gateway in factory.gateways.values() for replica in gateway.replicas]


def _watts(factory: Factory, case: Case, window: _Window, output: float) -> dict[str, float]:
    """Return mean watts of a GPU and of a server, and joules per output token.

    The joules are those of the servers where the case measured their watts, else those of
    the replicas' GPU boards.
    """
    (fleet,) = factory.fleets
    each, replicas = fleet.gpus_per_replica, len(fleet.replicas)
    idle_s = replicas * window.seconds - window.totals.busy_s
    gpu_j = each * (window.totals.energy_j + fleet.power.idle_w * idle_s)
    gpu_w = gpu_j / window.seconds / (each * replicas)
    if "server_power_w" not in case.measured:
        return {"gpu_power_w": gpu_w, "energy_per_output_token_j": gpu_j / output}
    (rack,) = factory.premises[0].layout.site.racks
    spare = rack.gpus - each * replicas
    boards_w = each * replicas * gpu_w + spare * rack.accelerator.need("idle")
    watts = rack.load.draw(boards_w).inlet / len(rack.servers)
    joules = watts * len(rack.servers) * window.seconds
    return {
        "gpu_power_w": gpu_w,
        "server_power_w": watts,
        "energy_per_output_token_j": joules / output,
    }
