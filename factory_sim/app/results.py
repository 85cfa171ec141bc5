"""What is there of a scenario: the whole run, or the sample of a quick answer, or bounds alone."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from factory_sim.app.settings import Settings
from factory_sim.app.work import FULL, QUICK, TOLD
from factory_sim.errors import InputError
from factory_sim.report.folder import read
from factory_sim.report.saved import SavedRun
from factory_sim.report.text import duration, number, percent


class Result(NamedTuple):
    """run: of the whole scenario if `full`, else of a sample; None where there are bounds alone.
    told: what the sample is of, and the bounds, if they are there."""

    run: SavedRun | None
    full: bool
    told: dict[str, Any]


def result_of(key: str, settings: Settings) -> Result | None:
    """Return the best that is there of the scenario with this hash."""
    home = settings.runs / key
    told = _told(home / TOLD)
    if (home / FULL).is_dir() and (found := _read(home / FULL)) is not None:
        return Result(found, True, told or {})
    if told is None:
        return None
    return Result(_read(home / QUICK) if (home / QUICK).is_dir() else None, False, told)


def about(result: Result) -> str:
    """Return in a sentence what a result is of."""
    if result.full:
        return "Full run: every request of the scenario was played."
    told = result.told
    if not told["done"]:
        return "Bounds alone, of a system whose batches are always full; a sample is on its way."
    if result.run is None:
        return "Quick answer from bounds alone: a sample would have taken too long. Run it in full."
    parts = []
    if told["share"] < 1.0:
        parts.append(f"{percent(told['share'])} of the replicas stand for all")
    if told["seconds"] < told["of_seconds"]:
        whole = duration(told["of_seconds"])
        parts.append(f"the first {duration(told['seconds'])} of {whole} were played")
    parts += [f"without {each}" for each in told["without"]]
    if not parts:
        return "Quick answer: the run is short, and was played whole."
    return f"Quick answer, an estimate: {'; '.join(parts)}. Run it in full to refine it."


def bounds_of(result: Result) -> list[list[str]]:
    """Return a row for each pool: what is asked of it, and the most that it could do at best."""
    pools = result.told.get("bounds", {}).get("pools", [])
    rows = []
    for pool in pools:
        asked, best = pool.get("asked_per_s"), pool["best_per_s"]
        share = percent(asked / best) if asked is not None else "as clients wait"
        said = "" if asked is None else number(asked)
        rows.append([pool["pool"], f"{pool['replicas']:,}", said, number(best), share])
    return [["", "replicas", "asked, requests/s", "at best, requests/s", "load"], *rows]


def at_most(result: Result) -> float:
    """Return output tokens/s of a perfect system that is asked the same."""
    found = 0.0
    for pool in result.told.get("bounds", {}).get("pools", []):
        rate = min(pool["best_per_s"], pool.get("asked_per_s", pool["best_per_s"]))
        found = max(found, rate * pool["output_tokens"])
    return found


def _read(path: Path) -> SavedRun | None:
    try:
        return _kept(path)
    except InputError:
        return None  # dropped in the meantime


@lru_cache(maxsize=8)
def _kept(path: Path) -> SavedRun:
    return read(path)


def _told(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return None
