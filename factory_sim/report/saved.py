"""A run that has been saved: what every table and plot of a report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class SavedRun:
    """A run as its folder holds it: plain tables and mappings, nothing alive.

    requests: one row per request that is recorded; None where none is (`recording: aggregate`).
    assumed: of each catalogue figure behind the run {of, figure, value, kind, source}.
    """

    summary: dict[str, Any]
    requests: pd.DataFrame | None
    timeseries: pd.DataFrame
    scenario: dict[str, Any]
    record: dict[str, Any]
    assumed: list[dict[str, Any]]


def keeps_rows(record: Mapping[str, Any]) -> bool:
    """Tell by its `run.json` whether a run has a row of any request."""
    recording = record.get("recording", {"keep": "full"})
    return bool(recording["keep"] != "aggregate")


def sampled(record: Mapping[str, Any]) -> float | None:
    """Return the share of requests that have a row, by `run.json`; None if all have."""
    share = record.get("recording", {}).get("share")
    return None if share is None else float(share)
