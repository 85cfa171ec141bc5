"""`factory-sim sensitivity`: what a little more of each thing would do, ranked."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from factory_sim.cli.answered import answered
from factory_sim.cli.options import (
    CatalogFolder,
    Dask,
    Json,
    Kept,
    NoPlots,
    Overrides,
    Precision,
    Scenario,
    Seed,
    Slo,
    Workers,
    with_seed,
)
from factory_sim.cli.progress import count_bar


class At(StrEnum):
    """At which traffic."""

    capacity = "capacity"
    traffic = "traffic"


def sensitivity(
    scenario: Scenario = None,
    change: Annotated[
        float, typer.Option(metavar="PERCENT", help="How far each thing is moved.")
    ] = 10.0,
    at: Annotated[
        At,
        typer.Option(
            help="capacity: at the traffic that is given and at the most that keeps every promise. "
            "traffic: at the traffic that is given alone, with far fewer runs.",
        ),
    ] = At.capacity,
    lever: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Move this alone, e.g. hbm_bandwidth. Repeatable; by default all there is.",
            show_default=False,
        ),
    ] = None,
    slo: Slo = None,
    replications: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs of each, every one with its seed.")
    ] = 3,
    precision: Precision = 4.0,
    overrides: Overrides = None,
    seed: Seed = None,
    catalog: CatalogFolder = None,
    workers: Workers = None,
    dask: Dask = None,
    out: Kept = None,
    json: Json = False,
    no_plots: NoPlots = False,
) -> None:
    """Move one thing at a time: megawatts, HBM, links, cooling, lengths; say what goodput does.

    Every scenario that was tried is in the folder, to be run by itself.
    """
    import factory_sim
    from factory_sim.experiments.runs.crews import crew_of
    from factory_sim.experiments.sensitivity.run import run_sensitivity
    from factory_sim.report.sensitivity import blocks, document
    from factory_sim.scenario.load import plain

    given = factory_sim.load(scenario, with_seed(overrides, seed), catalog)
    with crew_of(workers, dask) as crew, count_bar(sys.stderr, "runs") as progress:
        sensed = run_sensitivity(
            given,
            crew,
            change / 100.0,
            at.value,
            lever,
            slo,
            replications,
            precision / 100.0,
            out,
            progress,
        )
    plots = None
    if not no_plots:
        from factory_sim.report.plots.tornado import plots_of

        plots = partial(plots_of, sensed)
    answered(
        sensed.folder,
        f"Sensitivity of {given.name}",
        blocks(sensed),
        partial(document, sensed),
        json,
        about=f"{given.name}: what a little more of each thing does",
        scenario=plain(given),
        plots=plots,
    )
