"""Arguments that more than one command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Scenario = Annotated[
    Path | None,
    typer.Argument(
        metavar="SCENARIO",
        help="The scenario, a YAML file; without one, the built-in quickstart.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B.C=VALUE",
        help="Override a field of the scenario, e.g. --set 'site.grid_limit=300 kW'. Repeatable.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, metavar="N", help="Override the seed of the scenario."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes or threads to work in; by default one for each core. The results are the "
        "same.",
        show_default=False,
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="ADDRESS",
        help="Have a Dask cluster do the runs: the address of its scheduler, such as "
        "tcp://scheduler:8786.",
        show_default=False,
    ),
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="The folder that keeps every run; by default one in sweeps/. What it holds already is "
        "not run again.",
        show_default=False,
    ),
]
Slo = Annotated[
    str | None,
    typer.Option(
        "--slo",
        metavar="NAME",
        help="Promises in place of the scenario's: batch, chat, code, rag, research or summarise.",
        show_default=False,
    ),
]
Precision = Annotated[
    float,
    typer.Option(
        "--precision",
        metavar="PERCENT",
        help="Of the load, from one looked at to the next.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of the text.")]
NoPlots = Annotated[bool, typer.Option("--no-plots", help="Draw no plots.")]
CatalogFolder = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="DIR",
        help="A folder of your own catalog files, which add to and override the built-in ones.",
    ),
]


def with_seed(overrides: list[str] | None, seed: int | None) -> list[str]:
    """Return the overrides of a scenario, the seed after them if one is asked for."""
    return [*(overrides or ()), *(() if seed is None else (f"seed={seed}",))]
