"""`factory-sim claims`: what is said of AI factories, and what the simulator makes of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from factory_sim.cli.options import Workers
from factory_sim.cli.progress import count_bar


def claims(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="CLAIMS",
            help="Claims of your own, a YAML file each; without one, those that ship.",
            show_default=False,
        ),
    ] = None,
    page_file: Annotated[
        Path | None,
        typer.Option(
            "--page", metavar="FILE", help="Write a page on them too, and its plots beside it."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every figure to this file.")
    ] = None,
    workers: Workers = None,
) -> None:
    """Simulate claims on throughput, latency and power, and show the gap to what is claimed."""
    from factory_sim.experiments.claims import built_in_claims, examine, read_claim
    from factory_sim.report.claims import lines, page, picture
    from factory_sim.report.file import check_file, write_file
    from factory_sim.report.plots.fronts import png

    for path, option in ((json_file, "--json"), (page_file, "--page")):
        if path is not None:
            check_file(path, option)
    asked = [read_claim(path) for path in files or built_in_claims()]
    total = sum(len(claim.runs) for claim in asked)
    results = []
    with count_bar(sys.stderr, "runs") as bar:
        report = (lambda done: bar(done, total)) if bar is not None else None
        for result in examine(asked, workers or os.cpu_count() or 1, report):
            results.append(result)
    for index, result in enumerate(results):
        if index:
            print()
        for line in lines(result):
            print(line)
    if page_file is not None:
        write_file(page_file, page(results, "factory-sim claims --page docs/claims.md"), "--page")
        for result in results:
            if result.claim.curve is not None:
                write_file(page_file.with_name(picture(result)), png(result), "--page")
    if json_file is not None:
        content = {
            result.claim.title: {
                found.figure.what: {"claimed": found.range, "simulated": found.simulated}
                for found in result.found
                if found.simulated == found.simulated  # else it is nowhere on the curve
            }
            for result in results
        }
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_file(json_file, text + "\n", "--json")
