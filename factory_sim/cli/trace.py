"""`factory-sim trace` and `factory-sim film`: a run that was recorded, played again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from factory_sim.errors import InputError, Problem

Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
From = Annotated[
    str,
    typer.Option("--from", metavar="TIME", help="Of simulated time, such as '90 s' or '5 min'."),
]
For = Annotated[
    str,
    typer.Option("--for", metavar="TIME", help="How long from there."),
]


def trace(
    run: Folder,
    start: From = "0 s",
    length: For = "1 min",
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="What to write.")] = Path(
        "trace.json.gz"
    ),
) -> None:
    """Write a run as a trace for ui.perfetto.dev or chrome://tracing: batches, queues, counters."""
    from factory_sim.report.file import write_file
    from factory_sim.report.folder import read
    from factory_sim.report.replay.trace import trace as traced

    write_file(out, traced(read(run), *_window(start, length)), "--out")
    print(f"trace: {out} (open it at https://ui.perfetto.dev, or chrome://tracing)")


def film(
    run: Folder,
    replica: Annotated[int, typer.Option(metavar="N", help="Whose batch.")] = 0,
    deployment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of which; without, the first.", show_default=False),
    ] = None,
    start: From = "0 s",
    length: For = "30 s",
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="What to write.")] = Path(
        "film.html"
    ),
) -> None:
    """Write one replica's batch as a page that plays: who waits, prefills, decodes; its cache."""
    from factory_sim.report.file import write_file
    from factory_sim.report.folder import read
    from factory_sim.report.replay.film import film as filmed

    page = filmed(read(run), deployment, replica, *_window(start, length))
    write_file(out, page.encode(), "--out")
    print(f"film: {out}")


def _window(start: str, length: str) -> tuple[float, float]:
    start_s = _seconds(start, "--from", 0.0)
    return start_s, start_s + _seconds(length, "--for", 1e-9)


def _seconds(text: str, option: str, least: float) -> float:
    from factory_sim.units import parse

    try:
        found = parse(text, "s", "250 ms")
    except ValueError as error:
        raise InputError(Problem(option, str(error))) from None
    if found < least:
        raise InputError(Problem(option, f"must not be {'negative' if found < 0 else 'nothing'}"))
    return found
