"""`factory-sim sensitivity`: what a little more of each thing would do, ranked."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from factory_sim.cli.drawn import drawn
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
)
from factory_sim.cli.progress import count_bar
from factory_sim.cli.warned import said, say


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
    from factory_sim.report.folder import to_json
    from factory_sim.report.layout import rendered
    from factory_sim.report.page.answer import Answer, keep
    from factory_sim.report.sensitivity import blocks, document
    from factory_sim.scenario.load import plain

    own = [] if seed is None else [f"seed={seed}"]
    given = factory_sim.load(scenario, [*(overrides or []), *own], catalog)
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
    pictures = []
    if not no_plots:
        from factory_sim.report.plots.tornado import plots_of

        pictures = drawn(sensed.folder, partial(plots_of, sensed))
    about = f"{given.name}: what a little more of each thing does"
    title, told = f"Sensitivity of {given.name}", list(blocks(sensed))
    say(keep(Answer(title, about, told, pictures, plain(given), said()), sensed.folder))
    if json:
        sys.stdout.write(to_json(document(sensed)))
    else:
        for line in rendered(told):
            print(line)
