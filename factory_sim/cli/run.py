"""`factory-sim run`: simulate a scenario, save the run, print its summary."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from factory_sim.cli.options import CatalogFolder, Overrides, Scenario, Seed
from factory_sim.cli.progress import progress_bar


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
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no plots.")] = False,
) -> None:
    """Simulate a scenario, save tables and plots, and print what came of it."""
    # Here and in the other commands: numpy, pandas and SimPy take a second to import, which
    # `--help` and a mistyped option need not wait for.
    from factory_sim import load, simulate
    from factory_sim.report import folder
    from factory_sim.report.summary import show

    description = load(scenario, _overrides(overrides, seed), catalog=catalog)
    target = folder.default_base(description.name) if out is None else out
    count_up = out is None and not force
    folder.check_target(folder.first_free(target) if count_up else target, force=force)
    with progress_bar(sys.stderr) as progress:
        result = simulate(description, progress=progress)
    if count_up:
        saved = folder.save_next(result, target, plots=False)
    else:
        saved = folder.save(result, target, force=force, plots=False)
    if json:
        sys.stdout.write(folder.to_json(result.summary))
    else:
        show(Console(), description.name, result.summary, result.record)
    print(f"\nrun folder: {saved}", file=sys.stderr if json else sys.stdout)
    sys.stdout.flush()
    if not no_plots:
        _draw(saved)


def _overrides(given: list[str] | None, seed: int | None) -> list[str]:
    return [*(given or ()), *(() if seed is None else (f"seed={seed}",))]


def _draw(saved: Path) -> None:
    from factory_sim.report import folder

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", folder.PlotWarning)
        folder.add_plots(saved)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
