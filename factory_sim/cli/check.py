"""`factory-sim check`: what a scenario comes to, without running it."""

from __future__ import annotations

from factory_sim.cli.options import CatalogFolder, Overrides, Scenario
from factory_sim.errors import InputError
from factory_sim.report.layout import Entry


def check(
    scenario: Scenario = None, overrides: Overrides = None, catalog: CatalogFolder = None
) -> None:
    """Say what a scenario comes to, and every problem it has, without running it."""
    import factory_sim

    report = factory_sim.check(factory_sim.load(scenario, overrides or [], catalog=catalog))
    for index, (heading, rows) in enumerate(report.sections.items()):
        print(f"\n{heading}" if index else heading)
        for label, text in rows.items():
            for line in Entry(label, text).lines():
                print(line)
    if report.problems:
        raise InputError(report.problems)
