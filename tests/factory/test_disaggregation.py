"""Prompts computed in one pool, answers decoded in another: exact logs, step by step.

A step takes a second, and the link carries the KV cache of one token a second, unless a test says
otherwise.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest

from factory_sim.factory.disaggregation import Crossing, DecodeGateway, PromptGateway
from factory_sim.factory.engine.batching import BATCHING
from factory_sim.factory.engine.joining_batch import Joining, JoiningBatch
from factory_sim.factory.engine.kv import KvBlocks
from factory_sim.factory.engine.prefix_cache import Hashes
from factory_sim.factory.engine.prompt_batch import PromptBatch
from factory_sim.factory.engine.request import Request
from factory_sim.factory.gateway import OUTCOMES
from factory_sim.factory.layerwise import LayerwiseGateway, LayerwiseReplica
from factory_sim.factory.linked_replica import LinkedReplica
from factory_sim.factory.network.kv import KvOverLink
from factory_sim.factory.network.link import Link
from factory_sim.factory.routing import ROUTING
from factory_sim.factory.timetable import ARRIVAL, Timetable
from factory_sim.metrics.gaps import GapHistogram
from tests.factory.test_replica import one_second

Row = tuple[int, str, float, float, float]
NONE = -1.0


class Service(NamedTuple):
    """Both gateways and the link between them."""

    front: PromptGateway
    decodes: DecodeGateway
    link: Link
    gaps: GapHistogram

    def send(self, number: int, at: float, prompt: int, output: int, **more: Any) -> Request:
        request = Request(number, at, prompt, output, **more)
        self.front.env.call(at, ARRIVAL, lambda _: self.front.arrive(request))
        return request

    def rows(self) -> list[Row]:
        """Return (number, outcome, first token, transfer, end) of all who left, in that order."""
        self.front.close()
        self.decodes.close()
        return [
            (
                int(row["number"]),
                OUTCOMES[row["outcome"]],
                *(NONE if math.isnan(row[name]) else float(row[name]) for name in TIMES),
            )
            for row in self.front.table()
        ]

    def at_rest(self) -> bool:
        """Tell whether nothing is left anywhere."""
        replicas = [*self.front.replicas, *self.decodes.replicas]
        return (
            all(r.batch.kv.free == r.batch.kv.total and not r.batch.running for r in replicas)
            and not any(self.front.outstanding + self.decodes.outstanding)
            and not self.decodes.transit
            and not self.front.inside
        )


TIMES = ("first_token_s", "transfer_s", "end_s")


def serving(
    env: Timetable,
    prompts: int = 1,
    decodes: int = 1,
    blocks: int = 100,
    decode_blocks: int = 100,
    tokens_per_s: float = 1.0,
    latency_s: float = 0.0,
    per_replica: float = math.inf,
    withholds: bool = False,
    policy: str = "chunked",
    budget: int = 8,
    slots: int = 4,
    layers: int = 0,
) -> Service:
    """Return a pool of replicas that compute prompts and one of those that decode.

    layers: of which KV caches cross one by one (0: whole, after the prompt).
    """
    link, gaps = Link(env, "kv", tokens_per_s, latency_s), GapHistogram()
    crossing = Crossing(KvOverLink(link, "d", per_replica), float, withholds)
    router = ROUTING["least-outstanding"]
    given: Any = (env, router(None), 0.0)  # type: ignore[arg-type]
    behind = DecodeGateway(*given, crossing)
    if layers:
        behind = LayerwiseGateway(*given, crossing, layers=layers)
    front = PromptGateway(*given, behind)
    for number in range(decodes):
        joining = JoiningBatch(
            Joining(BATCHING[policy](budget)),
            *one_second(1.0),
            KvBlocks(decode_blocks, 4),
            slots,
            math.inf,
            gaps,
        )
        replica = LinkedReplica(env, number, [0], joining, one_second, behind.leave, True)
        behind.adopt(replica)
    for number in range(prompts):
        batch = PromptBatch(
            BATCHING["chunked"](budget),
            *one_second(1.0),
            KvBlocks(blocks, 4),
            slots,
            math.inf,
            GapHistogram(),
            longest=400,
            most_prompt=400,
        )
        made: Any = (env, number, [0], batch, one_second, front.leave, True)
        if isinstance(behind, LayerwiseGateway):
            front.adopt(LayerwiseReplica(*made, computing=behind.computing))
        else:
            front.adopt(LinkedReplica(*made))
    return Service(front, behind, link, gaps)


def fail(service: Service, at: float, pool: str, number: int, back: float | None = None) -> None:
    """Let a replica fail at a time, and be back later, as `Outages` does."""
    gateway = service.front if pool == "prompts" else service.decodes
    replica, env = gateway.replicas[number], service.front.env

    def strike(_: object) -> None:
        gateway.resend(number, gateway.fail(replica, False))

    env.timeout(at).callbacks.append(strike)
    if back is not None:
        env.timeout(back).callbacks.append(lambda _: replica.serve())


def test_a_request_crosses_and_goes_on(env: Timetable) -> None:
    service = serving(env, latency_s=0.5)
    service.send(0, at=0.0, prompt=4, output=3)
    env.run()
    # A step for the prompt, 4 s on the link and half a second more, two steps.
    assert service.rows() == [(0, "completed", 1.0, 4.5, 7.5)]
    assert service.at_rest()
    assert service.gaps.count == 2
    assert service.gaps.mean_s() == pytest.approx((5.5 + 1.0) / 2)


def test_one_token_is_made_where_the_prompt_is(env: Timetable) -> None:
    service = serving(env)
    service.send(0, at=0.0, prompt=20, output=1)
    env.run()
    assert service.rows() == [(0, "completed", 3.0, NONE, 3.0)]  # chunks of 8, 8 and 4
    assert service.link.carried_bytes() == 0.0


def test_two_share_the_link(env: Timetable) -> None:
    service = serving(env)
    service.send(0, at=0.0, prompt=4, output=2)
    service.send(1, at=0.5, prompt=4, output=3)
    env.run()
    # 0 crosses alone from 1 to 2, both from 2 on: 0 has 3 tokens left and ends at 8, 1 then has
    # one left and ends at 9. 0 makes its second token by 9, and 1 its own at 10 and 11.
    assert service.rows() == [(0, "completed", 1.0, 7.0, 9.0), (1, "completed", 2.0, 7.0, 11.0)]


def test_a_replica_sends_no_more_than_it_can(env: Timetable) -> None:
    service = serving(env, prompts=2, tokens_per_s=4.0, per_replica=1.0)
    service.send(0, at=0.0, prompt=4, output=2)
    service.send(1, at=0.0, prompt=4, output=2)  # on the other replica
    service.send(2, at=0.0, prompt=4, output=2)  # on the first, in the same step as 0
    env.run()
    # 0 and 2 share what their replica can send; 1 has its own.
    assert sorted(row[:4] for row in service.rows()) == [
        (0, "completed", 1.0, 8.0),
        (1, "completed", 1.0, 4.0),
        (2, "completed", 1.0, 8.0),
    ]


def test_the_first_token_may_be_sent_by_who_decodes(env: Timetable) -> None:
    service = serving(env, withholds=True, slots=1)
    service.send(0, at=0.0, prompt=4, output=3)
    service.send(1, at=1.0, prompt=2, output=2)
    env.run()
    # 0 crosses alone from 1 to 2; 1 lands at 6, 0 at 7, when the slot is free; the
    # transfer is before the first token, and between tokens lies a step.
    assert service.rows() == [(1, "completed", 6.0, 4.0, 7.0), (0, "completed", 7.0, 6.0, 9.0)]
    assert service.gaps.mean_s() == pytest.approx(1.0)


def test_prompts_wait_for_blocks_that_are_still_to_be_sent(env: Timetable) -> None:
    service = serving(env, blocks=3)
    service.send(0, at=0.0, prompt=8, output=2)
    service.send(1, at=0.0, prompt=8, output=2)
    env.run()
    # The second prompt begins at 9, when the first has crossed.
    assert service.rows() == [(0, "completed", 1.0, 8.0, 10.0), (1, "completed", 10.0, 8.0, 19.0)]
    assert service.at_rest()
    totals = service.front.replicas[0].totals()
    assert (totals.busy_s, totals.transfer_s) == (2.0, pytest.approx(8.0, abs=1e-8))
    totals = service.decodes.replicas[0].totals()
    assert (totals.busy_s, totals.transfer_s) == (2.0, pytest.approx(16.0, abs=1e-8))


def test_what_a_cache_held_of_a_prompt_is_not_found_where_it_is_decoded(env: Timetable) -> None:
    """Who is preempted there computes all of its prompt again, whatever was found of it before."""
    left = []
    for cached in (0, 4):
        begin_s = env.now
        service = serving(env, decode_blocks=5, tokens_per_s=1e9)
        service.send(0, at=begin_s, prompt=4, output=12)
        known = {"cached": cached, "hashes": Hashes((7,), 2)}
        victim = service.send(1, at=begin_s + 1.0, prompt=8, output=8, **known)
        env.run()
        assert (victim.preemptions, victim.hit) == (1, cached)
        assert service.at_rest()
        (batch,) = [replica.batch for replica in service.decodes.replicas]
        ends_s = [end_s - begin_s for _, _, _, _, end_s in service.rows()]
        left.append([batch.recomputed_tokens, *ends_s])
    assert left[0] == pytest.approx(left[1], abs=1e-6)


def test_who_waits_for_blocks_may_give_up(env: Timetable) -> None:
    service = serving(env, blocks=3)
    service.send(0, at=0.0, prompt=8, output=2)
    service.send(1, at=0.0, prompt=8, output=2, due_s=4.25)
    service.send(2, at=0.0, prompt=4, output=1)
    env.run()
    # 2 stood behind 1 and has room as soon as that is gone.
    assert service.rows() == [
        (1, "timed_out", NONE, NONE, 4.25),
        (2, "completed", 5.25, NONE, 5.25),
        (0, "completed", 1.0, 8.0, 10.0),
    ]


def test_a_client_may_give_up_during_the_transfer(env: Timetable) -> None:
    service = serving(env)
    service.send(0, at=0.0, prompt=4, output=2, due_s=3.0)
    service.send(1, at=0.0, prompt=4, output=2)
    env.run()
    # Each has 3 tokens left at 3; then 1 has the link alone.
    assert service.rows() == [(0, "timed_out", 1.0, NONE, 3.0), (1, "completed", 1.0, 5.0, 7.0)]
    assert service.at_rest()


def test_a_client_may_give_up_in_the_latency_of_the_link(env: Timetable) -> None:
    service = serving(env, latency_s=2.0)
    service.send(0, at=0.0, prompt=4, output=2, due_s=6.0)
    env.run()
    assert service.rows() == [(0, "timed_out", 1.0, NONE, 6.0)]
    assert service.at_rest()


def test_a_replica_that_decodes_is_lost_during_the_transfer(env: Timetable) -> None:
    service = serving(env, decodes=2)
    service.send(0, at=0.0, prompt=4, output=3)
    service.send(1, at=10.0, prompt=4, output=2)
    fail(service, 3.0, "decodes", 0)
    env.run(until=30.0)
    # It begins again at 3, and crosses to the other from 4 to 8.
    assert service.rows() == [(0, "completed", 4.0, 4.0, 10.0), (1, "completed", 11.0, 4.0, 16.0)]
    assert service.front.table()["retries"].tolist() == [1, 0]
    assert service.front.table()["replica"].tolist() == [1, 1]
    assert service.front.replicas[0].batch.lost_tokens == 1


def test_a_replica_that_computes_prompts_is_lost_during_the_transfer(env: Timetable) -> None:
    service = serving(env, prompts=2)
    service.send(0, at=0.0, prompt=4, output=3)
    fail(service, 3.0, "prompts", 0)
    env.run(until=30.0)
    assert service.rows() == [(0, "completed", 4.0, 4.0, 10.0)]
    table = service.front.table()
    assert (table["retries"].tolist(), table["prefill_replica"].tolist()) == ([1], [1])
    assert service.decodes.outstanding == [0]


def test_a_replica_that_decodes_is_lost_with_what_it_made(env: Timetable) -> None:
    service = serving(env)
    service.send(0, at=0.0, prompt=4, output=3)
    service.send(1, at=0.0, prompt=4, output=3)  # both cross from 1 to 9
    fail(service, 10.5, "decodes", 0, back=20.0)
    env.run()
    # Both are computed again by 11.5 (in the step that begins at 10.5), and wait for somebody to
    # take them from 11.5 to 20; they cross by 28.
    assert service.rows() == [
        (0, "completed", 11.5, 16.5, 30.0),
        (1, "completed", 11.5, 16.5, 30.0),
    ]
    assert service.decodes.replicas[0].batch.lost_tokens == 4
    assert service.at_rest()


def test_both_ends_of_a_transfer_may_fail_at_once(env: Timetable) -> None:
    service = serving(env)
    service.send(0, at=0.0, prompt=4, output=2)
    fail(service, 3.0, "prompts", 0, back=5.0)
    fail(service, 3.0, "decodes", 0, back=7.0)
    env.run()
    assert service.rows() == [(0, "completed", 6.0, 5.0, 12.0)]
    assert service.at_rest()


def test_who_gives_up_while_held_back_takes_its_gap_along(env: Timetable) -> None:
    service = serving(env, policy="continuous", decodes=1, budget=100)
    decoding = service.decodes.replicas[0]
    service.send(0, at=0.0, prompt=4, output=3, due_s=5.5)  # lands at 5
    # One that was preempted would be computed again: a prompt beside those that join.
    again = Request(9, 0.0, 4, 3)
    env.call(5.0, ARRIVAL, lambda _: decoding.submit(again))
    service.decodes.outstanding[0] += 1
    service.front.inside += 1
    again.prefill_replica = 0
    env.run()
    # 0 joins at 5 but waits while 9 is computed, gives up at 6, and has no second token; 9 makes
    # its own at 6, 7 and 8.
    assert [row[:2] for row in service.rows()] == [(0, "timed_out"), (9, "completed")]
    assert (service.gaps.count, service.gaps.mean_s()) == (2, 1.0)


def test_unfinished_requests_are_counted_wherever_they_are(env: Timetable) -> None:
    service = serving(env, slots=1)
    for number, at in enumerate((0.0, 1.0, 2.0, 20.0)):
        service.send(number, at=at, prompt=2, output=5)
    env.run(until=6.25)
    rows = service.rows()
    assert sorted(row[0] for row in rows) == [0, 1, 2]
    assert {row[1] for row in rows} == {"unfinished"}
