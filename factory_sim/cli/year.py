"""`factory-sim year`: what a site makes of a year, hour by hour, and how far off that may be."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from factory_sim.cli.answered import answered
from factory_sim.cli.options import (
    CatalogFolder,
    Dask,
    Json,
    NoPlots,
    Overrides,
    Seed,
    Workers,
)
from factory_sim.cli.progress import note

_MINUTES_OF_A_DAY = 1440.0


def year(
    scenario: Annotated[
        Path | None,
        typer.Argument(
            metavar="SCENARIO",
            help="The scenario, a YAML file with signals over a year; without one, a built-in "
            "hall of 20 MW.",
            show_default=False,
        ),
    ] = None,
    weather: Annotated[
        Path | None,
        typer.Option(metavar="FILE.epw", help="A year of weather.", show_default=False),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(
            metavar="SIGNAL",
            help="Of energy: a value such as '60 USD/MWh', or a signal as in a scenario, e.g. "
            "'{csv: prices.csv, column: usd_per_mwh, unit: USD/MWh}'.",
            show_default=False,
        ),
    ] = None,
    carbon: Annotated[
        str | None,
        typer.Option(metavar="SIGNAL", help="Of energy, such as '350 g/kWh'.", show_default=False),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="SIGNAL", help="Of the grid, such as '20 MW'.", show_default=False),
    ] = None,
    growth: Annotated[
        float, typer.Option(metavar="PERCENT", help="By which demand grows in a year.")
    ] = 0.0,
    faster: Annotated[
        float, typer.Option(metavar="PERCENT", help="By which software gets faster in a year.")
    ] = 0.0,
    days: Annotated[int, typer.Option(min=1, metavar="N", help="From the start on.")] = 365,
    step: Annotated[
        float, typer.Option(metavar="MINUTES", help="From one look at the site to the next.")
    ] = 60.0,
    check_hours: Annotated[
        int,
        typer.Option(metavar="N", help="Hours drawn at random that the engine plays as well."),
    ] = 12,
    overrides: Overrides = None,
    seed: Seed = None,
    catalog: CatalogFolder = None,
    workers: Workers = None,
    dask: Dask = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder that keeps runs, tables and plots; by default one in years/.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    no_plots: NoPlots = False,
) -> None:
    """Take a site through a year: tokens, energy, cost and broken promises, month by month.

    Short runs of the engine say what replicas make and draw by load and clock; the building, the
    weather and the limit of each hour do the rest. Interrupted or killed, it goes on where it was.
    """
    import factory_sim
    from factory_sim.experiments.runs.crews import crew_of
    from factory_sim.experiments.year.year import EXAMPLE, run_year
    from factory_sim.report.plots.year import plots_of
    from factory_sim.report.year import blocks, document
    from factory_sim.scenario.load import built_in, plain

    told = {"price": price, "carbon": carbon, "grid_limit": limit}
    own = [f"site.{key}={value}" for key, value in told.items() if value is not None]
    own += [] if weather is None else [f"site.weather={{epw: {str(weather)!r}}}"]
    own += [] if seed is None else [f"seed={seed}"]
    given = factory_sim.load(scenario or built_in(EXAMPLE), [*own, *(overrides or [])], catalog)
    steps = round(days * _MINUTES_OF_A_DAY / step) if step > 0.0 else 0
    with crew_of(workers, dask) as crew, note(sys.stderr) as tell:
        found = run_year(
            given,
            crew,
            steps,
            60.0 * step,
            growth / 100.0,
            faster / 100.0,
            check_hours,
            out,
            None if tell is None else lambda what, done, all_: tell(f"{what}: {done} of {all_}"),
        )
    answered(
        found.folder,
        f"Year of {given.name}",
        blocks(found),
        partial(document, found),
        json,
        about=f"a year of {given.name}" if days == 365 else f"{days:,} days of {given.name}",
        scenario=plain(given),
        plots=None if no_plots else partial(plots_of, found),
    )
