"""A sweep in the terminal and as JSON: a line for each point, and what failed and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from factory_sim.experiments.runs.store import INDEX
from factory_sim.experiments.sweep.run import Swept
from factory_sim.experiments.sweep.table import HALF_WIDTH
from factory_sim.report.layout import COLUMNS, Block, Entry, Table, rendered, width
from factory_sim.report.text import number

_SHORT = {
    "goodput_output_tokens_per_s": "goodput/s",
    "ttft_ms.p99": "TTFT p99",
    "tpot_ms.p99": "TPOT p99",
    "energy_per_output_token_j": "J/token",
    "grid_power_mw.mean": "MW",
    "output_tokens_per_s": "tokens/s",
    "ttft_ms.p50": "TTFT p50",
    "tpot_ms.p50": "TPOT p50",
    "e2e_ms.p50": "E2E p50",
    "e2e_ms.p99": "E2E p99",
    "slo.share_of_requests_met": "SLO",
    "output_tokens_per_s_per_utility_mw": "tokens/s/MW",
    "utilisation.gpu_busy": "busy",
}
"""What metrics are called at the head of a column; where a sweep names none, in this order."""

_MOST_POINTS = 60


def lines(swept: Swept) -> Iterator[str]:
    """Yield what a terminal shows: see `blocks`."""
    return rendered(blocks(swept))


def blocks(swept: Swept) -> Iterator[Block]:
    """Yield what a terminal shows of a sweep: of each point as many metrics as fit."""
    points = swept.points
    runs, replications = len(swept.runs), int(swept.runs["replication"].max()) + 1
    yield f"{swept.sweep.name}: {len(points):,} points, {runs:,} runs"
    rows = _rows(swept, points.head(_MOST_POINTS), replications > 1)
    yield Table(rows)
    if len(points) > _MOST_POINTS:
        yield f"  ... and {len(points) - _MOST_POINTS:,} points more"
    if replications > 1:
        yield Entry("±", "half of the 95 % interval of the mean, over the mean")
    for cause, count in swept.failures.items():
        yield Entry(f"{count:,} failed", cause)
    if swept.unsaved:
        yield Entry("not kept", swept.unsaved)
    else:
        yield Entry("every figure", str(swept.folder / INDEX))


def document(swept: Swept) -> dict[str, Any]:
    """Return a sweep as plain data; a figure that is not there is left out."""
    return {
        "sweep": swept.sweep.name,
        "axes": swept.axes,
        "points": records(swept.points),
        "runs": records(swept.runs),
        "failures": swept.failures,
    }


def short(name: str, others: Sequence[str]) -> str:
    """Return the end of a dotted name that tells it from others, without its unit."""
    name = _bare(name)
    parts = name.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if not any(_ends(other, end) and other != name for other in map(_bare, others)):
            return end
    return name


def _bare(name: str) -> str:
    return name.partition(" [")[0]


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def places(points: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    """Return where each point lies, as it would be written in a file: `95 kW, 65 /s`."""
    return [
        ", ".join(map(_written, fields, values))
        for values in zip(*(points[field] for field in fields), strict=True)
    ]


def _written(field: str, value: Any) -> str:
    said = value if isinstance(value, str) else f"{value:,.4g}"
    return f"{said} {field.partition(' [')[2].rstrip(']')}".rstrip()


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as plain data; what is missing is left out."""
    return [
        {str(key): value for key, value in row.items() if not _absent(value)}
        for row in frame.to_dict("records")
    ]


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _rows(swept: Swept, points: pd.DataFrame, spread: bool) -> list[list[str]]:
    """Return heading and cells of the table, no wider than a terminal if it can be helped."""
    names = [short(name, swept.fields) for name in swept.fields]
    columns = [[", ".join(names), *places(points, swept.fields)]]
    if points["runs"].nunique() > 1:
        columns.append(["runs", *(f"{count:,}" for count in points["runs"])])
    if points["failed"].any():
        columns.append(["failed", *(f"{count}" if count else "" for count in points["failed"])])
    for metric in _shown(swept, points):
        found = [[_SHORT.get(metric, short(metric, swept.metrics)), *map(_cell, points[metric])]]
        if spread:
            pairs = zip(points[metric], points[metric + HALF_WIDTH], strict=True)
            found.append(["±", *(_share(half_width, mean) for mean, half_width in pairs)])
        # The first column of a table is at least as wide as a label.
        if metric != _shown(swept, points)[0] and width([*columns, *found]) > COLUMNS:
            break
        columns += found
    return [list(row) for row in zip(*columns, strict=True)]


def _shown(swept: Swept, points: pd.DataFrame) -> list[str]:
    """Return the metrics to be shown, the first ones first."""
    numeric = [name for name in swept.metrics if name in points]
    if "metrics" in swept.sweep.model_fields_set:
        return numeric
    return [name for name in _SHORT if name in numeric]


def _cell(value: Any) -> str:
    if _absent(value):
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else number(float(value), 4)


def _share(half_width: float, mean: float) -> str:
    if _absent(half_width) or not mean:
        return ""
    share = 100.0 * half_width / abs(mean)
    return f"{share:.1f} %" if share < 9.95 else f"{share:.0f} %"


LABELS: Mapping[str, str] = {
    "output_tokens_per_s": "output tokens/s",
    "goodput_output_tokens_per_s": "output tokens/s within their promise",
    "output_tokens_per_s_per_utility_mw": "output tokens/s per MW drawn",
    "ttft_ms.p50": "time to first token in ms, median",
    "ttft_ms.p99": "time to first token in ms, p99",
    "tpot_ms.p50": "time per output token in ms, median",
    "tpot_ms.p99": "time per output token in ms, p99",
    "e2e_ms.p50": "end to end in ms, median",
    "e2e_ms.p99": "end to end in ms, p99",
    "slo.share_of_requests_met": "share of requests within their promise",
    "grid_power_mw.mean": "MW at the meter, mean",
    "energy_per_output_token_j": "J per output token at the meter",
}
"""What metrics are called on an axis of a plot; others go by their name in a summary."""
