"""A run that has been saved: what every table and plot of a report is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class SavedRun:
    """A run as its folder holds it: plain tables and mappings, nothing alive."""

    summary: dict[str, Any]
    requests: pd.DataFrame
    timeseries: pd.DataFrame
    scenario: dict[str, Any]
    record: dict[str, Any]
