"""Queues, heaps and contests in plain arrays: who waits, who finishes first, who is next.

A list is its two ends and the links of its members, who are known by number; -1 is nobody. A list
of one kind belongs to each replica, and some to the deployment, whose row comes after theirs.
"""

from __future__ import annotations

from typing import Any

from factory_sim.factory.kernel import arrays as at
from factory_sim.factory.kernel.compiled import compiled

NOBODY = -1

WAITING, RUNNING, PROMPTS, DUE, LOST = range(5)
"""Kinds of lists. Nobody is in two of WAITING, RUNNING and LOST: they share links."""


@compiled
def _link(kind: int) -> int:
    if kind == PROMPTS:
        return 1
    return 2 if kind == DUE else 0


@compiled
def append(s: Any, row: int, kind: int, q: int) -> None:
    """Put `q` at the end of a list."""
    link = _link(kind)
    last = at.ends(s)[row, kind, 1]
    at.links(s)[q, link, 0], at.links(s)[q, link, 1] = last, NOBODY
    at.ends(s)[row, kind, 1] = q
    if last == NOBODY:
        at.ends(s)[row, kind, 0] = q
    else:
        at.links(s)[last, link, 1] = q


@compiled
def insert_before(s: Any, row: int, kind: int, q: int, after: int) -> None:
    """Put `q` just before `after`, who is in the list."""
    link = _link(kind)
    before = at.links(s)[after, link, 0]
    at.links(s)[q, link, 0], at.links(s)[q, link, 1] = before, after
    at.links(s)[after, link, 0] = q
    if before == NOBODY:
        at.ends(s)[row, kind, 0] = q
    else:
        at.links(s)[before, link, 1] = q


@compiled
def appendleft(s: Any, row: int, kind: int, q: int) -> None:
    """Put `q` at the head of a list."""
    head = at.ends(s)[row, kind, 0]
    if head == NOBODY:
        append(s, row, kind, q)
    else:
        insert_before(s, row, kind, q, head)


@compiled
def remove(s: Any, row: int, kind: int, q: int) -> None:
    """Take `q` out of a list."""
    link = _link(kind)
    before, after = at.links(s)[q, link, 0], at.links(s)[q, link, 1]
    if before == NOBODY:
        at.ends(s)[row, kind, 0] = after
    else:
        at.links(s)[before, link, 1] = after
    if after == NOBODY:
        at.ends(s)[row, kind, 1] = before
    else:
        at.links(s)[after, link, 0] = before


# -- the contest of all replicas: whose next event is the first ------------------------------


@compiled
def earlier(s: Any, a: int, b: int) -> bool:
    """Tell whether a's event comes before b's; of two at once the lower number's.

    All is compared, whether needed or not: who wins cannot be guessed, and a processor that guesses
    wrong loses more.
    """
    one_s, other_s = at.when(s)[a], at.when(s)[b]
    one, other = at.rank(s)[a], at.rank(s)[b]
    before = (one < other) | ((one == other) & (a < b))
    return bool((one_s < other_s) | ((one_s == other_s) & before))


@compiled
def replay_events(s: Any, r: int) -> None:
    """Play again the rounds of the contest that `r` is in, its event having changed."""
    tree = at.first(s)
    node = (r + s.size) // 2
    while node >= 1:
        a, b = tree[2 * node], tree[2 * node + 1]
        winner = b if earlier(s, b, a) else a
        if winner == tree[node] and winner != r:
            return
        tree[node] = winner
        node //= 2


@compiled
def play_events(s: Any) -> None:
    """Play all rounds of the contest for the next event."""
    tree = at.first(s)
    for node in range(s.size - 1, 0, -1):
        a, b = tree[2 * node], tree[2 * node + 1]
        tree[node] = b if earlier(s, b, a) else a


@compiled
def _lighter(s: Any, a: int, b: int) -> int:
    return b if at.load(s)[b] < at.load(s)[a] else a


@compiled
def replay_loads(s: Any, r: int) -> None:
    """Play again the rounds that `r` is in of the contest for the least load."""
    tree = at.least(s)
    node = (r + s.size) // 2
    while node >= 1:
        winner = _lighter(s, tree[2 * node], tree[2 * node + 1])
        if winner == tree[node] and winner != r:
            return
        tree[node] = winner
        node //= 2


@compiled
def play_loads(s: Any) -> None:
    """Play all rounds of the contest for the least load."""
    tree = at.least(s)
    for node in range(s.size - 1, 0, -1):
        tree[node] = _lighter(s, tree[2 * node], tree[2 * node + 1])
