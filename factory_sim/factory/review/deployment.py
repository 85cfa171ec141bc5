"""A deployment before it runs: memory, room for the cache, ideal rates."""

from __future__ import annotations

from collections.abc import Callable

from factory_sim.factory.batches import cache_tiers, host_memory
from factory_sim.factory.build import even_step_time, roofline, step_time_of
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.pools import StepTimes
from factory_sim.factory.review import Section
from factory_sim.factory.review.workload import Asked
from factory_sim.physics import arithmetic as work
from factory_sim.physics.ideal import Ideal, ideal, ideal_decoding, ideal_prompts, steady
from factory_sim.physics.vision import Encoding
from factory_sim.scenario.autoscaling import Reactive
from factory_sim.scenario.scenario import Scenario


def deployment(fleet: Fleet, asked: Asked | None) -> Section:
    """Return what a deployment, or its pool that computes prompts, comes to."""
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
        "replicas": f"{fleet.represented} of {_each(fleet)}"
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
    if asked is None:
        return rows
    return rows | (_ideal_of_prompts if fleet.computes_prompts else _ideal)(fleet, asked, of_rank)


def best(
    fleet: Fleet,
    asked: Asked,
    batch: int | None = None,
    clock: float = 1.0,
    make: StepTimes = step_time_of,
) -> Ideal:
    """Return the best steady state of one of a replica's batches that is asked this for ever.

    batch: the sequences in it at most, if fewer than the engine and the KV cache take. clock: of
    its GPUs, a share of the reference. make: of step times.
    """
    # Where others encode, images cost nothing here.
    prompt, output, cached, images = asked[:4] if fleet.vision else (*asked[:3], 0.0)
    step_time, budget = even_step_time(fleet, clock, make), fleet.max_step_tokens
    if fleet.computes_prompts:
        return ideal_prompts(step_time, prompt, cached, fleet.max_num_seqs, budget, images)
    most = max(1, min(fleet.max_num_seqs, int(_held(fleet, asked))))
    most = most if batch is None else min(most, batch)
    if fleet.spec.prefill is not None:
        return ideal_decoding(step_time, prompt, output, most, fleet.tokens_per_step)
    return ideal(step_time, prompt, output, cached, most, budget, fleet.tokens_per_step, images)


def pace(fleet: Fleet, asked: Asked, clock: float = 1.0) -> Callable[[int], float]:
    """Return what tells the seconds between a sequence's tokens in a steady batch of so many.

    Of replicas that decode; clock: a share of the reference.
    """
    prompt, output, cached, images = asked[:4] if fleet.vision else (*asked[:3], 0.0)
    step_time, each, budget = (
        even_step_time(fleet, clock),
        fleet.tokens_per_step,
        fleet.max_step_tokens,
    )
    if fleet.spec.prefill is not None:
        return lambda n: ideal_decoding(step_time, prompt, output, n, each).step_s / each
    return lambda n: (
        steady(step_time, prompt, output, cached, n, budget, each, images).step_s / each
    )


def _held(fleet: Fleet, asked: Asked) -> float:
    """Return how many requests of mean length the KV cache holds."""
    return fleet.memory.tokens / (asked.prompt + asked.output / 2)


def _ideal_of_prompts(fleet: Fleet, asked: Asked, _: str) -> Section:
    """Return the best that a pool which computes prompts can do."""
    state = best(fleet, asked)
    rate = state.requests_per_s * fleet.batches
    whole = rate * fleet.represented
    told = (
        f"{rate:,.1f} prompts/s a replica, {whole:,.1f} in all, with steps of "
        f"{state.step_s * 1e3:.1f} ms"
    )
    return {"ideal rate": told} | _load(asked.per_s, whole)


def _ideal(fleet: Fleet, asked: Asked, of_rank: str) -> Section:
    """Return the best that replicas which decode can do. of_rank: where a batch is, in words."""
    held, output = _held(fleet, asked), asked.output
    most = max(1, min(fleet.max_num_seqs, int(held)))
    state = best(fleet, asked)
    bound = "max_num_seqs" if held >= fleet.max_num_seqs else "the KV cache"
    rate = state.requests_per_s * fleet.batches
    whole = rate * fleet.represented
    return {
        "largest batch": f"{most} requests of mean length{of_rank}: bounded by {bound}",
        "ideal rate": f"{rate * output:,.0f} output tokens/s a replica, {whole * output:,.0f} in "
        f"all ({whole:,.1f} requests/s), with batches of {state.batch} and steps of "
        f"{state.step_s * 1e3:.1f} ms",
    } | _load(asked.per_s, whole)


def _load(offered: float | None, ideal_rate: float) -> Section:
    """Return what is asked of a deployment, of what it could do at best."""
    if offered is None:
        return {}
    share = offered / ideal_rate
    over = "; more than can be served: the queue grows" if share > 1.0 else ""
    return {"load": f"{offered:,.2f} requests/s, {share:.0%} of the ideal rate{over}"}


def _each(fleet: Fleet) -> str:
    """Return what a replica stands on."""
    if fleet.instances == 1:
        return f"{fleet.spec.parallelism.gpus} {fleet.accelerator.title}"
    return (
        f"one {fleet.spec.partition} of {fleet.accelerator.title}, {fleet.instances} on each of "
        f"{fleet.gpus} GPUs"
    )


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
    size = fleet.weight_bytes
    boots = f" after {scaling.boot_s:,.0f} s of boot" if scaling.stopped == "off" else ""
    return {
        "autoscaling": f"{scaling.policy}, {least:,g} to {most:,g} replicas up; to start one takes "
        f"{size / 1e9:,.1f} GB of weights and {fleet.engine.start.value:,.0f} s of the "
        f"engine{boots}"
    }


def crossing(scenario: Scenario, fleet: Fleet, asked: Asked | None) -> Section:
    """Return what crosses the link between the pools of a deployment."""
    prefill, network = fleet.spec.prefill, scenario.network
    assert prefill is not None and network is not None
    if prefill.link is None:
        return {}  # the fabric, which has a section of its own
    link = network.links[prefill.link]
    told = f"{prefill.kv_link}, {link.bandwidth / 1e9:,.2f} GB/s"
    if asked is None:
        return {"KV link": told}
    size = fleet.prompt_bytes(round(asked.prompt))
    alone_s = size / min(link.bandwidth, prefill.per_replica or link.bandwidth) + link.latency
    return {
        "KV link": f"{told}: {size / 1e6:,.1f} MB of a mean prompt in {alone_s * 1e3:,.2f} ms "
        f"alone; {link.bandwidth / size:,.1f} prompts/s at the most"
        + ("; layer by layer, while prompts are computed" if prefill.overlap else "")
    }


def swapping(fleet: Fleet) -> Section:
    """Return the room for victims, or for what is cached, where a fleet has some."""
    names = {"host_cache": "host memory", "nvme_cache": "NVMe drives"}
    rooms = {names[field]: tuple(tier) for field, tier in cache_tiers(fleet).items()}
    host = host_memory(fleet)
    if host is not None:
        rooms["host memory"] = (host.total, host.seconds_per_block)
    return {
        name: f"{blocks:,} KV blocks of a replica, {each_s * 1e6:,.0f} us to move one"
        for name, (blocks, each_s) in rooms.items()
    }


def encoder(scenario: Scenario, fleet: Fleet) -> Section:
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
