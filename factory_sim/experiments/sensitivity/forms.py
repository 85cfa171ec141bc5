"""Plain data of a scenario or the catalogue, with a little more in it: amounts, signals, lengths.

What is given is canonical, as `plain` writes it: one unit, and never a short form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from factory_sim.units import split

Turn = Callable[[Any], Any]
"""Makes one amount of another: a number, or a text such as `190000.0 W`."""


def times(factor: float) -> Turn:
    """Return what multiplies an amount."""

    def turned(amount: Any) -> Any:
        if isinstance(amount, str):
            number, unit = split(amount)
            return f"{number * factor!r} {unit}"
        return amount * factor

    return turned


def plus(more: float) -> Turn:
    """Return what adds to an amount, in its own unit."""

    def turned(amount: str) -> str:
        number, unit = split(amount)
        return f"{number + more!r} {unit}"

    return turned


def facts(entry: Any, turn: Turn, note: str) -> Any:
    """Return the figures of a catalogue's entry, at any depth, each turned and an estimate."""
    if not isinstance(entry, Mapping):
        return entry
    if "value" not in entry:
        return {key: facts(inner, turn, note) for key, inner in entry.items()}
    kept = {key: value for key, value in entry.items() if key != "error"}
    return kept | {"value": turn(entry["value"]), "kind": "estimate", "note": note}


def signal(given: Any, turn: Turn, wave: bool = True) -> Any:
    """Return a signal with every value turned; None for one that is read from a file.

    wave: whether the amplitude of a wave is turned with its mean.
    """
    if not isinstance(given, Mapping):
        return turn(given)
    if "csv" in given:
        return None
    if "sinusoid" in given:
        own = dict(given["sinusoid"])
        for key in ("mean", "amplitude") if wave else ("mean",):
            own[key] = turn(own[key])
        return {**given, "sinusoid": own}
    (kind,) = {"steps", "daily"} & given.keys()
    return {**given, kind: [[time, turn(value)] for time, value in given[kind]]}


def length(given: Any, factor: float) -> Any:
    """Return a distribution of tokens, each that many times as long."""
    if isinstance(given, int):
        return round(given * factor)
    ((kind, own),) = given.items()
    if kind == "fixed":
        return {kind: round(own * factor)}
    if kind == "quantiles":
        return {kind: [[share, tokens * factor] for share, tokens in own]}
    longer = {
        key: value * factor if key in ("median", "mean", "p99") else value
        for key, value in own.items()
    }
    whole = {
        key: round(value * factor) for key, value in own.items() if key in ("low", "high", "max")
    }
    return {kind: longer | whole}
