"""`factory-sim run`: simulate a scenario, save the run, print its summary."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from factory_sim.cli.options import (
    CatalogFolder,
    NoPlots,
    Overrides,
    Scenario,
    Seed,
    Workers,
    with_seed,
)
from factory_sim.cli.progress import count_bar, progress_bar
from factory_sim.cli.warned import warnings_on_stderr
from factory_sim.errors import InputError, Problem

if TYPE_CHECKING:
    from factory_sim.factory.run import Run


def run(
    scenario: Scenario = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The run folder to write; by default runs/NAME, or runs/NAME-2 and so on.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the run that --out holds already.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print summary.json instead of the summary.")
    ] = False,
    seed: Seed = None,
    catalog: CatalogFolder = None,
    no_plots: NoPlots = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Run a dozen times more, with parameters drawn from the calibration, and print "
            "the band of each headline figure.",
        ),
    ] = False,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="Simulate so many of a large site's replicas, have them stand for all, and print "
            "the 95 % interval of each headline figure. 'auto': as many as --precision takes.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="Have --sample grow until the intervals of means are within so much of the mean, "
            "and those of 99th percentiles within 10/3 of that; 3 with '--sample auto'.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Have the workers of a Dask cluster serve the pods (router.pods) of this one run: "
            "the address of its scheduler, such as tcp://scheduler:8786. The results are the same.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Simulate a scenario, save tables and plots, and print what came of it."""
    # Here and in the other commands: numpy, pandas and SimPy take a second to import, which
    # `--help` and a mistyped option need not wait for.
    from factory_sim import load, simulate
    from factory_sim.report import folder
    from factory_sim.report.summary import show

    share, wanted = _share_of(sample, precision)
    description = load(scenario, with_seed(overrides, seed), catalog=catalog)
    target = folder.default_base(description.name) if out is None else out
    count_up = out is None and not force
    folder.check_target(folder.first_free(target) if count_up else target, force=force)
    _announce_compilation(description.kernel)
    with progress_bar(sys.stderr) as progress:
        if sample is None and precision is None:
            result = simulate(description, progress=progress, workers=workers, dask=dask)
        else:
            from factory_sim.experiments.sampling import sample as run_sample

            result = run_sample(
                description,
                **share,
                progress=progress,
                precision=wanted,
                workers=workers,
                dask=dask,
            )
    if uncertainty:
        result = replace(result, summary={**result.summary, "uncertainty": _bands(result, workers)})
    with warnings_on_stderr():
        if count_up:
            saved = folder.save_next(result, target, plots=not no_plots)
        else:
            saved = folder.save(result, target, force=force, plots=not no_plots)
    for doubt in result.record.get("warnings", ()):
        print(f"warning: {doubt}", file=sys.stderr)
    # Last, so that a reader who leaves early (`| head`) costs no plot.
    if json:
        sys.stdout.write(folder.to_json(result.summary))
    else:
        show(Console(), description.name, result.summary, result.record)
    print(f"\nrun folder: {saved}", file=sys.stderr if json else sys.stdout)


def _announce_compilation(kernel: str) -> None:
    """Say why the first run takes longer, if somebody watches."""
    if kernel != "simpy" and sys.stderr.isatty():
        from factory_sim.factory.kernel.compiled import is_kept, missing

        if not missing() and not is_kept():
            print("compiling the kernel: half a minute, this once", file=sys.stderr)


def _share_of(sample: str | None, precision: float | None) -> tuple[dict[str, float], float | None]:
    """Return the share to simulate, none where that is for the precision to say, and that."""
    if sample in (None, "auto"):
        return {}, (3.0 if precision is None else precision) / 100
    try:
        share = float(str(sample).removesuffix("%")) / 100
    except ValueError:
        said = f"must be a number of percent, such as 5, or 'auto', not '{sample}'"
        raise InputError(Problem("sample", said)) from None
    return {"share": share}, None if precision is None else precision / 100


def _bands(result: Run, workers: int | None) -> dict[str, list[float]]:
    from factory_sim.experiments.uncertainty import bands

    workers = workers or os.cpu_count() or 1
    with count_bar(sys.stderr, "draws") as progress:
        return bands(result.scenario, result.summary, workers=workers, progress=progress)
