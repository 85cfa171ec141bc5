"""What autoscaling did: replicas started and stopped, and who had to wait for it."""

from __future__ import annotations

from operator import sub
from typing import Any, NamedTuple

from factory_sim.metrics.totals import Totals


class ScalingCounts(NamedTuple):
    """Sums of one deployment. opened: of the starts, those that came to serve, cold_s after the
    order, summed. waited: requests that found no replica open. resent, lost_tokens: requests that
    a drain's deadline sent elsewhere, and the output tokens they had."""

    starts: int = 0
    stops: int = 0
    opened: int = 0
    cold_s: float = 0.0
    waited: int = 0
    resent: int = 0
    lost_tokens: int = 0

    def minus(self, other: ScalingCounts) -> ScalingCounts:
        """Return what has come since `other`."""
        return ScalingCounts._make(map(sub, self, other))


def scaling_summary(
    counts: ScalingCounts, totals: Totals, replicas: int, seconds: float
) -> dict[str, Any]:
    """Return what a summary says of a deployment that is scaled.

    totals: of all its replicas, over `seconds`.
    """
    in_all_s = replicas * seconds
    up_s = in_all_s - totals.down_s - totals.loading_s - totals.stopped_s
    if up_s < 1e-9 * in_all_s:
        up_s = 0.0  # what is left is rounding
    found: dict[str, Any] = {
        "starts": counts.starts,
        "stops": counts.stops,
        "replica_hours": up_s / 3600.0,
        "replicas_mean": up_s / seconds,
        "requests_waited_for_start": counts.waited,
    }
    if counts.opened:
        found["cold_start_s"] = {"mean": counts.cold_s / counts.opened}
    if counts.resent:
        found["requests_resent"] = counts.resent
        found["output_tokens_lost"] = counts.lost_tokens
    return found
