"""Queues and contests in plain arrays: who waits, who is next, who has the least to do.

A list is its two ends and the links of its members, who are known by number; -1 is nobody. A list
of one kind belongs to each replica, and some to the deployment, whose row comes after theirs.
"""

from __future__ import annotations

from typing import Any

from factory_sim.factory.kernel import arrays as at
from factory_sim.factory.kernel.compiled import LEAST_OF, compiled

NOBODY = -1

WAITING, RUNNING, PROMPTS, DUE, LOST = range(5)
"""Kinds of lists. Nobody is in two of WAITING, RUNNING and LOST: they share links."""


@compiled
def _link(kind: int) -> int:
    if kind == PROMPTS:
        return 1
    return 2 if kind == DUE else 0


@compiled
def after(s: Any, q: int) -> int:
    """Return who comes after `q` in a list of the waiting, the running or the lost."""
    return int(at.link(s, q, 0).after)


@compiled
def next_prompt(s: Any, q: int) -> int:
    """Return whose prompt comes after that of `q`."""
    return int(at.link(s, q, 1).after)


@compiled
def append(s: Any, row: int, kind: int, q: int) -> None:
    """Put `q` at the end of a list."""
    which = _link(kind)
    ends, own = at.ends(s, row, kind), at.link(s, q, which)
    last = ends.last
    own.before, own.after = last, NOBODY
    ends.last = q
    if last == NOBODY:
        ends.first = q
    else:
        at.link(s, last, which).after = q


@compiled
def insert_before(s: Any, row: int, kind: int, q: int, later: int) -> None:
    """Put `q` just before `later`, who is in the list."""
    which = _link(kind)
    own, other = at.link(s, q, which), at.link(s, later, which)
    before = other.before
    own.before, own.after = before, later
    other.before = q
    if before == NOBODY:
        at.ends(s, row, kind).first = q
    else:
        at.link(s, before, which).after = q


@compiled
def appendleft(s: Any, row: int, kind: int, q: int) -> None:
    """Put `q` at the head of a list."""
    head = at.ends(s, row, kind).first
    if head == NOBODY:
        append(s, row, kind, q)
    else:
        insert_before(s, row, kind, q, head)


@compiled
def remove(s: Any, row: int, kind: int, q: int) -> None:
    """Take `q` out of a list."""
    which = _link(kind)
    ends, own = at.ends(s, row, kind), at.link(s, q, which)
    before, later = own.before, own.after
    if before == NOBODY:
        ends.first = later
    else:
        at.link(s, before, which).after = later
    if later == NOBODY:
        ends.last = before
    else:
        at.link(s, later, which).before = before


@compiled
def clear(s: Any, row: int, kind: int) -> None:
    """Let a list be empty."""
    ends = at.ends(s, row, kind)
    ends.first = ends.last = NOBODY


# -- who is the first of all replicas ------------------------------------------------------------
#
# The next event: whose time has changed plays again, from its own place to the final, against who
# has won on the other side. It meets these one after the other whoever wins, so that a processor
# fetches all of them at once; an end as soon as nothing changes would have to be guessed. Times are
# compared by their bits, whose order is that of the numbers: none is below zero.


@compiled
def _first_of_two(s: Any, a: int, b: int) -> int:
    """Return whose event comes first, of two at the same time."""
    one, other = at.rank(s)[a], at.rank(s)[b]
    if one == other:
        return min(a, b)
    return a if one < other else b


@compiled
def replay_events(s: Any, r: int) -> None:
    """Play again the rounds for the next event that `r` is in."""
    tree, when = at.first(s), at.when_bits(s)
    winner, time = r, when[r]
    node = s.size + r
    while node > 1:
        other = tree[node ^ 1]
        others = when[other]
        if others == time:
            winner = _first_of_two(s, winner, other)
        winner = other if others < time else winner
        time = min(others, time)
        node >>= 1
        tree[node] = winner


@compiled
def play_events(s: Any) -> None:
    """Play all rounds of the contest for the next event."""
    tree, when = at.first(s), at.when(s)
    for node in range(s.size - 1, 0, -1):
        a, b = tree[2 * node], tree[2 * node + 1]
        winner = a if when[a] < when[b] else b
        tree[node] = _first_of_two(s, a, b) if when[a] == when[b] else winner


# The least load: `weights` has load and number of each replica in one word, so that the least word
# is that of the first who has the least load. Of each group of sixteen the least is at hand: a
# processor compares eight at once. Who takes no requests, or is not there, never has the least.

GROUP = LEAST_OF
SHUT = (1 << 63) - 1
LOAD_BITS = 32


@compiled
def change_load(s: Any, r: int, change: int) -> None:
    """Count more or fewer requests in the word of `r`, and find the least of its group again."""
    words, least, group = at.weights(s), at.least(s), r // GROUP
    before, others = words[r], least[group]
    if before == SHUT:
        return
    if others == before:  # of the others, before the new word is written: to read it would wait
        others = at.least_weight(s, group * GROUP, before)
    words[r] = before + (change << LOAD_BITS)
    least[group] = min(others, words[r])


@compiled
def least_loaded(s: Any) -> int:
    """Return the first of those with the least load."""
    least = SHUT
    for place in range(0, s.groups, GROUP):
        least = min(least, at.least_of_groups(s, place, SHUT))
    return int(least & ((1 << LOAD_BITS) - 1))


@compiled
def weigh_all(s: Any, known: bool) -> None:
    """Let the words say the loads of all who take requests; nobody's if they are not `known`."""
    words, least = at.weights(s), at.least(s)
    for r in range(s.many):
        words[r] = SHUT
    if known:
        for place in range(s.open):
            r = at.open(s)[place]
            words[r] = (at.load(s)[r] << LOAD_BITS) + r
    for group in range(s.groups):
        least[group] = at.least_weight(s, group * GROUP, SHUT)
