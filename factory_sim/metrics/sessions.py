"""Sessions: which requests were turns of which, how many turns they had and how long they took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from factory_sim.metrics.statistics import describe

ENDINGS = ("completed", "context_full", "failed", "unfinished")
"""How a session may end: all turns answered; the next would be too long for the model; a turn
failed; not at all before the run did."""


class SessionRows(NamedTuple):
    """What a run noted of its sessions.

    turns: (request, session, turn from 0), in any order. sessions: (session, start in seconds,
    turns answered, end in seconds or NaN, place of its ending in ENDINGS).
    """

    turns: Sequence[tuple[int, int, int]]
    sessions: Sequence[tuple[int, float, int, float, int]]


def with_sessions(requests: pd.DataFrame, rows: SessionRows) -> pd.DataFrame:
    """Return the requests with their session and turn; missing where they are of none."""
    number, session, turn = np.array(rows.turns, dtype=np.int64).reshape(-1, 3).T
    place = requests.columns.get_loc("arrival_s")
    assert isinstance(place, int)
    found = requests.copy()
    by_request = pd.DataFrame({"session": session, "turn": turn}, index=number)
    known = by_request.reindex(requests["request_id"]).astype("Int64")
    for offset, column in enumerate(("session", "turn")):
        found.insert(place + offset, column, known[column].array)
    return found


def sessions_summary(rows: SessionRows, start_s: float) -> dict[str, Any]:
    """Return how the sessions went that began at `start_s` or later.

    Turns and durations are of those that came to an end of their own: completed, or as long as the
    model takes.
    """
    of_window = [row for row in rows.sessions if row[1] >= start_s]
    endings = [ENDINGS[ending] for *_, ending in of_window]
    found: dict[str, Any] = {"started": len(of_window)}
    found |= {ending: endings.count(ending) for ending in ENDINGS}
    whole = [row for row in of_window if ENDINGS[row[4]] in ("completed", "context_full")]
    if whole:
        _, began_s, turns, ended_s, _ = np.array(whole, dtype=np.float64).T
        found |= {"turns": describe(turns), "duration_s": describe(ended_s - began_s)}
    return {"sessions": found}
