"""The batch of a replica in arrays: the moves of `engine.batch` and of the batching policies."""

from __future__ import annotations

from math import inf, isnan, nan
from typing import Any

from factory_sim.factory.kernel import arrays as at
from factory_sim.factory.kernel.compiled import compiled
from factory_sim.factory.kernel.lists import (
    DUE,
    LOST,
    NOBODY,
    PROMPTS,
    RUNNING,
    WAITING,
    after,
    append,
    appendleft,
    clear,
    insert_before,
    next_prompt,
    remove,
)
from factory_sim.factory.kernel.stretch import (
    INSTANT,
    book,
    cut,
    decode_steps,
    gaps,
    hold_all,
    mixed_step,
    release,
    steps_by,
    unstall,
)

STATIC, CONTINUOUS, CHUNKED = range(3)
POLICY_NUMBER = {"static": STATIC, "continuous": CONTINUOUS, "chunked": CHUNKED}


# -- the heap of who finishes when -----------------------------------------------------------


@compiled
def _before(one: Any, step: int, number: int) -> bool:
    """Tell whether one finishes before whoever finishes at `step`."""
    # Both numbers are compared whatever the first says: a processor could not guess what it says.
    return bool((one.step < step) | ((one.step == step) & (one.number < number)))


@compiled
def _rise(heap: int, place: int, step: int, number: int, q: int) -> None:
    """Put `q` at a place, or above it, where nobody above finishes later."""
    own = at.ending(heap, place)
    while place > 0:
        place = (place - 1) // 2
        above = at.ending(heap, place)
        if _before(above, step, number):
            break
        own.step, own.number, own.who = above.step, above.number, above.who
        own = above
    own.step, own.number, own.who = step, number, q


@compiled
def _push(s: Any, r: int, q: int) -> None:
    rep, request = at.replica(s, r), at.request(s, q)
    _rise(at.heap(s, r), rep.finishing, request.finish_step, request.number, q)
    rep.finishing += 1


@compiled
def _drop(s: Any, r: int, q: int) -> None:
    """Take `q` out of the heap: mostly the first, who has finished."""
    rep, heap, place = at.replica(s, r), at.heap(s, r), 0
    while at.ending(heap, place).who != q:
        place += 1
    rep.finishing -= 1
    size = rep.finishing
    last = at.ending(heap, size)
    if place == size:
        return
    while True:  # let the earlier of those below rise
        child = 2 * place + 1
        if child >= size:
            break
        below, other = at.ending(heap, child), at.ending(heap, child + 1)
        child += (child + 1 < size) & _before(other, below.step, below.number)
        below = at.ending(heap, child)
        if not _before(below, last.step, last.number):
            break
        own = at.ending(heap, place)
        own.step, own.number, own.who = below.step, below.number, below.who
        place = child
    _rise(heap, place, last.step, last.number, last.who)


# -- KV blocks: `engine.kv` ------------------------------------------------------------------
#
# Their size is mostly a power of two. Dividing by any other takes twenty times as long.


@compiled
def _full_blocks(s: Any, tokens: int) -> int:
    """Return how many blocks so many tokens fill."""
    return int(tokens >> s.block_bits if s.block_bits >= 0 else tokens // s.block_tokens)


@compiled
def _in_block(s: Any, tokens: int) -> int:
    """Return how many of so many tokens, or steps, are beyond the last full block."""
    if s.block_bits >= 0:
        return int(tokens & (s.block_tokens - 1))
    return int(tokens % s.block_tokens)


@compiled
def _blocks(s: Any, tokens: int) -> int:
    """Return the blocks that so many tokens take."""
    return _full_blocks(s, tokens + s.block_tokens - 1)


@compiled
def spare(s: Any, r: int) -> int:
    """Return tokens that free blocks can take, at least, when all who decode have taken one more.

    Below zero it says nothing. A sequence that needs no block yet has room for fewer tokens than a
    block in its last one: to count this room as free, and a block for each sequence as taken, never
    promises too much.
    """
    rep = at.replica(s, r)
    return int(s.kv_tokens - rep.kept - rep.context - rep.decoding * s.block_tokens)


@compiled
def free(s: Any, r: int) -> int:
    """Return the free blocks: `KvBlocks.free`.

    The blocks of those who decode are not counted as they take them, but from their tokens, and
    the room left in the last block of each. To ask is rare: mostly `spare` is enough.
    """
    rep, size, due = at.replica(s, r), s.block_tokens, at.due(s, r)
    first, room = _in_block(s, rep.step), 0
    for place in range(size):
        ahead = place - first
        room += due[place] * (ahead + size if ahead < 0 else ahead)
    return _full_blocks(s, s.kv_tokens - rep.kept - rep.context - room)


@compiled
def _need(s: Any, r: int) -> int:
    """Return the blocks that those who decode take in the next step: `KvBlocks.need`."""
    return int(at.due(s, r)[_in_block(s, at.replica(s, r).step)])


@compiled
def steps_that_fit(s: Any, r: int, growing: int) -> int:
    """Return how many steps the free blocks allow: `KvBlocks.steps_that_fit`."""
    size, rep = s.block_tokens, at.replica(s, r)
    blocks = free(s, r)
    cycles, left = blocks // growing, blocks % growing
    steps = cycles * size
    while True:
        left -= at.due(s, r)[_in_block(s, rep.step + steps)]
        if left < 0:
            return int(steps)
        steps += 1


# -- arrivals and departures -----------------------------------------------------------------


@compiled
def enter_due(s: Any, row: int, q: int) -> None:
    """Note when a client gives up; the list is in the order of time, then of number."""
    request = at.request(s, q)
    other = at.ends(s, row, DUE).last
    later = NOBODY
    while other != NOBODY:
        before = at.request(s, other)
        if before.due_s < request.due_s or (
            before.due_s == request.due_s and before.number < request.number
        ):
            break
        later = other
        other = at.link(s, other, 2).before
    if later == NOBODY:
        append(s, row, DUE, q)
    else:
        insert_before(s, row, DUE, q, later)


@compiled
def enqueue(s: Any, r: int, q: int) -> bool:
    """Queue a request unless the queue is full or it is too long: `Batch.enqueue`."""
    rep, request = at.replica(s, r), at.request(s, q)
    if rep.waiting >= s.max_waiting:
        return False
    if request.prompt + request.output > s.longest:
        return False
    append(s, r, WAITING, q)
    rep.waiting += 1
    if request.due_s != inf:
        enter_due(s, r, q)
    return True


@compiled
def joins(s: Any, r: int) -> bool:
    """Tell whether the request just queued may join before the stretch ends: `Batch.joins`."""
    rep = at.replica(s, r)
    return bool(
        rep.chunks == 0
        and rep.waiting == 1
        and rep.running < rep.max_running
        and (s.batching != STATIC or rep.running == 0)
    )


@compiled
def stored(rep: Any, request: Any, ahead: int) -> int:
    """Return the tokens that a decoding request has in the KV cache: `Batch._stored`."""
    return int(request.prompt + request.output - (request.finish_step - rep.step - ahead) - 1)


@compiled
def leave(s: Any, r: int, q: int) -> int:
    """Take a request, already out of the running, out of every count: `Batch._leave`."""
    rep, request = at.replica(s, r), at.request(s, q)
    if request.left > 0:
        remove(s, r, PROMPTS, q)
        rep.prefilling -= 1
        rep.kept -= request.kept
        request.left = 0
        return int(request.stored)
    tokens = stored(rep, request, 0)
    request.emitted = tokens - request.prompt + 1
    _drop(s, r, q)
    if tokens > request.stored:
        request.last_token_s = rep.decoded_s
    if rep.stalls > 0:
        unstall(s, r, request.last_token_s)
    at.due(s, r)[_in_block(s, rep.step - tokens)] -= 1
    rep.decoding -= 1
    rep.context -= tokens
    request.finish_step = -1
    return tokens


@compiled
def stop_running(s: Any, r: int, q: int) -> None:
    """Take a request out of the running."""
    remove(s, r, RUNNING, q)
    at.replica(s, r).running -= 1
    at.request(s, q).runs = 0


@compiled
def admit(s: Any, r: int, most: int) -> int:
    """Admit the head of the queue, if there is room, and return it: `Batch.admit`.

    most: only if no more tokens than this are to be computed; negative: however many.
    """
    rep = at.replica(s, r)
    q = at.ends(s, r, WAITING).first
    if q == NOBODY:
        return NOBODY
    request = at.request(s, q)
    if s.ahead > 0 and request.queued_s > rep.in_time_s:
        return NOBODY
    if rep.running >= rep.max_running:
        return NOBODY
    target = request.prompt + request.emitted
    hit = 0
    if request.cached > 0:
        hit = _full_blocks(s, min(request.cached, target - 1)) * s.block_tokens
    if most >= 0 and target - hit > most:
        return NOBODY
    blocks, growing = _blocks(s, target), rep.growing
    kept = blocks * s.block_tokens
    if kept > spare(s, r) and blocks > free(s, r) - (_need(s, r) if growing > 0 else 0):
        rep.kv_blocked = 1
        return NOBODY
    remove(s, r, WAITING, q)
    rep.waiting -= 1
    rep.kept += kept
    request.kept = kept
    request.hit = hit
    request.stored = hit
    request.left = target - hit
    if isnan(request.admitted_s):
        request.admitted_s = rep.start_s
    append(s, r, RUNNING, q)
    rep.running += 1
    request.runs = 1
    append(s, r, PROMPTS, q)
    rep.prefilling += 1
    return int(q)


@compiled
def prefill(s: Any, r: int, q: int, budget: int) -> int:
    """Give a prompt up to `budget` tokens of the next step: `Batch.prefill`.

    Chunks go to prompts in their order, so that the first so many are those with a chunk.
    """
    rep, request = at.replica(s, r), at.request(s, q)
    length = min(request.left, budget)
    request.chunk = length
    rep.chunks += 1
    rep.chunk_tokens += length
    if length == request.left:
        rep.completing += 1
    return int(length)


@compiled
def make_room(s: Any, r: int) -> None:
    """Preempt, last come first, until everybody has a block: `Batch.make_room`."""
    rep = at.replica(s, r)
    while spare(s, r) < 0 and _need(s, r) > free(s, r):
        q = at.ends(s, r, RUNNING).last
        stop_running(s, r, q)
        tokens = leave(s, r, q)
        request = at.request(s, q)
        rep.recomputed_tokens += tokens - request.hit
        request.preemptions += 1
        appendleft(s, r, WAITING, q)
        rep.waiting += 1
        rep.kv_blocked = 1
    rep.growing = rep.decoding


@compiled
def fill(s: Any, r: int) -> None:
    """Choose the prompt chunks of the next step: the policies of `engine.batching`."""
    rep = at.replica(s, r)
    if s.batching == CHUNKED:
        make_room(s, r)
        budget = s.max_tokens - rep.decoding
        q = at.ends(s, r, PROMPTS).first
        while q != NOBODY:
            if budget <= 0:
                return
            budget -= prefill(s, r, q, budget)
            q = next_prompt(s, q)
        while budget > 0:
            q = admit(s, r, -1)
            if q == NOBODY:
                return
            budget -= prefill(s, r, q, budget)
    elif s.batching == CONTINUOUS:
        budget = s.max_tokens
        while budget > 0:
            q = admit(s, r, budget if rep.chunks > 0 else -1)
            if q == NOBODY:
                break
            budget -= prefill(s, r, q, at.request(s, q).left)
        if rep.chunks > 0:
            rep.decodes = 0
        else:
            make_room(s, r)
    elif rep.running > 0:
        make_room(s, r)
    else:
        while True:
            q = admit(s, r, -1)
            if q == NOBODY:
                break
            prefill(s, r, q, at.request(s, q).left)


@compiled
def plan(s: Any, r: int, now: float) -> bool:
    """Plan the next stretch; False when there is nothing to do: `Batch.plan`, `AsyncBatch.plan`."""
    rep = at.replica(s, r)
    rep.in_time_s = inf
    if s.ahead > 0 and rep.waiting > 0 and rep.running > 0:
        last_start_s = rep.end_s - (rep.first_s + rep.growth_s * (rep.steps - 1))
        rep.in_time_s = last_start_s + INSTANT
    rep.start_s = now
    rep.kv_blocked = 0
    rep.chunks = rep.chunk_tokens = 0
    rep.completing = 0
    rep.decodes = 1
    if rep.waiting > 0 or rep.prefilling > 0:
        rep.growing = 0
        fill(s, r)
    else:
        make_room(s, r)
    n = rep.decoding
    if rep.chunks > 0:
        taking = n if rep.decodes else 0
        context = float(rep.context + n) if taking else 0.0
        mixed_step(s, r, taking, context, taking + rep.completing)
    elif n > 0:
        steps = at.ending(at.heap(s, r), 0).step - rep.step
        if n * steps > spare(s, r):  # they might not fit
            steps = min(steps, steps_that_fit(s, r, n))
        decode_steps(s, r, steps, n, rep.context + n)
        due = at.ends(s, r, DUE).first
        if due != NOBODY:
            cut(rep, at.request(s, due).due_s, 0)
    else:
        return False
    head = at.ends(s, r, WAITING).first
    if (
        head != NOBODY
        and at.request(s, head).queued_s > rep.in_time_s
        and rep.running < rep.max_running
        and s.batching != STATIC
    ):
        cut(rep, now, 0)
    return True


@compiled
def advance(s: Any, r: int) -> int:
    """Carry out the stretch; write who has finished and return how many: `Batch.advance`."""
    rep, finished = at.replica(s, r), at.finished(s)
    n, steps, end = rep.decoding, rep.steps, rep.end_s
    many = 0
    book(s, r, float(steps))
    if rep.decodes and n > 0:
        rep.decoded_s = end
        if rep.stalls > 0:
            release(s, r, n)
        else:
            gaps(s, n, steps, rep.first_s, rep.growth_s)
        rep.step += steps
        rep.context += n * steps
        while rep.finishing > 0:
            if at.ending(at.heap(s, r), 0).step > rep.step:
                break
            q = at.ending(at.heap(s, r), 0).who
            stop_running(s, r, q)
            leave(s, r, q)
            finished[many] = q
            many += 1
    elif n > 0:
        hold_all(s, r, n, rep.start_s)
    q = at.ends(s, r, PROMPTS).first
    for _ in range(rep.chunks):
        following = next_prompt(s, q)
        if _prefilled(s, r, q, end):
            finished[many] = q
            many += 1
        q = following
    return many


@compiled
def _prefilled(s: Any, r: int, q: int, now: float) -> bool:
    """Note that a chunk is computed; tell whether the answer is done: `Batch._prefilled`."""
    rep, request = at.replica(s, r), at.request(s, q)
    request.stored += request.chunk
    request.left -= request.chunk
    if request.left > 0:
        return False
    remove(s, r, PROMPTS, q)
    rep.prefilling -= 1
    if request.emitted > 0:
        gaps(s, 1, 1, now - request.last_token_s, 0.0)
    else:
        request.first_token_s = now
        rep.input_tokens += request.prompt
    request.last_token_s = now
    request.emitted += 1
    rep.kept -= request.kept
    if request.emitted == request.output:
        stop_running(s, r, q)
        return True
    request.finish_step = rep.step + request.output - request.emitted
    _push(s, r, q)
    at.due(s, r)[_in_block(s, rep.step - request.stored)] += 1
    rep.decoding += 1
    rep.context += request.stored
    return False


@compiled
def write_down(s: Any, r: int, now: float) -> None:
    """Write down how far those who decode have come: `Batch.write_down`."""
    rep = at.replica(s, r)
    done = int(steps_by(rep, now)) if rep.stepping and rep.decodes else 0
    q = at.ends(s, r, RUNNING).first
    while q != NOBODY:
        request = at.request(s, q)
        if request.finish_step >= 0:
            request.emitted = stored(rep, request, done) - request.prompt + 1
        q = after(s, q)


@compiled
def abandon(s: Any, r: int, now: float) -> int:
    """Lose everything, put it on the list of the lost by number: `Batch.abandon`."""
    rep = at.replica(s, r)
    steps = 0.0
    if rep.stepping:
        steps = steps_by(rep, now)
        book(s, r, steps)
    done = int(steps) if rep.decodes else 0
    many = 0
    while True:
        q = at.ends(s, r, RUNNING).first
        kind = RUNNING
        if q == NOBODY:
            q = at.ends(s, r, WAITING).first
            kind = WAITING
            if q == NOBODY:
                break
        request = at.request(s, q)
        made = request.emitted
        if request.finish_step >= 0:
            made = stored(rep, request, done) - request.prompt + 1
        rep.lost_tokens += made
        remove(s, r, kind, q)
        _lose(s, r, q)
        many += 1
    clear(s, r, PROMPTS)
    clear(s, r, DUE)
    rep.waiting = rep.running = rep.prefilling = rep.finishing = rep.stalls = 0
    rep.chunks = rep.completing = rep.growing = rep.decoding = 0
    rep.context = 0
    rep.decodes = 1
    rep.kept = 0
    due = at.due(s, r)
    for place in range(s.block_tokens):
        due[place] = 0
    return many


@compiled
def _lose(s: Any, r: int, q: int) -> None:
    """Let a request be as on arrival (`Request.forget`), in its place among the lost."""
    request = at.request(s, q)
    request.admitted_s = nan
    request.first_token_s = nan
    request.last_token_s = nan
    request.emitted = request.stored = request.left = request.hit = request.kept = 0
    request.finish_step = -1
    request.runs = 0
    request.retries += 1
    other, later = at.ends(s, r, LOST).last, NOBODY
    while other != NOBODY and at.request(s, other).number > request.number:
        later = other
        other = at.link(s, other, 0).before
    if later == NOBODY:
        append(s, r, LOST, q)
    else:
        insert_before(s, r, LOST, q, later)
