"""Which measurements of a run can be held against a simulation in which every request ends."""

from __future__ import annotations

from collections.abc import Mapping

from factory_sim.errors import InputError, Problem
from factory_sim.validation.readers.document import Document

ROOM = {"p50": 0.5, "p90": 0.1, "p99": 0.01, "mean": 0.01, "tok_s": 0.01}
"""The share of requests a statistic can lose.

A percentile stands while fewer are lost than lie above it, were the lost ones the slowest. A
mean and a rate are held to what the 99th percentile bears.
"""

LATE = 0.05
"""How late a client may send in the mean, as a share of the mean latency: a judgement. What
it holds back waits where the engine, and a simulation of it, cannot see."""


def measured(
    doc: Document,
    readings: Mapping[str, float | None],
    requests: int,
    lost: int,
    rates_hold: bool = False,
) -> dict[str, float]:
    """Return the readings of a case, without what the run cannot bear.

    None and 0 are no measurements (tools write 0 where a server did not stream). lost: how
    many of `requests` have no place in the statistics, having failed or been cut off.
    rates_hold: the rates count the tokens of the lost ones too. Raises InputError where nothing
    completed, nothing is left, or a reading is negative.
    """
    if requests <= lost:
        raise doc.error((), f"no request completed, of {requests}; nothing to compare")
    below = [name for name, value in readings.items() if value is not None and value < 0]
    if below:
        raise doc.error((), f"{below[0]} comes to {readings[below[0]]:g}, which nobody measures")
    share = lost / requests
    kept = {
        name: value
        for name, value in readings.items()
        if value and (not share or share < _room(name) or (rates_hold and name.endswith("_tok_s")))
    }
    if not kept and not lost:
        raise doc.error((), "holds no metric of a case: no latency, no rate of tokens")
    if not kept:
        raise doc.error(
            (), f"{lost} of {requests} requests did not complete; no statistic of the rest stands"
        )
    return kept


def _room(name: str) -> float:
    """Return the share of requests that a metric such as `ttft_p50_ms` can lose."""
    return ROOM["tok_s" if name.endswith("_tok_s") else name.split("_")[1]]


def note(requests: int, lost: int) -> dict[str, str]:
    """Return the note of a case whose statistics lack some requests."""
    return {"note": f"{lost} of {requests} requests did not complete"} if lost else {}


def of_single_tokens(
    itl_p50: float | None, itl_mean: float | None, tpot_mean: float | None
) -> float | None:
    """Return the median gap between chunks where a chunk is a token, else None.

    Chunks of two tokens come at twice the time per token; nothing in between is usual.
    """
    if not (itl_p50 and itl_mean and tpot_mean) or itl_mean >= 1.5 * tpot_mean:
        return None
    return itl_p50


def on_schedule(doc: Document, late_s: float | None, latency_s: float) -> None:
    """Raise InputError where a client sent its requests too late to call its rate kept."""
    if late_s is not None and late_s > LATE * latency_s:
        raise doc.error(
            (),
            f"requests were sent {late_s * 1e3:.0f} ms late in the mean, with a mean latency of "
            f"{latency_s * 1e3:.0f} ms: the client did not keep its rate, and a simulation would; "
            "measure again with more client processes and no limit on requests in flight",
        )


def uncapped(doc: Document, keys: tuple[str, ...], peak: float | None) -> None:
    """Raise InputError where a limit on requests in flight may have held back an open load.

    keys: where the limit stands. peak: most requests in flight, None where not recorded.
    """
    limit = doc.number(*keys)
    if limit is None or (peak is not None and peak < limit):
        return
    seen = "nobody knows how many were" if peak is None else f"{peak:.0f} were"
    raise doc.error(
        keys,
        f"at most {limit:.0f} requests in flight, {seen}, and a rate too: requests may have waited "
        "in the client, which a case cannot describe; measure with a rate or a limit alone",
    )


def refuse_speculation(doc: Document, found: list[str]) -> None:
    """Raise InputError for a run with speculative decoding: a case cannot describe it."""
    if found:
        raise InputError(
            Problem(
                f"{doc.name}: {sorted(found)[0]}",
                "this run used speculative decoding, which a case cannot describe",
            )
        )
