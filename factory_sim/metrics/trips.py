"""Trips: what lies between the deployments and the users who asked them.

Like the post around a workshop: the workshop's book says when work came in and went out; the
carrier's book says where it came from, who else had it before, and when it was home.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TRIP = np.dtype(
    [
        ("number", "<i8"),
        ("deployment", "<i4"),
        ("region", "<i4"),
        ("asked", "<i4"),
        ("earlier", "<i4"),
        ("sent_s", "<f8"),
        ("first_late_s", "<f8"),
        ("last_late_s", "<f8"),
        ("longest_gap_s", "<f8"),
        ("upload_s", "<f8"),
        ("stands", "?"),
    ]
)
"""A request that has ended: which deployment ended it, from 0; how many were asked; tokens that
earlier ones made for it; when the client sent it; how much later than they were made the client
saw its first and its last token, and the longest gap between two; how long it took to send to the
last deployment asked; whether the answer stands because the next deployment refused."""


class Trips(NamedTuple):
    """Trips of a run. rows: dtype `TRIP`, ordered by number, one for every request. regions: names,
    where there are several or a line has more than a round trip. several: whether any service asks
    several deployments. uploads: whether any takes time to send.
    cascades: whether any answer is judged."""

    rows: np.ndarray
    regions: Sequence[str]
    several: bool
    uploads: bool
    cascades: bool

    def of(self, rows: np.ndarray, deployment: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a deployment's gateway that ended there for good, and their trips."""
        own = self.rows[np.searchsorted(self.rows["number"], rows["number"])]
        here = own["deployment"] == deployment
        return rows[here], own[here]


def ordered(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return trips of several front doors in one array, by number."""
    rows = np.concatenate(parts)
    return rows[np.argsort(rows["number"], kind="stable")]
