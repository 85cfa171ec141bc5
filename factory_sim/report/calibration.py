"""A fitted engine profile in the terminal: errors before, after and left out, and its figures."""

from __future__ import annotations

from collections.abc import Iterator

from factory_sim.report.comparison import reasons, size
from factory_sim.report.layout import Block, Table, rendered
from factory_sim.report.text import percent, with_unit
from factory_sim.validation.compare import by_metric, rows_of, spread_of
from factory_sim.validation.profile import UNTIMED, Profile


def lines(profile: Profile) -> Iterator[str]:
    """Yield what a terminal shows: see `blocks`."""
    return rendered(blocks(profile))


def blocks(profile: Profile) -> Iterator[Block]:
    """Yield what was fitted to what, the errors by metric, the figures, what could not be run."""
    yield f"{profile.name}: {profile.source}, {len(profile.after):,} cases"
    yield ""
    yield from _errors(profile)
    yield ""
    yield from _figures(profile)
    if profile.unused:
        yield "\nNot fitted to: cannot be run"
        yield from reasons((outcome.case.id, outcome.reason) for outcome in profile.unused)


def _errors(profile: Profile) -> Iterator[Block]:
    before, after, apart = (
        by_metric(rows_of(outcomes))
        for outcomes in (profile.before, profile.after, profile.left_out)
    )
    rows = [["median (p90)", "figures", "before", "after", "left out"]]
    for metric, spread in before.items():
        cells = [
            f"{size(found[metric].median)} ({size(found[metric].p90)})" if metric in found else "-"
            for found in (before, after, apart)
        ]
        rows.append([metric, f"{spread.rows:,}", *cells])
    yield "Absolute error"
    yield Table(rows)
    if not apart:
        yield "  left out: nothing; it takes two cases, better two models"
    else:
        yield (
            f"  left out: each {profile.groups} in turn, simulated with the fit to all others "
            "(one step from"
        )
        yield "  the whole fit)"
    if any(metric in UNTIMED for metric in before):
        yield "  not fitted to power and energy: host time decides neither"
    if apart and _worse(profile):
        yield "  the cases left out are met no better than before the fit: these cases are too few,"
        yield "  or too unlike, to say much of another"


def _worse(profile: Profile) -> bool:
    """Tell whether errors of what was left out are larger than before the fit, in the median."""
    before, apart = (
        spread_of(row.error for row in rows_of(outcomes) if row.metric not in UNTIMED)
        for outcomes in (profile.before, profile.left_out)
    )
    return apart.median > before.median


def _figures(profile: Profile) -> Iterator[Block]:
    rows = [["host time", profile.like, profile.name, "standard error"]]
    for field, figure in profile.figures.items():
        fitted = ["as before", "-"]
        if figure.error is not None:
            fitted = [with_unit(figure.value, "s"), percent(figure.error)]
        rows.append([field, with_unit(figure.before, "s"), *fitted])
    yield Table(rows)
    if any(figure.error is None for figure in profile.figures.values()):
        yield "  as before: no figure of the cases depends on it, or it is zero"
