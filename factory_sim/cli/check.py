"""`factory-sim check`: what a scenario comes to, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from factory_sim.cli.options import CatalogFolder, Overrides, Scenario
from factory_sim.errors import InputError, Problem


class Report(Protocol):
    """What a check found: {section: {label: text}}, and what would stop a run."""

    @property
    def sections(self) -> Mapping[str, Mapping[str, str]]: ...
    @property
    def problems(self) -> Sequence[Problem]: ...


def check(
    scenario: Scenario = None, overrides: Overrides = None, catalog: CatalogFolder = None
) -> None:
    """Say what a scenario comes to, and every problem it has, without running it."""
    from factory_sim import load
    from factory_sim import scenario as description

    report: Report = description.check(load(scenario, overrides or [], catalog=catalog))
    console = Console()
    for heading, rows in report.sections.items():
        console.print(Text(heading, style="bold"))
        console.print(_table(rows), highlight=False)
    if report.problems:
        raise InputError(report.problems)


def _table(rows: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows.items():
        table.add_row(Text(f"  {label}"), Text(text))
    return table
