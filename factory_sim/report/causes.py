"""Where a GPU-second can go: the causes of `time_lost`, in a planner's words.

One order everywhere: the work itself, its overheads, throttling, then time without work.
"""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """label: what the time was. meaning: what bounds the factory when this is the largest."""

    label: str
    meaning: str


CAUSES = {
    "compute": Cause("computing", "arithmetic sets the pace: more or faster GPUs, or fewer bits"),
    "memory": Cause(
        "reading memory", "HBM bandwidth sets the pace: larger batches or faster memory"
    ),
    "communication": Cause(
        "GPUs exchanging data", "the links set the pace: fewer GPUs to a replica or faster links"
    ),
    "host": Cause(
        "host overhead", "launching work sets the pace: a leaner engine or larger batches"
    ),
    "waiting_for_ranks": Cause(
        "waiting for slowest rank",
        "uneven ranks set the pace: larger batches, smaller prompt chunks or fewer ranks",
    ),
    "waiting_for_stages": Cause(
        "waiting for other stages",
        "an unfilled pipeline sets the pace: more requests at once, smaller prompt chunks or fewer "
        "stages",
    ),
    "power_throttled": Cause(
        "slowed by the power cap", "the cap lowers clocks: more power, or fewer GPUs at full clock"
    ),
    "thermally_throttled": Cause("slowed by heat", "cooling lowers clocks: colder or more coolant"),
    "waiting_for_work": Cause("waiting for work", "demand is the limit: the site can take more"),
    "kv_full": Cause(
        "waiting, KV cache full", "KV memory is the limit: more HBM, smaller weights or KV"
    ),
    "drafting": Cause(
        "drafting tokens", "drafts set the pace: a smaller draft, fewer of them, or none"
    ),
    "waiting_for_transfer": Cause(
        "waiting for a transfer",
        "network-bound: what lies between the pools is the limit: faster NICs, switches or links",
    ),
    "waiting_for_encoder": Cause(
        "waiting for images", "encoding sets the pace: more encoders, or smaller images"
    ),
    "down": Cause("down", "what failed or overheated is the limit: spares, repair or cooling"),
    "stopped": Cause("stopped by autoscaling", "demand is the limit: GPUs that nobody needed"),
    "loading": Cause("loading weights", "start-up is the limit: fewer restarts or faster storage"),
}


def words(cause: str) -> str:
    """Return the label of `cause`; one that is new here reads as its own name."""
    return CAUSES[cause].label if cause in CAUSES else cause.replace("_", " ")
