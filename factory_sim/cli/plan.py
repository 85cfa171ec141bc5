"""`factory-sim plan`: what to build under a grid limit, and how to run it, ranked."""

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
from factory_sim.cli.progress import note
from factory_sim.errors import InputError, Problem


class Objective(StrEnum):
    """What is sought."""

    goodput = "goodput"
    energy = "energy"
    cost = "cost"
    carbon = "carbon"


def _listed(name: str, metavar: str, told: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=f"{told} Separated by commas.", show_default=False
    )
    return option


def plan(
    scenario: Scenario = None,
    systems: Annotated[
        str | None,
        _listed(
            "--systems",
            "A,B",
            "Servers or racks of the catalogue; by default all on sale. The best of each that is "
            "named goes through every round.",
        ),
    ] = None,
    precisions: Annotated[
        str | None, _listed("--precisions", "A,B", "Of weights; by default bf16, fp8 and nvfp4.")
    ] = None,
    parallelism: Annotated[
        str | None,
        _listed(
            "--parallelism", "A,B", "Such as tp4,tp8-pp2,dp8-ep8; by default what suits the model."
        ),
    ] = None,
    max_num_seqs: Annotated[
        str | None,
        _listed(
            "--max-num-seqs",
            "N,M",
            "Largest batches; by default what the promise of TPOT has room for, and half of it.",
        ),
    ] = None,
    clocks: Annotated[
        str | None,
        _listed("--clocks", "PERCENT", "Highest GPU clocks; by default 100, and 85 of the best."),
    ] = None,
    prefill: Annotated[
        str | None,
        _listed(
            "--prefill",
            "PERCENT",
            "Of replicas that only compute prompts, apart from those that decode: 0 (none), "
            "shares, or auto (balanced); by default 0,auto where the scenario has such, else 0.",
        ),
    ] = None,
    objective: Annotated[
        Objective,
        typer.Option(
            help="goodput: output tokens/s within every promise, per MW of the grid limit. energy, "
            "cost, carbon: of a token, at the most traffic.",
        ),
    ] = Objective.goodput,
    simulate: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many candidates are run at first.")
    ] = 12,
    slo: Slo = None,
    replications: Annotated[
        int, typer.Option(min=1, metavar="N", help="Seeds of the last round.")
    ] = 2,
    precision: Precision = 5.0,
    overrides: Overrides = None,
    seed: Seed = None,
    catalog: CatalogFolder = None,
    workers: Workers = None,
    dask: Dask = None,
    out: Kept = None,
    json: Json = False,
    no_plots: NoPlots = False,
) -> None:
    """Choose hardware, precision, parallelism, batch, clock for a site's megawatts and promises.

    Bounds leave out what cannot win; the rest is run, the better ones for longer. Every candidate
    is in the folder as a scenario. Exit code 1: none keeps the promises.
    """
    import factory_sim
    from factory_sim.experiments.planning.candidates import Axes
    from factory_sim.experiments.planning.run import run_plan
    from factory_sim.experiments.runs.crews import crew_of
    from factory_sim.report.planning import blocks, document
    from factory_sim.scenario.load import plain

    axes = Axes(
        _split(systems),
        _split(precisions),
        _split(parallelism),
        _whole("--max-num-seqs", max_num_seqs),
        _shares("--clocks", clocks),
        _parts(prefill),
    )
    given = factory_sim.load(scenario, with_seed(overrides, seed), catalog)
    with crew_of(workers, dask) as crew, note(sys.stderr) as progress:
        planned = run_plan(
            given,
            crew,
            axes,
            objective.value,
            simulate,
            slo,
            replications,
            precision / 100.0,
            out,
            progress,
        )
    plots = None
    if not no_plots:
        from factory_sim.report.plots.plans import plots_of

        plots = partial(plots_of, planned)
    answered(
        planned.folder,
        f"Plan of {given.name}",
        blocks(planned),
        partial(document, planned),
        json,
        about=f"{given.name}: what to build and how to run it",
        scenario=plain(given),
        plots=plots,
    )
    if planned.points.empty:
        raise typer.Exit(1)


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _whole(option: str, text: str | None) -> list[int] | None:
    parts = _split(text)
    if parts is not None and not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(Problem(option, f"whole numbers such as 64,128, not '{text}'"))
    return None if parts is None else [int(part) for part in parts]


def _shares(option: str, text: str | None) -> list[float] | None:
    try:
        parts = _split(text)
        return None if parts is None else [float(part.rstrip(" %")) / 100.0 for part in parts]
    except ValueError:
        raise InputError(Problem(option, f"percentages such as 70,85, not '{text}'")) from None


def _parts(text: str | None) -> list[float | None] | None:
    if text is None:
        return None
    found: list[float | None] = []
    for part in _split(text) or []:
        found += [None] if part == "auto" else _shares("--prefill", part) or []
    return found
