"""`factory-sim compare`: scenarios side by side, with the same seeds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from factory_sim.cli.answered import answered
from factory_sim.cli.options import Dask, Kept, Workers
from factory_sim.cli.progress import count_bar


def compare(
    scenarios: Annotated[
        list[Path],
        typer.Argument(
            metavar="A.yaml B.yaml ...",
            help="Scenarios; the first is what the others are compared with.",
            show_default=False,
        ),
    ],
    replications: Annotated[
        int, typer.Option(min=2, metavar="N", help="Runs of each, every one with its own seed.")
    ] = 5,
    workers: Workers = None,
    dask: Dask = None,
    out: Kept = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")] = False,
) -> None:
    """Run scenarios with the same seeds; show what differs, how surely, and where it comes from."""
    from factory_sim.experiments.compare import FOLDER, run_compare
    from factory_sim.experiments.runs.crews import crew_of
    from factory_sim.report.side_by_side import blocks
    from factory_sim.report.sweep import records

    with crew_of(workers, dask) as crew, count_bar(sys.stderr, "runs") as progress:
        compared = run_compare(scenarios, crew, replications, out, progress)
    answered(
        FOLDER if out is None else out,
        "Side by side",
        blocks(compared, replications),
        lambda: {"replications": replications, "rows": records(compared)},
        json,
    )
