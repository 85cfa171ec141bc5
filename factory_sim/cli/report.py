"""`factory-sim report`: a run, or several, as a page to send on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from factory_sim.cli.warned import warnings_on_stderr


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders; the first is what others are held to."),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FILE", help="What to write: .html, .md or .pdf."),
    ] = Path("report.html"),
) -> None:
    """Write what runs came to as one page: the answer first, then why, and what it rests on."""
    from factory_sim.report.page.write import write_page

    with warnings_on_stderr():
        beside = write_page(runs, out)
    print(f"report: {out}" + ("" if beside is None else f", its plots: {beside}"))
