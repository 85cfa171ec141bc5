"""The prefix cache: what is held, what is forgotten first, and what that does to a replica."""

from __future__ import annotations

import math
from functools import partial

from factory_sim.factory.engine.batching import BATCHING
from factory_sim.factory.engine.kv import KvBlocks
from factory_sim.factory.engine.prefix_batch import PrefixBatch
from factory_sim.factory.engine.prefix_cache import Hashes, PrefixCache
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.tiered_cache import TieredCache
from factory_sim.factory.replica import Replica
from factory_sim.factory.timetable import ARRIVAL, Timetable
from factory_sim.metrics.gaps import GapHistogram
from tests.factory.side_by_side import Case, EngineRun, engine, reference
from tests.factory.test_exactness import assert_same_requests, speed_of
from tests.reference import ReferenceRequest


def served(cache: PrefixCache, keys: tuple[int, ...], each: int = 2) -> int:
    """Serve one prompt of whole keys, alone; return the blocks found of it."""
    hashes = Hashes(keys, each)
    found, _ = cache.find(hashes)
    held = cache.extend(hashes, cache.hold(hashes), each * len(keys))
    assert cache.release(hashes, held) == 0
    return found


def test_the_least_recently_used_goes_first_and_the_tail_before_the_head() -> None:
    cache = PrefixCache()
    log = [served(cache, keys) for keys in [(1, 2, 3), (7, 8), (1, 2)]]
    assert (log, cache.idle) == ([0, 0, 4], 10)
    left = []
    for free in range(9, -1, -1):
        cache.forget_to(free)
        left.append([cache.find(Hashes(keys, 2))[0] for keys in [(1, 2, 3), (7, 8)]])
    # 3 was used last by the first prompt; 8 and 7 by the second; 2 and 1 by the third.
    assert left == [
        [5, 4], [4, 4], [4, 3], [4, 2], [4, 1], [4, 0], [3, 0], [2, 0], [1, 0], [0, 0]
    ]  # fmt: skip


def test_what_is_in_use_is_not_forgotten_and_is_counted_once() -> None:
    cache = PrefixCache()
    one, two = Hashes((1, 2), 4), Hashes((1, 3), 4)
    first = cache.extend(one, 0, 8)
    second = cache.hold(two)
    assert (first, second, cache.find(two)) == (2, 1, (4, 4))
    second = cache.extend(two, second, 6)  # half of its second key
    assert cache.find(two) == (6, 6)
    assert cache.release(one, first) == 4  # key 1 is still in use
    assert cache.idle == 4
    cache.forget_to(0)
    assert (cache.find(one), cache.find(two)) == ((4, 4), (6, 6))
    assert cache.release(two, second) == 0
    assert cache.idle == 6


def test_tiers_go_from_the_nearest_to_the_last_by_what_came_there_the_longest_ago() -> None:
    """Nine blocks in tiers of two and three, taken from the GPUs one at a time."""
    cache = TieredCache([2, 3])
    for keys in [(1, 2), (7,), (5,)]:
        served(cache, keys, each=3)
    assert cache.idle == 12
    log = []
    for free in range(11, 0, -1):
        cache.forget_to(free)
        cache.check()
        log.append(tuple(dict(shelf.kept) for shelf in cache.shelves))
    # 2 leaves the GPUs first (its prompt was the first, the tail before the head), then 1, 7 and 5.
    assert log == [
        ({2: 1}, {}),
        ({2: 2}, {}),
        ({2: 2}, {2: 1}),
        ({2: 1, 1: 1}, {2: 2}),
        ({1: 2}, {2: 3}),
        ({1: 2}, {2: 2, 1: 1}),
        ({1: 1, 7: 1}, {2: 1, 1: 2}),
        ({7: 2}, {1: 3}),
        ({7: 2}, {1: 2, 7: 1}),
        ({7: 1, 5: 1}, {1: 1, 7: 2}),
        ({5: 2}, {7: 3}),
    ]
    # 5 has its first block on the GPUs still; all of 7 comes back, from the last tier.
    assert [cache.find(Hashes((key,), 3)) for key in (1, 2, 5, 7)] == [
        (0, 0),
        (0, 0),
        (3, 0),
        (3, 0),
    ]
    cache.hold(Hashes((7,), 3))
    assert (cache.loaded, [shelf.held for shelf in cache.shelves]) == ([0, 3], [2, 0])
    cache.hold(Hashes((5,), 3))
    assert (cache.loaded, [shelf.held for shelf in cache.shelves]) == ([2, 0], [0, 0])
    cache.check()


def test_a_session_of_which_nothing_is_left_is_forgotten_too() -> None:
    cache = TieredCache([2])
    said, other = Hashes((1,), 1000, forgets=True), Hashes((2,), 1000)
    held = cache.extend(said, 0, 3)
    cache.cut(said, 0)  # a prompt shorter than a block: it goes on without its reasoning
    cache.release(said, held)
    cache.release(other, cache.extend(other, 0, 4))
    cache.forget_to(1)
    cache.check()
    assert cache.idle == 1
    assert [cache.find(each)[0] for each in (said, other)] == [0, 3]


def hits(*requests: ReferenceRequest, blocks: int) -> tuple[list[int], EngineRun]:
    """Serve requests with one token a block and 10 ms a step; return the tokens found of each."""
    case = Case(requests, partial(speed_of, "constant"), blocks=blocks, block_tokens=1)
    slow, fast = reference(case), engine(case)
    assert_same_requests(slow, fast)
    return [request.hit for request in fast.requests], fast


LEFT_OVER = (
    ReferenceRequest(0.0, 1, 1, hashes=(9,)),
    ReferenceRequest(0.01, 2, 1, hashes=(1, 2)),
    ReferenceRequest(0.02, 1, 6),  # takes a block a step from 30 ms on
)


def test_blocks_that_decoding_takes_are_forgotten_before_a_prompt_looks() -> None:
    # At 70 ms there are 3 free blocks, which hold 9, 2 and 1; the step then takes one of them.
    late = ReferenceRequest(0.07, 2, 1, hashes=(9,))
    early = ReferenceRequest(0.06, 2, 1, hashes=(9,))
    assert hits(*LEFT_OVER, late, blocks=8)[0] == [0, 0, 0, 0]
    assert hits(*LEFT_OVER, early, blocks=8)[0] == [0, 0, 0, 1]


def test_what_a_short_answer_took_and_gave_back_is_forgotten() -> None:
    # From 50 ms on 3 blocks are taken for 10 ms, which leaves one free block, and thus key 1.
    for key, found in ((1, 1), (9, 0)):
        passing = ReferenceRequest(0.05, 3, 1)
        after = ReferenceRequest(0.06, 2, 1, hashes=(key,))
        assert hits(*LEFT_OVER, passing, after, blocks=8)[0] == [0, 0, 0, 0, found]


def test_prompts_of_one_step_share_what_the_step_computes() -> None:
    alike = [ReferenceRequest(0.0, 33, 3, hashes=(1, 2, 3, 4), hash_blocks=8)] * 2
    found, run = hits(*alike, blocks=100)
    assert found == [0, 32]
    assert run.requests[0].first_token_s == run.requests[1].first_token_s == 0.01


def test_the_last_prompt_token_is_always_computed() -> None:
    whole = [ReferenceRequest(t, 32, 1, hashes=(1, 2), hash_blocks=1) for t in (0.0, 0.1)]
    case = Case(tuple(whole), partial(speed_of, "constant"), block_tokens=16)
    assert_same_requests(reference(case), engine(case))
    assert [request.hit for request in engine(case).requests] == [0, 16]


def test_shared_blocks_let_more_sequences_run() -> None:
    alike = [ReferenceRequest(0.0, 10, 3, hashes=tuple(range(9)))] * 4
    apart = [ReferenceRequest(0.0, 10, 3, hashes=tuple(range(9 * n, 9 * n + 9))) for n in range(4)]
    for requests, seconds in ((alike, 0.03), (apart, 0.06)):
        run = hits(*requests, blocks=26)[1]  # 9 + 4 * 3, or two at a time
        assert max(request.last_token_s for request in run.requests) == seconds


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    two = [
        ReferenceRequest(0.0, 4, 8, hashes=(1, 2, 3, 4)),
        ReferenceRequest(0.0, 4, 8, hashes=(5, 6, 7, 8)),
    ]
    found, run = hits(*two, blocks=14)
    assert found == [0, 0]
    assert run.requests[1].preemptions == 1
    recomputed = run.batch.recomputed_tokens
    assert recomputed == sum(record.recomputed for record in reference_of(two, 14))
    assert 0 < recomputed < 7  # of the 7 tokens it had


def reference_of(requests: list[ReferenceRequest], blocks: int):  # type: ignore[no-untyped-def]
    case = Case(tuple(requests), partial(speed_of, "constant"), blocks=blocks, block_tokens=1)
    return reference(case)


def test_a_router_sees_what_decoding_has_taken_within_a_stretch(env: Timetable) -> None:
    batch = PrefixBatch(
        BATCHING["chunked"](64),
        *speed_of("constant", 1.0),
        KvBlocks(8, 1),
        8,
        math.inf,
        GapHistogram(),
        prefix=PrefixCache(),
    )
    replica = Replica(env, 0, [0], batch, partial(speed_of, "constant"), lambda *_: None)
    for number, asked in enumerate(LEFT_OVER):
        hashes = Hashes(asked.hashes, 1) if asked.hashes else None
        request = Request(number, asked.arrival_s, asked.prompt, asked.output, hashes=hashes)
        env.call(asked.arrival_s, ARRIVAL, lambda _, request=request: replica.submit(request))
    seen = []
    for now_s in (0.035, 0.065, 0.075, 0.1):
        env.run(until=now_s)
        seen.append([replica.found(alike) for alike in (prompt(9), prompt(1, 2), prompt(1))])
    # Five steps from 30 to 80 ms, of one stretch; the last takes the block of key 9.
    assert seen == [[1, 2, 1], [1, 2, 1], [0, 2, 1], [0, 2, 1]]


def prompt(*keys: int) -> Request:
    return Request(9, 0.0, len(keys) + 1, 1, hashes=Hashes(keys, 1))
