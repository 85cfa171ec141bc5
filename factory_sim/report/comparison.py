"""Simulated beside measured in the terminal: every figure, then how large the errors are."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from factory_sim.report.layout import COLUMNS, Table
from factory_sim.report.text import number
from factory_sim.validation.compare import (
    Row,
    Spread,
    by_gpu,
    by_metric,
    reason_of,
    rows_of,
    spread_of,
)
from factory_sim.validation.runner import Outcome

_METRIC_COLUMNS = 26


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield case by case measured, simulated and error; then the errors; then what did not run."""
    rows = rows_of(outcomes)
    if rows:
        yield from _cases(outcomes, rows)
        yield ""
        yield from errors(rows)
        yield ""
    yield from _count(outcomes, rows)


def _cases(outcomes: Sequence[Outcome], rows: Sequence[Row]) -> Iterator[str]:
    told = [["metric", "measured", "simulated", "error"]]
    told += [[r.metric, number(r.measured), number(r.simulated), signed(r.error)] for r in rows]
    heading, *text = Table(_padded(told)).lines()
    yield f"Case\n{heading}"
    place = iter(text)
    for outcome in outcomes:
        if outcome.simulated:
            yield outcome.case.id
            yield from (next(place) for _ in outcome.simulated)


def errors(rows: Sequence[Row]) -> Iterator[str]:
    """Yield median and p90 of the absolute error, by metric and by GPU."""
    told = [["metric", "figures", "median", "p90"], *_metrics(by_metric(rows))]
    yield "Absolute error"
    yield from Table(_padded(told)).lines()
    gpus = by_gpu(rows)
    blocks = [[_sizes("all metrics", spread_of(r.error for r in own))] for own in gpus.values()]
    for block, own in zip(blocks, gpus.values(), strict=True):
        block += _metrics(by_metric(own))
    text = Table(_padded([told[0], *(row for block in blocks for row in block)])).lines()
    yield "\nAbsolute error by GPU"
    yield next(text)
    for gpu, block in zip(gpus, blocks, strict=True):
        yield gpu
        yield from (next(text) for _ in block)


def _count(outcomes: Sequence[Outcome], rows: Sequence[Row]) -> Iterator[str]:
    run = sum(bool(outcome.simulated) for outcome in outcomes)
    yield f"{run:,} of {len(outcomes):,} cases run, {len(rows):,} figures compared"
    left = [(o.case.id, reason) for o in outcomes if (reason := reason_of(o))]
    if left:
        yield "\nNot compared"
        yield from reasons(left)


def reasons(left: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield cases, each with the reason why it is left beneath it."""
    for case, reason in left:
        yield case
        yield from textwrap.wrap(
            reason,
            COLUMNS,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )


def _metrics(spreads: Mapping[str, Spread]) -> list[list[str]]:
    return [_sizes(name, spread) for name, spread in spreads.items()]


def _sizes(name: str, spread: Spread) -> list[str]:
    return [name, f"{spread.rows:,}", size(spread.median), size(spread.p90)]


def _padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[f"{row[0]:<{_METRIC_COLUMNS}}", *row[1:]] for row in rows]


def size(error: float) -> str:
    """Return an error's size in per cent, three digits, no finer than hundredths: `4.31 %`."""
    value = 100.0 * abs(error)
    return f"{number(value)} %" if value >= 1.0 else f"{value:.2f} %"


def signed(error: float) -> str:
    """Return an error in per cent with its sign: `-4.31 %`."""
    found = size(error)
    sign = "" if found == size(0.0) else "+" if error > 0 else "-"
    return sign + found
