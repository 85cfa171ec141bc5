"""`factory-sim validate`: what was measured beside what the simulator makes of the same."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory_sim.cli.options import CatalogFolder, Workers
from factory_sim.cli.progress import count_bar
from factory_sim.errors import InputError, Problem

if TYPE_CHECKING:
    from factory_sim.validation.case import Case
    from factory_sim.validation.runner import Outcome


def validate(
    cases: Annotated[
        Path | None,
        typer.Argument(
            metavar="CASES",
            help="Your own cases, a YAML file; without one, the built-in cases.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write every figure and the summary to this file too."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Run every row of the public tables in this folder instead of the cases.",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --data: write the page on validation, and its plots beside it.",
        ),
    ] = None,
    workers: Workers = None,
    catalog: CatalogFolder = None,
) -> None:
    """Simulate what others have measured, and say how far off the simulator is.

    The errors are simulated over measured, less one. A case that cannot be run is listed with
    its reason.
    """
    from factory_sim.report.comparison import lines
    from factory_sim.report.file import check_file, write_file
    from factory_sim.validation.compare import document

    _options_agree(cases, data, page)
    for path, option in ((json_file, "--json"), (page, "--page")):
        if path is not None:
            check_file(path, option)
    sources = _sources(cases, data)
    if page is not None:
        sources["built-in"] = _built_in()
        notes = _notes(page)
    asked = [case for own in sources.values() for case in own]
    outcomes = iter(_run(asked, workers, catalog))
    found = {name: [next(outcomes) for _ in own] for name, own in sources.items()}
    built_in = found.pop("built-in") if page is not None else []
    shown = [outcome for own in found.values() for outcome in own]
    if json_file is not None:
        text = json.dumps(document(shown), indent=2, ensure_ascii=False, allow_nan=False)
        write_file(json_file, text + "\n", "--json")
    if page is not None:
        _write_page(page, found, built_in, notes, catalog)
    for line in lines(shown):
        print(line)


def _options_agree(cases: Path | None, data: Path | None, page: Path | None) -> None:
    problems = []
    if cases is not None and data is not None:
        problems.append(Problem("--data", "runs the public tables; leave out it or CASES"))
    if page is not None and data is None:
        problems.append(
            Problem("--page", "is about the public tables; give their folder with --data")
        )
    if problems:
        raise InputError(problems)


def _sources(cases: Path | None, data: Path | None) -> dict[str, list[Case]]:
    """Return the cases to run, by source where there are several."""
    from factory_sim.validation.case import read_cases
    from factory_sim.validation.sources import SOURCES, source_cases

    if data is not None:
        return {name: source_cases(name, data) for name in SOURCES}
    return {"": _built_in() if cases is None else read_cases(cases)}


def _built_in() -> list[Case]:
    from factory_sim.validation.builtin import builtin_cases

    return builtin_cases()


def _run(cases: Sequence[Case], workers: int | None, catalog: Path | None) -> list[Outcome]:
    from factory_sim.catalog import load_catalog
    from factory_sim.validation.runner import run_cases

    if catalog is not None:
        load_catalog(catalog)  # what is wrong with it is said once, not as the reason of each case
    with count_bar(sys.stderr, "cases") as bar:
        progress = None if bar is None else (lambda done: bar(done, len(cases)))
        return run_cases(
            cases, folder=catalog, workers=workers or os.cpu_count() or 1, progress=progress
        )


def _notes(page: Path) -> str:
    """Return what people have written about the weak places; kept apart from what is made."""
    path = page.with_name(f"{page.stem}_notes.md")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            Problem(str(path), "is missing; say there where it is weak and why: the page holds it")
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), f"cannot be read: {error}")) from None


def _write_page(
    page: Path,
    sources: dict[str, list[Outcome]],
    built_in: list[Outcome],
    notes: str,
    catalog: Path | None,
) -> None:
    from factory_sim.catalog import load_catalog
    from factory_sim.report.validation_page import write_page

    write_page(page, sources, built_in, notes, load_catalog(catalog))
