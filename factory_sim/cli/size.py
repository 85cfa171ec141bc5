"""`factory-sim size`: how much of a site a traffic needs, or how much traffic a site carries."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
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
from factory_sim.cli.progress import note


class For(StrEnum):
    """What is sought."""

    demand = "demand"
    cap = "cap"


def size(
    scenario: Scenario = None,
    aim: Annotated[
        For,
        typer.Option(
            "--for",
            help="demand: the fewest replicas (racks, where replicas fill them) that keep every "
            "promise at this traffic. cap: the most traffic that this site carries.",
        ),
    ] = For.demand,
    slo: Slo = None,
    replications: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs of each size, every one with its seed.")
    ] = 3,
    precision: Precision = 2.0,
    overrides: Overrides = None,
    seed: Seed = None,
    catalog: CatalogFolder = None,
    workers: Workers = None,
    dask: Dask = None,
    out: Kept = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the scenario of the answer there.", show_default=False
        ),
    ] = None,
    json: Json = False,
    no_plots: NoPlots = False,
) -> None:
    """Find the fewest replicas for a traffic, or the most traffic for a site; say what binds.

    Exit code 1: no size that fits keeps the promises.
    """
    import yaml

    import factory_sim
    from factory_sim.experiments.runs.crews import crew_of
    from factory_sim.experiments.sizing.size import FOLDER, run_size
    from factory_sim.report.file import write_file
    from factory_sim.report.sizing import blocks, document

    given = factory_sim.load(scenario, with_seed(overrides, seed), catalog)
    with crew_of(workers, dask) as crew, note(sys.stderr) as progress:
        sized = run_size(
            given,
            aim.value,
            crew,
            slo,
            replications,
            precision / 100.0,
            out,
            None if progress is None else lambda n, size: progress(f"size {n + 1}: {size:,.4g}"),
        )
    plots = None
    if not no_plots:
        from factory_sim.report.plots.sizes import plots_of

        plots = partial(plots_of, sized)
    answered(
        FOLDER if out is None else out,
        f"Size of {given.name}",
        blocks(sized),
        partial(document, sized),
        json,
        about=f"{given.name}: what fits its {aim.value}",
        scenario=sized.scenario,
        plots=plots,
    )
    if write is not None and sized.scenario is not None:
        write_file(write, yaml.safe_dump(sized.scenario, sort_keys=False), "--write")
    if sized.answer is None:
        raise typer.Exit(1)
