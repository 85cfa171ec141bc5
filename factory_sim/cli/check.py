"""`factory-sim check`: what a scenario comes to, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from factory_sim.cli.options import CatalogFolder, Overrides, Scenario
from factory_sim.errors import InputError, Problem
from factory_sim.report.layout import entry


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
    for index, (heading, rows) in enumerate(report.sections.items()):
        print(f"\n{heading}" if index else heading)
        for label, text in rows.items():
            for line in entry(label, text):
                print(line)
    if report.problems:
        raise InputError(report.problems)
