"""Images encoded by a pool of their own: exact, conserving, refused, and worth what theory says."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.factory.build import Factory, roofline
from factory_sim.factory.check import check
from factory_sim.factory.encoding import EncodeGateway
from factory_sim.factory.engine.batching import BATCHING
from factory_sim.factory.engine.encode_batch import EncodeBatch
from factory_sim.factory.engine.kv import KvBlocks
from factory_sim.factory.engine.request import Request
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import lay_out
from factory_sim.factory.replica import Replica, Speed
from factory_sim.factory.routing import ROUTING
from factory_sim.factory.run import simulate
from factory_sim.factory.timetable import ARRIVAL, Timetable
from factory_sim.frozen import validate
from factory_sim.metrics.gaps import GapHistogram
from factory_sim.physics.step_time import Chunk, StepTime
from factory_sim.report.summary import lines
from factory_sim.scenario.scenario import Scenario
from tests.factory.side_by_side import Toy, toy_power
from tests.factory.small import small_scenario
from tests.queueing import batch_means, md1_wait_s

IMAGE_BYTES = 1000 * 4096 * 2 * 4
"""Of 1,000 tokens of Qwen3-VL 8B: 4,096 columns in 16 bits, of the last layer and of three more."""


def encoding(
    encoder: dict[str, Any] | None = None,
    images: dict[str, Any] | None = None,
    link: dict[str, Any] | None = None,
    **small: Any,
) -> Scenario:
    """Return the small scenario with a pool of encoders; `small` as there."""
    own = {key: small.pop(key) for key in ("prefill", "autoscaling") if key in small}
    more = {key: small.pop(key) for key in ("failures",) if key in small}
    given = small_scenario(**small).model_dump(mode="json", by_alias=True, exclude_none=True)
    given["deployments"]["d"] |= {"model": "qwen3-vl-8b", **own}
    given["deployments"]["d"]["encoder"] = {"replicas": 1, "link": "images"} | (encoder or {})
    given["workload"]["w"]["images"] = {"tokens": 1000} | (images or {})
    given["network"] = {"links": {"images": {"bandwidth": "10 GB/s"} | (link or {})}}
    return validate(Scenario, given | more)


# One encoder beside a plain loop over its steps.


class Asked(NamedTuple):
    """A request: when it comes, how many images it has, when its client gives up."""

    at: float
    images: int
    due: float


Log = dict[int, tuple[str, float]]


def step_by_step(asked: list[Asked], most: int, image_s: float) -> Log:
    """Return how and when each request leaves an encoder that takes `most` images a step."""
    log: Log = {}
    left = {number: request.images for number, request in enumerate(asked)}
    coming, queue, now = list(left), [], 0.0
    while coming or queue:
        if not queue:
            now = max(now, asked[coming[0]].at)
        while coming and asked[coming[0]].at <= now + 1e-9:
            queue.append(coming.pop(0))
        step = [number for number in queue for _ in range(left[number])][:most]
        now += len(step) * image_s
        while coming and asked[coming[0]].at < now - 1e-9:
            queue.append(coming.pop(0))
        for number in step:
            left[number] -= 1
        for number in list(queue):
            if not left[number]:
                log[number] = ("encoded", now)
            elif asked[number].due <= now + 1e-9:
                log[number] = ("timed_out", now)
        queue = [number for number in queue if number not in log]
    return log


class Door:
    """Stands where requests go on."""

    def __init__(self, env: Timetable) -> None:
        self.env, self.log, self.expected = env, dict[int, tuple[str, float]](), 0

    def expect(self, requests: int) -> None:
        self.expected += requests

    def go_on(self, request: Request) -> None:
        self.log[request.number] = ("encoded", self.env.now)

    def end_early(self, request: Request, time: float, outcome: str) -> None:
        self.log[request.number] = (outcome, time)


def engine(asked: list[Asked], most: int, image_s: float) -> Log:
    env = Timetable()
    encoders = EncodeGateway(env, ROUTING["round-robin"](None), 0.0)  # type: ignore[arg-type]
    encoders.front = door = Door(env)  # type: ignore[assignment]

    def speed_at(clock: float) -> Speed:
        return Speed(Toy(image=image_s), toy_power(clock))

    batch = EncodeBatch(
        BATCHING["continuous"](1),
        *speed_at(1.0),
        KvBlocks(1, 16),
        most,
        float("inf"),
        GapHistogram(),
        longest=100,
        most_prompt=100,
    )
    encoders.adopt(Replica(env, 0, [0], batch, speed_at, encoders.leave, True))
    for number, (at, images, due) in enumerate(asked):
        request = Request(number, at, 10, 5, due_s=due, images=images)
        env.call(at, ARRIVAL, lambda _, request=request: encoders.take(request))
    env.run()
    waiting = len(encoders.kept)
    assert encoders.outstanding == [waiting] == [len(door.log) - _timed_out(door.log)]
    assert door.expected == 0
    return door.log


def _timed_out(log: Log) -> int:
    return sum(outcome == "timed_out" for outcome, _ in log.values())


@st.composite
def images_asked(draw: st.DrawFn) -> list[Asked]:
    # Whole multiples of a quarter of an image's time make arrivals that fall on step ends.
    gaps = st.one_of(st.integers(0, 12).map(lambda n: n / 4), st.floats(0.0, 3.0))
    found, at = [], 0.0
    for _ in range(draw(st.integers(1, 12))):
        at += draw(gaps)
        patience = draw(st.just(float("inf")) | st.floats(0.1, 8.0))
        found.append(Asked(at, draw(st.integers(1, 5)), at + patience))
    return found


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(images_asked(), st.integers(1, 4))
def test_an_encoder_equals_a_loop_over_its_steps(asked: list[Asked], most: int) -> None:
    found, expected = engine(asked, most, 1.0), step_by_step(asked, most, 1.0)
    assert {n: outcome for n, (outcome, _) in found.items()} == {
        n: outcome for n, (outcome, _) in expected.items()
    }
    for number, (_, time) in expected.items():
        assert found[number][1] == pytest.approx(time, rel=1e-9)


# One request, a queue, and what the pool is worth.

ONE = {"arrivals": {"process": "closed", "concurrency": 1, "requests": 1}, "duration": "5 s"}


@pytest.mark.parametrize("prefill", [None, {"replicas": 1, "kv_link": "images"}])
def test_the_path_of_one_request(prefill: dict[str, Any] | None) -> None:
    """Host, both images in one step, their bytes over the link, then the prompt in one step."""
    own = {} if prefill is None else {"prefill": prefill}
    scenario = encoding({}, {"count": 2}, {"latency": "3 ms"}, **ONE, **own)
    run = simulate(scenario, debug=True)
    fleets = {fleet.name: fleet for fleet in lay_out(scenario).fleets}
    eyes, entrance = fleets["d/encode"], fleets["d/prefill" if prefill else "d"]
    assert eyes.image_bytes == IMAGE_BYTES
    encoded_s = roofline(eyes, 1.0).encode(2).duration_s  # type: ignore[attr-defined]
    carried_s = 2 * IMAGE_BYTES / 10e9 + 3e-3
    prompt_s = roofline(entrance, 1.0).mixed(0, 0, 0, [Chunk(0, 2100)], 1).duration_s
    (row,) = run.requests.itertuples()
    assert row.prompt_tokens == 2100
    assert row.encoding_ms == pytest.approx(1e3 * (encoded_s + carried_s), rel=1e-9)
    first_s = entrance.host.per_request_s + encoded_s + carried_s + prompt_s
    assert row.ttft_ms == pytest.approx(1e3 * first_s, rel=1e-9)
    assert (row.encode_replica, row.images) == (0, 2)
    pools = run.summary["deployments"]["d"]["pools"]
    waited = pools[entrance.phases[0] if prefill else "prefill_and_decode"]["time_lost"]
    assert waited["waiting_for_encoder"] == pytest.approx(encoded_s / 5.0, rel=1e-9)
    assert waited["waiting_for_transfer"] == pytest.approx(carried_s / 5.0, rel=1e-9)


def test_a_step_takes_what_products_and_attention_take_and_the_host() -> None:
    scenario = encoding()
    (eyes,) = (fleet for fleet in lay_out(scenario).fleets if fleet.encodes)
    own: Any = roofline(eyes, 1.0)
    given = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    del given["deployments"]["d"]["encoder"], given["network"]
    (whole,) = lay_out(validate(Scenario, given)).fleets
    beside: Any = roofline(whole, 1.0)
    for images in (1, 3):
        host_s = eyes.host.per_step_s + 27 * eyes.host.eager_per_layer_s
        assert own.encode(images).duration_s == pytest.approx(
            beside.encode(images).duration_s + host_s, rel=1e-9
        )
    plain = whole.memory.weight_bytes - eyes.memory.weight_bytes
    (sees_not,) = (fleet for fleet in lay_out(scenario).fleets if not fleet.encodes)
    assert sees_not.memory.weight_bytes == pytest.approx(plain)  # no encoder beside the model


def test_waits_at_one_encoder_are_those_of_m_d_1() -> None:
    service_s, rate = 0.02, 35.0

    def even(fleet: Fleet, clock: float) -> StepTime:
        return Toy(image=service_s) if fleet.encodes else Toy(base=1e-4)

    run = simulate(
        encoding(
            {"max_batch": 1},
            rate=f"{rate} /s",
            duration="250 s",
            lengths={"prompt": 10, "output": 1},
        ),
        step_time=even,
    )
    carried_s = IMAGE_BYTES / 10e9  # alone: images leave the encoder further apart than that
    waits = run.requests["encoding_ms"] / 1e3 - service_s - carried_s
    assert waits.min() > -1e-9
    assert md1_wait_s(rate, service_s) in batch_means(waits.tolist())
    pool = run.summary["deployments"]["d"]["pools"]["encode"]
    assert pool["utilisation"]["gpu_busy"] == pytest.approx(rate * service_s, rel=0.03)
    assert pool["utilisation"]["mean_batch"] == 1.0


def test_batches_of_images_go_further_than_single_ones() -> None:
    """A step of a second a batch, whatever is in it: one at a time 1 image/s, four at a time 4."""

    class Flat(Toy):
        def encode(self, images: int) -> Any:
            return super().encode(1)

    def even(fleet: Fleet, clock: float) -> StepTime:
        return Flat(image=1.0) if fleet.encodes else Toy(base=1e-4)

    def encoded(most: int) -> int:
        scenario = encoding({"max_batch": most}, rate="20 /s", duration="20 s")
        run = simulate(scenario, step_time=even)
        ends = run.requests["arrival_s"] + run.requests["encoding_ms"] / 1e3
        return int((ends < 20.0).sum())

    assert encoded(1) == pytest.approx(19, abs=1)
    assert encoded(4) == pytest.approx(4 * 19, abs=4)


def test_the_pool_takes_encoding_off_the_gaps_of_those_who_decode() -> None:
    """The longest gaps are of steps with a prompt that has an image, and lose its encoding."""
    load: dict[str, Any] = {
        "replicas": 2,
        "rate": "12 /s",
        "duration": "40 s",
        "lengths": {"prompt": 100, "output": 100},
    }
    apart = encoding({"replicas": 1}, {"share": 0.5}, **load)
    given = apart.model_dump(mode="json", by_alias=True, exclude_none=True)
    del given["deployments"]["d"]["encoder"], given["network"]
    together = validate(Scenario, given)
    gaps = [simulate(each).summary["itl_ms"]["p99"] for each in (together, apart)]
    (fleet,) = lay_out(together).fleets
    encoded_ms = 1e3 * roofline(fleet, 1.0).encode(1).duration_s  # type: ignore[attr-defined]
    assert gaps[0] - gaps[1] == pytest.approx(encoded_ms, rel=0.15)
    assert encoded_ms > 10.0


def test_a_slower_link_delays_prompts_by_its_bytes() -> None:
    runs = [simulate(encoding({}, link={"bandwidth": b}, **ONE)) for b in ("10 GB/s", "1 GB/s")]
    fast, slow = (run.summary["ttft_ms"]["mean"] for run in runs)
    assert slow - fast == pytest.approx(1e3 * IMAGE_BYTES * (1e-9 - 1e-10), rel=1e-9)
    carried = runs[0].summary["links"]["images"]["carried_gb"]
    assert carried == pytest.approx(IMAGE_BYTES / 1e9, rel=1e-9)


def test_embeddings_cross_the_fabric() -> None:
    given = encoding(**ONE).model_dump(mode="json", by_alias=True, exclude_none=True)
    given["deployments"]["d"]["encoder"] = {"replicas": 1}
    given["network"] = {"fabric": {}}
    scenario = validate(Scenario, given)
    run = simulate(scenario, debug=True)
    # 450 GB/s out of one GPU, and into another of the same server.
    eyes = lay_out(scenario).fleets[-1]
    encoded_s = roofline(eyes, 1.0).encode(1).duration_s  # type: ignore[attr-defined]
    (encoding_ms,) = run.requests["encoding_ms"]
    assert encoding_ms == pytest.approx(1e3 * (encoded_s + IMAGE_BYTES / 450e9), rel=1e-9)
    told = check(scenario).sections
    assert told["Fabric"]["images of d"] == "450.00 GB/s alone, from any replica to any"


@pytest.mark.parametrize("bandwidth", [0.5e9, 2e9, 10e9])
def test_a_kv_cache_crosses_by_layers_behind_the_embeddings_of_its_images(
    bandwidth: float,
) -> None:
    """Embeddings are on the link before the prompt begins, its 36 layers while it is computed."""
    link = {"bandwidth": f"{bandwidth!r} byte/s", "latency": "3 ms"}
    prefill = {"replicas": 1, "kv_link": "images", "overlap": True}
    scenario = encoding({}, {"count": 2}, link, prefill=prefill, **ONE)
    (row,) = simulate(scenario, debug=True).requests.itertuples()
    fleets = {fleet.name: fleet for fleet in lay_out(scenario).fleets}
    decodes, layers = fleets["d"], fleets["d"].model.layers
    prompt_s = roofline(fleets["d/prefill"], 1.0).mixed(0, 0, 0, [Chunk(0, 2100)], 1).duration_s
    whole_s = decodes.prompt_bytes(2100) / bandwidth
    remains_s = max(whole_s / layers, prompt_s / layers - prompt_s + whole_s) + 3e-3
    assert row.transfer_ms == pytest.approx(1e3 * remains_s, rel=1e-9)
    given = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    given["deployments"]["d"]["prefill"]["overlap"] = False
    (apart,) = simulate(validate(Scenario, given), debug=True).requests.itertuples()
    assert apart.transfer_ms == pytest.approx(1e3 * (whole_s + 3e-3), rel=1e-9)
    for name in ("ttft_ms", "encoding_ms"):  # what comes before is untouched
        assert getattr(row, name) == pytest.approx(getattr(apart, name), rel=1e-9)


def test_a_shared_link_carries_each_embedding_and_each_layer_once() -> None:
    """At four fifths of what the link carries, so that images and KV caches slow each other."""
    prefill = {"replicas": 2, "kv_link": "images", "overlap": True}
    load: dict[str, Any] = {"rate": "8 /s", "replicas": 2, "duration": "20 s"}
    scenario = encoding({"replicas": 2}, {}, {"bandwidth": "2 GB/s"}, prefill=prefill, **load)
    run = simulate(scenario, debug=True)
    assert run.summary["requests_completed"] == len(run.requests)
    decodes = lay_out(scenario).fleets[0]
    each = decodes.prompt_bytes(1100) + IMAGE_BYTES
    factory = Factory(lay_out(scenario), debug=True)
    factory.env.run(until=600.0)
    carried = factory.links["images"].carried_bytes()
    assert carried == pytest.approx(len(run.requests) * each, rel=1e-9)
    alone_ms = 1e3 * decodes.prompt_bytes(1100) / 2e9
    assert run.requests["transfer_ms"].max() > alone_ms


def test_prompts_without_images_go_straight_on() -> None:
    load: dict[str, Any] = {"rate": "10 /s", "duration": "20 s"}
    run = simulate(encoding({}, {"share": 0.3}, **load), debug=True)
    shown = run.requests["images"] > 0
    assert 0.2 < shown.mean() < 0.4
    assert run.requests.loc[shown, "encoding_ms"].notna().all()
    assert run.requests.loc[~shown, "encoding_ms"].isna().all()
    assert (run.requests.loc[~shown, "encode_replica"] == -1).all()
    assert run.requests.loc[~shown, "ttft_ms"].min() < 20.0


def test_a_run_tells_of_its_pools() -> None:
    scenario = encoding(prefill={"replicas": 2, "kv_link": "images"}, rate="3 /s")
    run = simulate(scenario)
    part = run.summary["deployments"]["d"]
    assert list(part["pools"]) == ["decode", "prefill", "encode"]
    assert part["gpus"] == 4
    assert part["pools"]["encode"]["gpu_power_w"] > 90.0
    assert "kv_use" not in part["pools"]["encode"]["utilisation"]
    assert "d/encode.kv_use" not in run.timeseries
    assert run.timeseries["kv_use"].to_numpy() == pytest.approx(
        (run.timeseries["d.kv_use"] + run.timeseries["d/prefill.kv_use"]).to_numpy() / 2
    )
    text = list(lines("small", run.summary, run.record))
    at = text.index("Pools")
    assert [line.split()[0] for line in text[at + 2 : at + 5]] == ["decode", "prefill", "encode"]
    assert any(line.startswith("  images encoded") for line in text)
    assert max(map(len, text)) <= 80
    told = check(scenario).sections["Deployment d, encoder"]
    assert told["replicas"] == "1 of 1 NVIDIA H100 SXM5 80 GB"
    assert told["images"].startswith("up to 8 a step: 116.")  # 8,192 tokens of vLLM's steps
    assert told["image link"] == "images, 10.00 GB/s: 32.8 MB of an image in 3.28 ms alone"


# Conservation: whatever fails and whoever gives up.


def test_a_failed_encoder_has_its_images_encoded_elsewhere() -> None:
    def strike(what: str) -> Any:
        strikes = [{"at": "2 s", "what": f"rack-0/server-0/{what}", "lasts": "600 s"}]
        return simulate(
            encoding({"replicas": 2}, rate="60 /s", failures={"schedule": strikes}), debug=True
        )

    run = strike("gpu-1")  # the second of the encoders' GPUs, behind the one that decodes
    again = run.requests[run.requests["retries"] > 0]
    assert run.summary["requests_completed"] == len(run.requests)
    assert 0 < len(again) < 40
    assert set(again["encode_replica"]) == {1}
    assert again["encoding_ms"].notna().all()
    assert run.summary["outages"]["gpu"]["replicas_stopped"] == 1


@st.composite
def troubled(draw: st.DrawFn) -> Scenario:
    gpus = st.integers(0, 5).map(lambda n: f"rack-0/server-0/gpu-{n}")
    strikes = [
        {"at": f"{draw(st.floats(0.1, 4.0))!r} s", "what": draw(gpus), "lasts": "1 s"}
        for _ in range(draw(st.integers(0, 3)))
    ]
    own: dict[str, Any] = {"failures": {"schedule": strikes}} if strikes else {}
    if draw(st.booleans()):
        own["prefill"] = {"replicas": 2, "kv_link": "images", "overlap": draw(st.booleans())}
    if draw(st.booleans()):
        own["timeout"] = draw(st.sampled_from(["100 ms", "300 ms", "2 s"]))
    engine = {"max_queue": draw(st.none() | st.integers(1, 3)), "max_num_seqs": 4}
    return encoding(
        {
            "replicas": draw(st.integers(1, 2)),
            "max_batch": draw(st.none() | st.integers(1, 3)),
            "router": draw(st.sampled_from(["round-robin", "least-outstanding"])),
        },
        {"share": draw(st.sampled_from([0.5, 1.0])), "count": {"uniform": {"low": 1, "high": 4}}},
        {"bandwidth": draw(st.sampled_from(["200 MB/s", "10 GB/s"]))},
        seed=draw(st.integers(0, 1000)),
        duration="4 s",
        replicas=2,
        rate=draw(st.sampled_from(["10 /s", "40 /s"])),
        engine={} if "prefill" in own else engine,
        **own,
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(troubled())
def test_nothing_is_lost_between_the_pools(scenario: Scenario) -> None:
    run = simulate(scenario, debug=True)
    summary, requests = run.summary, run.requests
    assert requests["request_id"].tolist() == list(range(len(requests)))
    assert summary["requests_unfinished"] == 0
    assert len(requests) == summary["requests_completed"] + summary["requests_failed"]
    for pool in summary["deployments"]["d"]["pools"].values():
        assert sum(pool["time_lost"].values()) == pytest.approx(1.0, rel=1e-9)
        assert min(pool["time_lost"].values()) >= 0.0
    little = summary["littles_law"]
    if little["arrival_rate_per_s"]:
        served_s = little["arrival_rate_per_s"] * little["time_in_system_s"]
        assert little["requests_in_system"] == pytest.approx(served_s, rel=1e-6)
    completed = requests[requests["outcome"] == "completed"]
    assert (completed["encoding_ms"].notna() == (completed["images"] > 0)).all()
    factory = Factory(lay_out(scenario), debug=True)
    factory.env.run(until=600.0)
    for gateway in factory.gateways.values():
        assert not any(gateway.outstanding)
        assert not gateway.inside
        assert not gateway.stranded
        assert not getattr(gateway, "transit", None)
        assert not getattr(gateway, "early", None)
        assert not getattr(gateway, "kept", None)
        assert not getattr(gateway, "_since_s", None)
        assert not getattr(gateway, "_encoding", 0)
    front = factory.fronts["d"]
    assert len(front.rows) // front.row_bytes == len(requests)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (simulate(encoding(rate="30 /s", seed=5)) for _ in range(2))
    assert first.requests.equals(second.requests)
    assert first.timeseries.equals(second.timeseries)


# What is refused.


@pytest.mark.parametrize(
    ("encoder", "more", "told"),
    [
        ({"link": "nvlink"}, {}, r"d\.encoder\.link: there is no link 'nvlink'; known: images"),
        ({"link": "fabric"}, {}, r"d\.encoder\.link: embeddings of images have nothing to cross"),
        ({"max_batch": 0}, {}, r"d\.encoder\.max_batch: must be greater than 0"),
        ({"max_batch": 9999}, {}, r"9999 images in a step do not fit: .* GB more than"),
        ({"system": "gb200-nvl72"}, {}, r"d\.encoder\.system: no rack holds 'gb200-nvl72'"),
        ({"replicas": 9}, {}, r"d\.encoder\.replicas: 9 replicas of 1 GPUs need 9 GPUs"),
        ({"router": "sticky"}, {}, "encoders keep nothing; take least-outstanding"),
        ({"replicas": "fill"}, {"replicas": "fill"}, "the replicas and the encoders cannot both"),
        (
            {"replicas": "fill"},
            {"prefill": {"replicas": "fill", "kv_link": "images"}},
            "those of 'prefill' and the encoders cannot both",
        ),
        ({}, {"replicas": {"simulate": 1}}, "with 'encoder' every replica is simulated"),
        (
            {},
            {"replicas": 4, "autoscaling": {"policy": "reactive", "outstanding": 4}},
            "a pool beside 'encoder' is not scaled yet",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    encoder: dict[str, Any], more: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        lay_out(encoding(encoder, **more))


def test_encoders_without_images_are_refused() -> None:
    given = encoding().model_dump(mode="json", by_alias=True, exclude_none=True)
    del given["workload"]["w"]["images"]
    with pytest.raises(InputError, match=r"d\.encoder: no workload sends images to d"):
        lay_out(validate(Scenario, given))
    given = encoding().model_dump(mode="json", by_alias=True, exclude_none=True)
    given["deployments"]["d"]["model"] = "llama-3.1-8b"
    with pytest.raises(InputError, match=r"knows no vision encoder of llama-3\.1-8b"):
        lay_out(validate(Scenario, given))


def test_what_sees_not_may_draft() -> None:
    """What does not go together with images in the model's own steps does beside encoders."""
    drafts = {"num_speculative_tokens": 2, "acceptance": 0.5, "draft": "ngram"}
    run = simulate(encoding(engine={"speculation": drafts}), debug=True)
    assert run.summary["requests_completed"] == len(run.requests)
    assert run.summary["speculation"]["draft_tokens"] > 0


@pytest.mark.slow
def test_the_shipped_scenario_shortens_gaps() -> None:
    short = ["duration=40 s", "warmup=10 s"]
    apart = fs.simulate(fs.load("configs/encoder.yaml", short))
    whole = [*short, "deployments.chat.encoder=null", "network=null"]
    together = fs.simulate(fs.load("configs/encoder.yaml", whole))
    gaps = [run.summary["itl_ms"]["p99"] for run in (apart, together)]
    assert gaps[0] < gaps[1] - 10.0
    assert np.isclose(
        apart.summary["output_tokens_per_s"], together.summary["output_tokens_per_s"], rtol=0.02
    )
