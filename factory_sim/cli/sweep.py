"""`factory-sim sweep`: one scenario at every point of a design, on every core or a cluster."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from factory_sim.cli.answered import answered
from factory_sim.cli.options import (
    Dask,
    Kept,
    NoPlots,
    Workers,
)
from factory_sim.cli.progress import count_bar

SOME_FAILED = 3
"""Exit code of a sweep that is through, but for runs that failed."""


def sweep(
    file: Annotated[
        Path,
        typer.Argument(metavar="SWEEP", help="The sweep, a YAML file.", show_default=False),
    ],
    workers: Workers = None,
    dask: Dask = None,
    out: Kept = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    no_plots: NoPlots = False,
) -> None:
    """Run a scenario at every point of a sweep, or what is missing of it, and show the table.

    Interrupted or killed, it goes on where it was. Exit code 3: some runs failed; they are listed
    with their cause.
    """
    from factory_sim.experiments.runs.crews import crew_of
    from factory_sim.experiments.sweep.run import run_sweep
    from factory_sim.experiments.sweep.spec import read_sweep
    from factory_sim.report.sweep import blocks, document

    described = read_sweep(file)
    with crew_of(workers, dask) as crew, count_bar(sys.stderr, "runs") as progress:
        swept = run_sweep(described, crew, out, progress)
    plots = None
    if not no_plots:
        from factory_sim.report.plots.sweeps import plots_of

        plots = partial(plots_of, swept)
    answered(
        swept.folder,
        described.sweep.name,
        blocks(swept),
        partial(document, swept),
        json,
        scenario=described.base,
        plots=plots,
    )
    if swept.failures or swept.unsaved:
        raise typer.Exit(SOME_FAILED)
