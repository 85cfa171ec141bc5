"""The floor of a deployment: who arrives, who is sent where, and what happens next.

What `clients`, `gateway`, `replica` and `timetable` do. The order of an instant is theirs:
completions, control, arrivals, plans.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from factory_sim.factory.kernel import arrays as at
from factory_sim.factory.kernel.batch import (
    abandon,
    advance,
    enqueue,
    enter_due,
    free,
    joins,
    leave,
    plan,
    stop_running,
    write_down,
)
from factory_sim.factory.kernel.compiled import compiled, entry
from factory_sim.factory.kernel.lists import (
    DUE,
    LOST,
    NOBODY,
    WAITING,
    after,
    append,
    change_load,
    clear,
    least_loaded,
    play_events,
    remove,
    replay_events,
    weigh_all,
)
from factory_sim.factory.kernel.stretch import (
    INSTANT,
    busy_s,
    by_cause,
    cut,
    energy_j,
    steps_by,
    throttled_s,
)

COMPLETION, CONTROL, ARRIVAL, PLAN = range(4)
"""As in `timetable`."""

COMPLETED, TIMED_OUT, REJECTED, UNFINISHED = range(4)
"""As in `gateway.OUTCOMES`."""

ROUND_ROBIN, RANDOM, LEAST_OUTSTANDING, POWER_OF_TWO = range(4)
ROUTER_NUMBER = {
    "round-robin": ROUND_ROBIN,
    "random": RANDOM,
    "least-outstanding": LEAST_OUTSTANDING,
    "power-of-two": POWER_OF_TWO,
}

DONE, REQUESTS, ROWS, WORDS, FEED = range(5)
"""Why `act` returns: all is done that was asked, or there is no room for requests or for rows, or
no random words are left, or no arrivals of the stream that the desk names."""

ADVANCE, CHANGE, FAIL, RESEND, OPENED, CLOSE, FED = range(7)
"""What `act` is asked to do."""

STRANDED = -1
"""What `runs` is of a request that no replica has; 1 where it runs, 0 where it waits."""

ENOUGH_WORDS = 64
"""Random words at hand before a request is routed; it takes two, hardly ever more."""


@entry
def act(s: Any, what: int, r: int, now: float) -> int:
    """Do one thing to the deployment and tell why it stopped: DONE, or what is missing.

    ADVANCE: let everything happen that comes before the control of `now`. The others happen at
    `now`, to replica `r` where they are about one. CHANGE: the first `r` of `changed` are to obey
    new orders. FAIL: it loses everything. RESEND: what it has lost goes to others. OPENED: who was
    stranded may go somewhere. CLOSE: note who is still here. FED: stream `r` has new arrivals, or
    has ended.
    """
    if what == ADVANCE:
        return _advance_to(s, now)
    if what == FED:
        if at.stream(s, r).size > 0:
            _set_next(s, r)
        _next_stream(s)
        return DONE
    s.now = now
    if what == CHANGE:
        for place in range(r):
            _cut(s, at.changed(s)[place], now, 0)
    elif what == FAIL:
        rep = at.replica(s, r)
        if rep.stepping and now >= rep.end_s - INSTANT:
            _boundary(s, r)
        _attribute(s, r)
        s.answer = abandon(s, r, now)
        rep.stepping = 0
        _set(s, r, inf, PLAN)
    elif what == RESEND:
        _resend(s, r)
    elif what == OPENED:
        _opened(s)
    elif what == CLOSE:
        _close(s)
    return DONE


# -- what comes next -------------------------------------------------------------------------


@compiled
def _advance_to(s: Any, until: float) -> int:
    replicas = s.many
    if at.first(s)[1] == NOBODY:
        play_events(s)
    limit = -inf  # until which nobody comes or gives up; it is not known yet
    i, giving_up, coming_s, due_s = 0, NOBODY, inf, inf
    while True:
        if limit == -inf:
            if s.room - s.rows <= s.inside + 1:
                return ROWS
            i = s.stream
            coming_s = at.stream(s, i).next_s
            if at.stream(s, i).at >= at.stream(s, i).size and coming_s != inf:
                return FEED
            giving_up = at.ends(s, replicas, DUE).first
            due_s = inf if giving_up == NOBODY else max(at.request(s, giving_up).due_s, s.now)
            limit = min(coming_s, due_s, until)
        r = at.first(s)[1]
        time, rank, kind = at.when(s)[r], at.rank(s)[r], 0
        if time >= limit:  # of those at once, who is first?
            if coming_s < time or (coming_s == time and rank > ARRIVAL):
                time, rank, kind = coming_s, ARRIVAL, 1
            if due_s < time or (due_s == time and rank > CONTROL and due_s != inf):
                time, rank, kind = due_s, CONTROL, 2
            # Of a client's giving up and somebody's control, the first was set long before.
            if time > until or (time == until and rank > COMPLETION and kind != 2):
                return DONE
        s.now = time
        if kind == 1:
            if s.unused == NOBODY:
                return REQUESTS
            if s.words + ENOUGH_WORDS > s.many_words and (
                s.router == RANDOM or s.router == POWER_OF_TWO
            ):
                return WORDS
            _arrival(s, i)
            limit = -inf
        elif kind == 2:
            remove(s, replicas, WAITING, giving_up)
            s.stranded -= 1
            _gone(s, giving_up, time, TIMED_OUT)
            limit = -inf
        elif rank == COMPLETION:
            plan_s = _end_stretch(s, r) + INSTANT
            if plan_s < limit:  # nobody can come between
                s.now = plan_s
                _plan(s, r)
            else:
                _set(s, r, plan_s, PLAN)
        else:
            _plan(s, r)


@compiled
def _set(s: Any, r: int, time: float, rank: int) -> None:
    """Set the next event of a replica, now if its time has passed; at infinity it rests."""
    at.when(s)[r], at.rank(s)[r] = max(time, s.now), rank
    replay_events(s, r)


@compiled
def _next_stream(s: Any) -> None:
    """Find the stream whose request arrives next: of two at once, the one set first."""
    best = 0
    for i in range(1, s.many_streams):
        one, other = at.stream(s, i), at.stream(s, best)
        if one.next_s < other.next_s or (one.next_s == other.next_s and one.order < other.order):
            best = i
    s.stream = best


@compiled
def _set_next(s: Any, i: int) -> None:
    """Set when the next request of a stream arrives, if it is known."""
    stream = at.stream(s, i)
    stream.next_s = max(at.coming(s, i, stream.at).arrival_s + stream.lag_s, s.now)
    stream.order = s.order
    s.order += 1


@compiled
def _arrival(s: Any, i: int) -> None:
    """Let the next request of a stream arrive, and set the one after it."""
    stream = at.stream(s, i)
    asked = at.coming(s, i, stream.at)
    stream.at += 1
    stream.sent += 1
    q = s.unused
    s.unused = after(s, q)
    request = at.request(s, q)
    request.number, request.index = s.next_number, asked.index
    s.next_number += 1
    request.stream, request.tenant = stream.number, stream.tenant
    request.archetype = asked.kind
    request.arrival_s = asked.arrival_s
    request.prompt, request.output, request.cached = asked.prompt, asked.output, asked.cached
    request.due_s = asked.arrival_s + stream.timeout_s
    request.queued_s = nan
    request.admitted_s = nan
    request.first_token_s = nan
    request.last_token_s = nan
    request.replica = -1
    request.emitted = request.stored = request.left = request.hit = request.kept = 0
    request.preemptions = request.retries = request.runs = 0
    request.finish_step = -1
    if _sent(s, q):
        s.request_s += s.inside * (s.now - s.last_s)
        s.last_s = s.now
        s.inside += 1
    else:
        _note(s, q, s.now, REJECTED)
    if stream.at < stream.size:
        _set_next(s, i)
        if s.many_streams > 1:
            _next_stream(s)


# -- the gateway -----------------------------------------------------------------------------


@compiled
def _sent(s: Any, q: int) -> bool:
    """Send a request to a replica, or keep it while none is open: `Gateway._sent`."""
    replicas = s.many
    if s.staleness_s > 0.0 and s.now - s.seen_s >= s.staleness_s:
        for r in range(s.many):
            at.seen(s)[r] = at.load(s)[r]
        s.seen_s = s.now
    if s.open == 0:
        append(s, replicas, WAITING, q)
        s.stranded += 1
        at.request(s, q).runs = STRANDED
        if at.request(s, q).due_s != inf:
            enter_due(s, replicas, q)
        return True
    r = _choose(s)
    at.request(s, q).replica, at.request(s, q).runs = r, 0
    if not _submit(s, r, q):
        return False
    _weigh(s, r, 1)
    return True


@compiled
def _choose(s: Any) -> int:
    """Return the replica that takes a request: the routers of `routing`."""
    n = s.open
    load = at.seen(s) if s.staleness_s > 0.0 else at.load(s)
    if s.router == ROUND_ROBIN:
        chosen = s.turn % n
        s.turn = chosen + 1
        return int(at.open(s)[chosen])
    if s.router == RANDOM:
        return int(at.open(s)[_draw(s, n)])
    if s.router == POWER_OF_TWO:
        if n == 1:
            return int(at.open(s)[0])
        first = _draw(s, n)
        second = _draw(s, n - 1)
        second += second >= first
        one, other = at.open(s)[first], at.open(s)[second]
        return int(one if load[one] <= load[other] else other)
    if s.staleness_s == 0.0:
        return least_loaded(s)
    best = at.open(s)[0]
    for place in range(1, n):
        if load[at.open(s)[place]] < load[best]:
            best = at.open(s)[place]
    return int(best)


@compiled
def _draw(s: Any, n: int) -> int:
    """Return a number below n as `numpy.random.Generator.integers` does: Lemire (2019)."""
    if n == 1:
        return 0
    many = np.uint64(n)
    low = np.uint64(0xFFFFFFFF)
    product = np.uint64(at.words(s)[s.words]) * many
    s.words += 1
    if product & low < many:
        least = (low - (many - np.uint64(1))) % many
        while product & low < least:
            product = np.uint64(at.words(s)[s.words]) * many
            s.words += 1
    return int(np.int64(product >> np.uint64(32)))


@compiled
def _weigh(s: Any, r: int, change: int) -> None:
    """Count requests outstanding at a replica."""
    at.load(s)[r] += change
    change_load(s, r, change)


@compiled
def _resend(s: Any, r: int) -> None:
    """Send what a replica has lost to others: `Gateway.resend`."""
    many = 0
    q = at.ends(s, r, LOST).first
    while q != NOBODY:
        many += 1
        q = after(s, q)
    _weigh(s, r, -many)
    q = at.ends(s, r, LOST).first
    clear(s, r, LOST)
    _send(s, q)


@compiled
def _opened(s: Any) -> None:
    """Replicas have opened or closed; let the stranded go to one: `Gateway._opened`."""
    row = s.many
    # To look for the least load takes time, so only where the router asks for it as it is now.
    weigh_all(s, s.router == LEAST_OUTSTANDING and s.staleness_s == 0.0)
    if s.open == 0 or s.stranded == 0:
        return
    q = at.ends(s, row, WAITING).first
    clear(s, row, WAITING)
    clear(s, row, DUE)
    s.stranded = 0
    _send(s, q)


@compiled
def _send(s: Any, q: int) -> None:
    """Send a chain of requests that are inside already."""
    while q != NOBODY:
        following = after(s, q)
        if not _sent(s, q):
            _gone_unlisted(s, q, s.now, REJECTED)
        q = following


@compiled
def _gone(s: Any, q: int, time: float, outcome: int) -> None:
    """A request leaves, and nobody waits for its giving up any more: `Gateway._gone`."""
    request = at.request(s, q)
    if request.due_s != inf:
        row = s.many if request.runs == STRANDED else request.replica
        remove(s, row, DUE, q)
    _gone_unlisted(s, q, time, outcome)


@compiled
def _gone_unlisted(s: Any, q: int, time: float, outcome: int) -> None:
    s.request_s += s.inside * (s.now - s.last_s)
    s.last_s = s.now
    s.inside -= 1
    _note(s, q, time, outcome)


@compiled
def _note(s: Any, q: int, end_s: float, outcome: int) -> None:
    """Keep the row of a request, and its place for another: `Gateway._note`."""
    request = at.request(s, q)
    row = at.row(s, s.rows)
    s.rows += 1
    row.number, row.stream, row.replica = request.number, request.stream, request.replica
    if s.is_pod:  # whose neighbours count requests too
        row.number = request.index
        if request.replica >= 0:
            row.replica += s.first_replica
    row.arrival_s, row.admitted_s = request.arrival_s, request.admitted_s
    row.first_token_s, row.end_s, row.transfer_s = request.first_token_s, end_s, nan
    row.answer_s, row.encoding_s = nan, nan
    row.prompt, row.emitted, row.cached = request.prompt, request.emitted, request.hit
    row.preemptions, row.retries = request.preemptions, request.retries
    row.prefill_replica, row.encode_replica, row.outcome = -1, -1, outcome
    row.reasoning, row.images = 0, 0
    row.archetype, row.tenant = request.archetype, request.tenant
    at.link(s, q, 0).after = s.unused
    s.unused = q


@compiled
def _close(s: Any) -> None:
    """Note those who are still here as unfinished, each replica's by number: `Gateway.close`."""
    for r in range(s.many):
        write_down(s, r, s.now)
        numbers = np.empty(at.replica(s, r).waiting + at.replica(s, r).running, np.int64)
        many = 0
        for kind in range(2):  # waiting, running
            q = at.ends(s, r, kind).first
            while q != NOBODY:
                numbers[many] = q
                many += 1
                q = after(s, q)
        for place in range(1, many):  # by number
            q, spot = numbers[place], place
            number = at.request(s, q).number
            while spot > 0 and at.request(s, numbers[spot - 1]).number > number:
                numbers[spot] = numbers[spot - 1]
                spot -= 1
            numbers[spot] = q
        for place in range(many):
            _note(s, numbers[place], nan, UNFINISHED)
    q = at.ends(s, s.many, WAITING).first
    while q != NOBODY:
        following = after(s, q)
        _note(s, q, nan, UNFINISHED)
        q = following
    s.answer = 0


# -- a replica -------------------------------------------------------------------------------


@compiled
def _submit(s: Any, r: int, q: int) -> bool:
    """Queue a request at a replica; False if it is refused: `Replica.submit`."""
    rep, request, now = at.replica(s, r), at.request(s, q), s.now
    if rep.stepping and now >= rep.end_s - INSTANT:
        _boundary(s, r)
    if request.due_s < now + 2.0 * INSTANT:
        request.due_s = now + 2.0 * INSTANT
    request.queued_s = now
    if not enqueue(s, r, q):
        return False
    at.fetch_body(s, rep.prompt_clock, rep.decoding + request.prompt)
    if at.when(s)[r] == inf:
        rep.boundary_s = now
        _set(s, r, now + INSTANT, PLAN)
    elif rep.stepping:
        if joins(s, r):
            _cut(s, r, now, s.ahead)
        if request.due_s < rep.end_s:
            _cut(s, r, request.due_s, 0)
    return True


@compiled
def _cut(s: Any, r: int, time: float, more: int) -> None:
    rep = at.replica(s, r)
    if rep.stepping and cut(rep, time, more):
        _set(s, r, rep.end_s, COMPLETION)


@compiled
def _boundary(s: Any, r: int) -> None:
    """A stretch ends, and the next is to be planned: `Replica._boundary`."""
    _set(s, r, _end_stretch(s, r) + INSTANT, PLAN)


@compiled
def _end_stretch(s: Any, r: int) -> float:
    """Let the finished and those who give up leave; return when the stretch ended."""
    rep = at.replica(s, r)
    rep.stepping = 0
    if rep.finishing > 0:
        at.fetch_request(s, at.ending(at.heap(s, r), 0).who)
    end = rep.end_s
    for place in range(advance(s, r)):
        _weigh(s, r, -1)
        _gone(s, at.finished(s)[place], end, COMPLETED)
    while True:
        q = at.ends(s, r, DUE).first
        if q == NOBODY or at.request(s, q).due_s > end + INSTANT:
            break
        if at.request(s, q).runs:
            stop_running(s, r, q)
            leave(s, r, q)
        else:
            remove(s, r, WAITING, q)
            rep.waiting -= 1
        _weigh(s, r, -1)
        _gone(s, q, end, TIMED_OUT)
    rep.boundary_s = end
    return float(end)


@compiled
def _plan(s: Any, r: int) -> None:
    """Obey control, plan the next stretch and set out on it: `Replica._plan`."""
    rep = at.replica(s, r)
    if rep.ordered:
        if rep.want_hot != rep.hot:
            _attribute(s, r)
            rep.hot = rep.want_hot
        rep.clock, rep.prompt_clock = rep.want_clock, rep.want_prompt_clock
        rep.max_running = rep.want_running
        rep.ordered = 0
    if plan(s, r, rep.boundary_s):
        rep.stepping = 1
        _set(s, r, rep.end_s, COMPLETION)
    else:
        _set(s, r, inf, PLAN)


@compiled
def _attribute(s: Any, r: int) -> None:
    """Put the throttled time until now down to heat, or to what else it was."""
    rep = at.replica(s, r)
    until_s = throttled_s(rep)
    if rep.hot:
        rep.heated_s += until_s - rep.heat_until_s
    rep.heat_until_s = until_s


# -- what somebody sees who looks ------------------------------------------------------------


@entry
def drawn(s: Any, now: float, found: Any) -> int:
    """Write busy seconds, joules of a GPU and tokens of each replica: `Replica.drawn`.

    Return the KV blocks that are free at all of them.
    """
    blocks = 0
    for r in range(s.many):
        rep = at.replica(s, r)
        blocks += free(s, r)
        found[r, 0], found[r, 1], found[r, 2] = rep.spent_s, rep.energy_j, rep.made
        if rep.stepping:
            steps = steps_by(rep, now)
            found[r, 0] += min(now, rep.end_s) - rep.start_s
            found[r, 1] += energy_j(s, r, steps)
            found[r, 2] += rep.tokens * steps
    return blocks


@entry
def sums(s: Any, r: int, now: float, found: Any) -> None:
    """Write what a replica has done until now, its stretch under way included.

    In order: busy, compute, memory, network, host, throttled (hot or not), KV-full seconds,
    joules, tokens, sequence seconds, joules with prompts, seconds of the throttled ones in heat,
    joules of prompts.
    """
    rep = at.replica(s, r)
    found[1], found[2] = rep.done_compute_s, rep.done_memory_s
    found[3], found[4] = rep.done_network_s, rep.done_host_s
    found[5] = throttled_s(rep)
    found[0], found[6], found[7] = rep.spent_s, rep.kv_full_s, rep.energy_j
    found[8], found[9], found[10] = rep.made, rep.sequence_s, rep.prefill_j
    found[12] = rep.prompt_j
    if rep.stepping:
        steps = steps_by(rep, now)
        spent_s, joules = busy_s(rep, steps), energy_j(s, r, steps)
        found[0] += spent_s
        found[7] += joules
        found[8] += rep.tokens * steps
        found[9] += rep.sequences * spent_s
        if rep.mixed:
            found[10] += joules
            found[12] += joules * rep.prompts
        if rep.kv_blocked and not rep.mixed:
            found[6] += spent_s
        else:
            for place, seconds in enumerate(by_cause(s, r, steps)):
                found[1 + place] += seconds
        found[5] = found[0] - found[6] - (found[1] + found[2] + found[3] + found[4])
    found[11] = rep.heated_s
    if rep.hot:
        found[11] += found[5] - rep.heat_until_s
