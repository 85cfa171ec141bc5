"""Hashes of recorded prompts: whose beginnings are alike, without a word of what was said.

A hash covers so many tokens and says what they are and what came before them, as in Mooncake's
traces: prompts that begin alike have their first hashes in common.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.object_]


class HashReader:
    """Numbers the hashes of a file as they come, from 0. tokens: what each hash covers.

    The last hash of a prompt covers what is left of it; unless that is whole, nobody can share it.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._numbers: dict[object, int] = {}
        self._before: dict[int, int] = {}  # key -> the one that comes before it, -1 for none

    def read(self, raw: object, prompt: int) -> tuple[int, ...] | str:
        """Return the keys of a prompt's whole hashes, or what is wrong with them."""
        if not isinstance(raw, list) or not all(type(value) in (int, str) for value in raw):
            return "is not a list of hashes"
        whole, rest = divmod(prompt, self.tokens)
        if len(raw) not in (whole, whole + (rest > 0)):
            return f"is not one hash for every {self.tokens} tokens of the prompt"
        keys, before = [], -1
        for value in raw[:whole]:
            key = self._numbers.setdefault(value, len(self._numbers))
            if self._before.setdefault(key, before) != before:
                return "has a hash that comes after another one elsewhere"
            keys.append(key)
            before = key
        return tuple(keys)


def no_hashes(n: int) -> Keys:
    """Return the keys of `n` prompts of which nobody knows what they hold: one, seen n times."""
    return np.broadcast_to(as_column([()]), n)


def as_column(keys: Sequence[tuple[int, ...]]) -> Keys:
    """Return keys as a column: object[n], each a tuple."""
    return np.fromiter(keys, dtype=object, count=len(keys))


def apart(keys: Keys, copy: int | NDArray[np.int64], count: int) -> Keys:
    """Return the keys of other copies of `count` keys in all, which share none with the first.

    copy: the number of the copy, 0 for the first, of all prompts or of each.
    """
    if np.all(copy == 0):
        return keys
    later = np.broadcast_to(copy, len(keys)) * count
    told = zip(keys, later.tolist(), strict=True)
    return as_column([tuple([key + more for key in prompt]) for prompt, more in told])


def count_of(keys: Keys) -> int:
    """Return how many keys a copy needs: one more than the highest."""
    return max((max(prompt) for prompt in keys if prompt), default=-1) + 1
