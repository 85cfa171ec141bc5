"""What a scenario comes to before it runs: room for the cache, watts, racks, ideal rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from factory_sim.errors import InputError, Problem
from factory_sim.factory.batches import host_memory, host_tier
from factory_sim.factory.build import even_step_time, roofline, workload_seeds
from factory_sim.factory.failures.chance import check_failures
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import Layout, fleets_of, lay_out_sites
from factory_sim.factory.network.review import fabric_section
from factory_sim.factory.prefixes import caches_prefixes, sent_to
from factory_sim.factory.training.holding import Holding
from factory_sim.physics import arithmetic as work
from factory_sim.physics.ideal import ideal, ideal_decoding, ideal_prompts
from factory_sim.physics.training import daly_interval_s, expected_s, training_flops
from factory_sim.physics.vision import Encoding
from factory_sim.scenario.autoscaling import Reactive
from factory_sim.scenario.scenario import Scenario
from factory_sim.scenario.workload import ClosedArrivals, WorkloadSpec
from factory_sim.workload.sessions import mean_turns
from factory_sim.workload.stream import mean_lengths, open_blocks, trace_reports

Section = dict[str, str]

ENOUGH = 1_000_000
"""Requests drawn to see the load of an open workload."""


@dataclass(frozen=True)
class Check:
    """What a scenario comes to, in sections of labelled lines, and every problem found."""

    sections: dict[str, Section] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def check(scenario: Scenario) -> Check:
    """Return what `scenario` comes to, without running it."""
    problems: list[Problem] = []
    sections: dict[str, Section] = {}
    lengths: dict[str, tuple[float, float, float]] = {}
    for name, spec in scenario.workload.items():
        try:
            lengths[name] = mean_lengths(
                spec,
                scenario.facts,
                Path(),
                f"workload.{name}",
                scenario.duration,
                keeps=_keeps_prefixes(scenario, name),
            )
            sections[f"Workload {name}"] = _workload(scenario, name, lengths[name])
        except InputError as error:
            problems += error.problems
    try:
        layouts = lay_out_sites(scenario)
    except InputError as error:
        return Check({}, (*error.problems, *problems))
    try:
        check_failures(layouts)
    except InputError as error:
        problems += error.problems
    found: dict[str, Section] = {}
    for layout in layouts:
        of = f" of {layout.part.name}" if layout.part.name else ""
        found |= {f"Site{of}": _site(layout), f"Power{of}": _power(layout)}
        wiring = layout.wiring()
        if wiring is not None:
            found[f"Fabric{of}"] = fabric_section(wiring, layout.fleets)
    for fleet in fleets_of(layouts):
        sent = [n for n in lengths if fleet.deployment in scenario.reach(n)]
        if fleet.encodes:
            found[f"Deployment {fleet.deployment}, encoder"] = _encoder(scenario, fleet)
            continue
        own = [lengths[n] for n in sent]
        heading = f"Deployment {fleet.deployment}"
        if fleet.computes_prompts:
            heading += ", prefill"
        found[heading] = _deployment(fleet, own[0] if own else None)
        if fleet.spec.prefill is not None:
            found[heading] |= _crossing(scenario, fleet, own[0] if own else None)
        try:
            found[heading] |= _swapping(fleet)
        except InputError as error:
            problems += error.problems
        if len(own) == len(list(sent_to(scenario, fleet))):  # all of them can be read
            try:
                if caches_prefixes(scenario, fleet):
                    sessions = any(spec.sessions for _, spec in sent_to(scenario, fleet))
                    known = "sessions go on from what was said" if sessions else ""
                    found[heading]["prefix cache"] = f"on: {known or 'prompts carry hashes'}"
            except InputError as error:
                problems += error.problems
        for name in sent:
            prompt, output, _ = lengths[name]
            if prompt + (1 if fleet.computes_prompts else output) > fleet.longest:
                problems.append(
                    Problem(
                        f"workload.{name}",
                        f"a mean request has {prompt + output:,.0f} tokens, and {fleet.name} takes "
                        f"at most {fleet.longest:,}: nearly all would be rejected; shorten them, "
                        "or give the replicas more memory or another model",
                    )
                )
    for holding in (holding for layout in layouts for holding in layout.holdings):
        found[f"Training {holding.name}"] = _training(holding)
    return Check(found | sections, tuple(problems))


def _keeps_prefixes(scenario: Scenario, workload: str) -> bool:
    """Tell whether all replicas that a workload may come to may keep what was said."""
    reached = [scenario.deployments[name] for name in scenario.reach(workload)]
    return all(deployment.front_engine.prefix_caching is not False for deployment in reached)


def _site(layout: Layout) -> Section:
    servers = sum(len(rack.servers) for rack in layout.site.racks)
    systems = ", ".join(sorted({rack.system.title for rack in layout.site.racks}))
    found = {
        "racks": f"{len(layout.site.racks)}, with {servers} servers and "
        f"{len(layout.site.gpus)} GPUs",
        "system": systems,
    }
    if layout.spare_gpus:
        found["spare GPUs"] = f"{layout.spare_gpus}, in no replica; they draw idle power"
    return found


def _power(layout: Layout) -> Section:
    site, scenario = layout.site, layout.scenario
    limit = scenario.site.grid_limit
    low_w = limit.min_over(0.0, scenario.duration)
    high_w = limit.max_over(0.0, scenario.duration)
    idle, peak = layout.idle, layout.peak
    nameplate_w, nameplate_grid_w = site.nameplate_it_w(), layout.nameplate_grid_w
    falls = "" if low_w == high_w else f", {low_w / 1e3:,.1f} kW at its lowest"
    rows = {"grid limit": f"{high_w / 1e3:,.1f} kW{falls}"}
    if scenario.site.cooling is not None:
        air = layout.hottest
        rows["weather"] = f"up to {air.dry_c:.1f} C dry bulb and {air.wet_c:.1f} C wet bulb"
    rows["nameplate"] = (
        f"{nameplate_w / 1e3:,.1f} kW of IT, {nameplate_grid_w / 1e3:,.1f} kW at the meter"
    )
    for label, flow in (("all GPUs at their limit", peak), ("idle", idle)):
        servers_w = sum(flow.parts[:4])
        rows[label] = (
            f"GPUs {flow.parts[0] / 1e3:,.1f} kW, servers {servers_w / 1e3:,.1f} kW, all IT "
            f"{flow.it_w / 1e3:,.1f} kW, meter {flow.load_w / 1e3:,.1f} kW, PUE "
            f"{flow.load_w / flow.it_w:.3f}"
        )
    rows |= _chain(layout)
    rows["provisioned"] = f"{layout.provisioned_grid_w / 1e3:,.1f} kW at the meter"
    rows["nameplate over limit"] = f"{nameplate_grid_w / low_w:.0%}"
    rows["peak over limit"] = f"{peak.load_w / low_w:.0%}" + (
        "; the cap can bind" if peak.load_w > low_w else "; the cap never binds"
    )
    return rows


def _chain(layout: Layout) -> Section:
    """Return a line for each stage of the power chain, from the feed to the racks."""
    rows = {}
    stages = zip(layout.building.stages, layout.peak.stages, strict=True)
    for stage, most in reversed(list(stages)):
        blocks = stage.blocks
        rating_w = sum(block.rating_w for block in blocks)
        stranded_w = sum(block.installed_w for block in blocks) - rating_w
        fullest = max(w / block.rating_w for w, block in zip(most, blocks, strict=True))
        rows[WORDS[stage.name]] = (
            f"{len(blocks)} of {blocks[0].rating_w / 1e3:,.1f} kW, {stage.redundancy}"
            + (f" ({stranded_w / 1e3:,.1f} kW stranded)" if stranded_w else "")
            + f", at most {fullest:.0%} loaded"
            + ("; can bind" if fullest > 1 + 1e-9 else "")
        )
    return rows


WORDS = {"transformer": "transformers", "ups": "UPS", "pdu": "PDUs"}


def _swapping(fleet: Fleet) -> Section:
    """Return the room in host memory, for victims or for what is cached, where a fleet has some."""
    host = host_tier(fleet) or host_memory(fleet)
    if host is None:
        return {}
    return {
        "host memory": f"{host.total:,} KV blocks of a replica, "
        f"{host.seconds_per_block * 1e6:,.0f} us to move one"
    }


def _deployment(fleet: Fleet, lengths: tuple[float, float, float] | None) -> Section:
    memory, spec = fleet.memory, fleet.spec
    unit, units = ("micro-batch", "micro-batches") if fleet.ranks == 1 else ("rank", "ranks")
    of_rank = f" in each of {fleet.batches} {units}"
    if fleet.batches == 1:
        unit, of_rank = "replica", ""
    parameters = work.layer_weights(fleet.model) + work.embedding_weights(fleet.model)
    rows = {"site": spec.site} if spec.site else {}
    rows |= {
        "model": f"{fleet.model.title}, {parameters / 1e9:,.1f} billion weights in "
        f"{fleet.precision}"
        + (f" (multiplied in {fleet.weight_only})" if fleet.weight_only else "")
        + f", KV cache in {spec.kv_precision}",
        "replicas": f"{fleet.represented} of {fleet.gpus_per_replica} {fleet.accelerator.title}"
        + (f", {len(fleet.replicas)} of them simulated" if fleet.scale > 1.0 else ""),
        "engine": f"{fleet.engine.title}, {fleet.batching} batching, at most "
        f"{fleet.max_num_seqs} sequences{of_rank}"
        + (f", {ordered.policy} order" if (ordered := spec.engine.scheduling) else ""),
        "memory of a GPU": f"{memory.usable_bytes / 1e9:.1f} GB to use: weights "
        f"{memory.weight_bytes / 1e9:.1f}, activations {memory.activation_bytes / 1e9:.1f}, "
        f"runtime {memory.runtime_bytes / 1e9:.1f}"
        + (f", windows {memory.window_bytes / 1e9:.1f}" if memory.window_bytes else "")
        + f", KV cache {memory.kv_bytes / 1e9:.1f}",
        "KV capacity": f"{memory.tokens:,} tokens a {unit}, in {memory.blocks:,} blocks of "
        f"{memory.block_tokens}",
        **(
            {"longest prompt": f"{fleet.longest - 1:,} tokens"}
            if fleet.computes_prompts
            else {"longest request": f"{fleet.longest:,} tokens, prompt and answer"}
        ),
    }
    rows |= _scaling(fleet)
    if fleet.drafting is not None and not fleet.computes_prompts:
        rows["speculation"] = (
            f"{fleet.drafting.tokens} tokens drafted a step, {fleet.tokens_per_step:.2f} made in "
            "the mean"
        )
    if lengths is None:
        return rows
    prompt, output, cached = lengths
    if fleet.computes_prompts:
        best = ideal_prompts(even_step_time(fleet, 1.0), prompt, cached, fleet.max_step_tokens)
        rate = best.requests_per_s * fleet.batches
        rows["ideal rate"] = (
            f"{rate:,.1f} prompts/s a replica, {rate * fleet.represented:,.1f} in all, with steps "
            f"of {best.step_s * 1e3:.1f} ms"
        )
        return rows
    held = memory.tokens / (prompt + output / 2)
    most = max(1, min(fleet.max_num_seqs, int(held)))
    step_time = even_step_time(fleet, 1.0)
    if spec.prefill is None:
        best = ideal(
            step_time, prompt, output, cached, most, fleet.max_step_tokens, fleet.tokens_per_step
        )
    else:
        best = ideal_decoding(step_time, prompt, output, most, fleet.tokens_per_step)
    rows["largest batch"] = f"{most} requests of mean length{of_rank}: " + (
        "bounded by max_num_seqs" if held >= fleet.max_num_seqs else "bounded by the KV cache"
    )
    rate = best.requests_per_s * fleet.batches
    tokens = rate * output
    rows["ideal rate"] = (
        f"{tokens:,.0f} output tokens/s a replica, {tokens * fleet.represented:,.0f} in all "
        f"({rate * fleet.represented:,.1f} requests/s), with batches of "
        f"{best.batch} and steps of {best.step_s * 1e3:.1f} ms"
    )
    return rows


def _training(holding: Holding) -> Section:
    """Return what a training job comes to, alone and with every watt it wants."""
    spec, step_s = holding.spec, holding.rhythm.step_at(holding.clock)
    interval_s = holding.between_checkpoints * step_s
    flops = training_flops(holding.active_parameters, spec.tokens)
    share = 1.0
    rows = {
        "gpus": f"{len(holding.gpus):,} {holding.accelerator.title}: {spec.data_ranks:,} "
        f"data-parallel ranks of {spec.parallelism.tp} x {spec.parallelism.pp}",
        "run": f"{flops:.3g} flops: {spec.tokens:.4g} tokens through "
        f"{holding.active_parameters / 1e9:,.1f} billion parameters, in {holding.steps:,} steps",
        "step": f"{step_s:,.3f} s, {holding.rhythm.communicating_s:,.3f} s of it communicating; "
        f"MFU {holding.mfu:.1%}",
        "watts of a GPU": f"{holding.computing_w:,.0f} computing, {holding.communicating_w:,.0f} "
        f"communicating, {holding.writing_w:,.0f} writing a checkpoint"
        + (f"; at a clock of {holding.clock:.0%}" if holding.clock < 1.0 else ""),
    }
    if spec.checkpoint is not None:
        share = interval_s / (interval_s + holding.write_s)
        rows["checkpoint"] = f"{holding.write_s:,.1f} s after every {interval_s:,.0f} s of work"
    if spec.failures is not None:
        best_s = daly_interval_s(holding.write_s, holding.mtbf_s)
        share = 1.0 / expected_s(
            1.0, interval_s, holding.write_s, holding.restart_s, holding.mtbf_s
        )
        rows["checkpoint"] += f" ({best_s:,.0f} s would be best)"
        rows["failures"] = (
            f"one every {holding.mtbf_s / 3600:,.2f} h; {holding.restart_s:,.0f} s to restart"
        )
    days = spec.tokens / spec.global_batch * step_s / share / 86400
    rows["expected"] = f"{share:.1%} of the time counts; the run takes {days:,.1f} days"
    return rows


def _scaling(fleet: Fleet) -> Section:
    """Return between how many replicas a deployment is scaled."""
    scaling, placed = fleet.spec.autoscaling, fleet.represented
    if scaling is None:
        return {}
    if isinstance(scaling, Reactive):
        least, most = float(scaling.min), float(placed)
    else:
        replicas = scaling.replicas
        least, most = replicas.min_over(0.0, float("inf")), replicas.max_over(0.0, float("inf"))
    size = fleet.memory.weight_bytes * fleet.gpus_per_replica
    boots = f" after {scaling.boot_s:,.0f} s of boot" if scaling.stopped == "off" else ""
    return {
        "autoscaling": f"{scaling.policy}, {least:,g} to {most:,g} replicas up; to start one takes "
        f"{size / 1e9:,.1f} GB of weights and {fleet.engine.start.value:,.0f} s of the "
        f"engine{boots}"
    }


def _crossing(
    scenario: Scenario, fleet: Fleet, lengths: tuple[float, float, float] | None
) -> Section:
    """Return what crosses the link between the pools of a deployment."""
    prefill, network = fleet.spec.prefill, scenario.network
    assert prefill is not None and network is not None
    if prefill.link is None:
        return {}  # the fabric, which has a section of its own
    link = network.links[prefill.link]
    told = f"{prefill.kv_link}, {link.bandwidth / 1e9:,.2f} GB/s"
    if lengths is None:
        return {"KV link": told}
    size = fleet.prompt_bytes(round(lengths[0]))
    alone_s = size / min(link.bandwidth, prefill.per_replica or link.bandwidth) + link.latency
    return {
        "KV link": f"{told}: {size / 1e6:,.1f} MB of a mean prompt in {alone_s * 1e3:,.2f} ms "
        f"alone; {link.bandwidth / size:,.1f} prompts/s at the most"
    }


def _encoder(scenario: Scenario, fleet: Fleet) -> Section:
    """Return what a pool of encoders comes to, and how fast its embeddings cross a link."""
    encoding, most = roofline(fleet, 1.0), fleet.max_num_seqs
    assert isinstance(encoding, Encoding)
    step_s, alone_s = (encoding.encode(images).duration_s for images in (most, 1))
    rows = {
        "replicas": f"{fleet.represented} of 1 {fleet.accelerator.title}",
        "images": f"up to {most} a step: {step_s * 1e3:,.1f} ms, one {alone_s * 1e3:,.1f} ms",
        "ideal rate": f"{most / step_s:,.1f} images/s a replica, "
        f"{most / step_s * fleet.represented:,.1f} in all",
    }
    encoder = scenario.deployments[fleet.deployment].encoder
    assert encoder is not None
    if encoder.named_link is not None and scenario.network is not None:
        link, size = scenario.network.links[encoder.link], fleet.image_bytes
        rows["image link"] = (
            f"{encoder.link}, {link.bandwidth / 1e9:,.2f} GB/s: {size / 1e6:,.1f} MB of an image "
            f"in {(size / link.bandwidth + link.latency) * 1e3:,.2f} ms alone"
        )
    return rows


def _to(scenario: Scenario, spec: WorkloadSpec) -> str:
    """Return the deployment that a workload sends to, or the service with its deployments."""
    service = (scenario.services or {}).get(spec.deployment)
    if service is None:
        return spec.deployment
    return f"{spec.deployment}: {service.policy} over {', '.join(service.deployments)}"


def _from(scenario: Scenario, name: str) -> str:
    """Return the regions that a workload's requests come from, with their shares."""
    shares = scenario.shares_of(name)
    whole = sum(shares.values())
    return ", ".join(f"{region} {share / whole:.0%}" for region, share in shares.items())


def _workload(scenario: Scenario, name: str, means: tuple[float, float, float]) -> Section:
    spec, where = scenario.workload[name], f"workload.{name}"
    prompt, output, cached = means
    most = "" if spec.sessions is None else "at most "
    rows = {
        "to": _to(scenario, spec),
        "arrivals": spec.arrivals.process,
        "mean lengths": f"{prompt:,.0f} prompt tokens"
        + (f" ({most}{cached:,.0f} of them cached)" if cached else "")
        + f", {output:,.0f} output tokens",
    }
    if scenario.regions is not None:
        rows["from"] = _from(scenario, name)
    for report in trace_reports(spec, Path(), where):
        rows["trace"] = str(report)
    turns = 1.0
    if spec.sessions is not None:
        turns = mean_turns(spec.sessions)
        rows["sessions"] = (
            f"{turns:,.1f} turns in the mean; the prompt of a turn is all that was said before and "
            "what it asks"
        )
    if isinstance(spec.arrivals, ClosedArrivals):
        rows["load"] = f"{spec.arrivals.concurrency} clients, each waiting for its answer"
        return rows
    seed = workload_seeds(scenario)[name]
    blocks = open_blocks(spec, scenario.facts, scenario.duration, seed, Path(), where)
    requests, seconds = 0, scenario.duration
    for block in blocks:
        requests += len(block.arrival_s)
        if requests >= ENOUGH:
            seconds = float(block.arrival_s[-1])
            break
    rate = requests / seconds
    if spec.sessions is not None:
        rows["load"] = (
            f"{requests:,} sessions begin in the first {seconds:,.0f} s: {rate * turns:,.2f} "
            f"requests/s, {rate * turns * output:,.0f} output tokens/s in the mean, in the long run"
        )
        return rows
    rows["load"] = (
        f"{requests:,} requests in the first {seconds:,.0f} s: {rate:,.2f} requests/s, "
        f"{rate * output:,.0f} output tokens/s in the mean"
    )
    return rows
