"""`factory-sim sweep`: one scenario at every point of a design, on every core or a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory_sim.cli.options import Dask, Kept, Workers
from factory_sim.cli.progress import count_bar

if TYPE_CHECKING:
    from factory_sim.experiments.sweep.run import Swept

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
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no plots.")] = False,
) -> None:
    """Run a scenario at every point of a sweep, or what is missing of it, and show the table.

    Interrupted or killed, it goes on where it was. Exit code 3: some runs failed; they are listed
    with their cause.
    """
    from factory_sim.experiments.runs.crews import crew_of
    from factory_sim.experiments.sweep.run import run_sweep
    from factory_sim.experiments.sweep.spec import read_sweep
    from factory_sim.report.folder import to_json
    from factory_sim.report.sweep import document, lines

    described = read_sweep(file)
    with crew_of(workers, dask) as crew, count_bar(sys.stderr, "runs") as progress:
        swept = run_sweep(described, crew, out, progress)
    if not no_plots:
        _draw(swept)
    if json:
        sys.stdout.write(to_json(document(swept)))
    else:
        for line in lines(swept):
            print(line)
    if swept.failures or swept.unsaved:
        raise typer.Exit(SOME_FAILED)


def _draw(swept: Swept) -> None:
    """Write the plots; the table is safe whatever goes wrong with one."""
    from factory_sim.report.file import write_file
    from factory_sim.report.plots.sweeps import pictures

    try:
        for name, picture in pictures(swept):
            write_file(swept.folder / "plots" / f"{name}.png", picture, "--out")
    except Exception as error:
        print(f"warning: plots are missing: {error}", file=sys.stderr)
