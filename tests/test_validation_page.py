"""docs/validation.md keeps its word: its built-in cases are those that ship, as they come out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from factory_sim.report.comparison import lines
from factory_sim.validation.builtin import builtin_cases
from factory_sim.validation.runner import run_cases

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "validation.md"
EVERY = 6
"""Of the built-in cases one in so many is run again: enough to see a page that was left behind."""

Figures = dict[str, dict[str, tuple[float, float]]]


def figures(text: str) -> Figures:
    """Return measured and simulated by case and metric, from what `validate` prints."""
    found: Figures = {}
    name = ""
    for line in text.partition("\n\n")[0].splitlines()[2:]:
        if not line.startswith(" "):
            name = line
            continue
        metric, measured, simulated, *_ = line.split()
        values = (float(measured.replace(",", "")), float(simulated.replace(",", "")))
        found.setdefault(name, {})[metric] = values
    return found


@pytest.fixture(scope="module")
def page() -> str:
    if not PAGE.is_file():
        pytest.skip("docs/validation.md is not made yet: factory-sim validate --data ... --page")
    return PAGE.read_text(encoding="utf-8")


def test_the_figures_are_what_the_program_prints(page: str) -> None:
    cases = builtin_cases()
    (block,) = re.findall(r"^```text\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    told = figures(block)
    outcomes = run_cases(cases[::EVERY])
    again = figures("\n".join(lines(outcomes)))
    assert set(told) <= {case.id for case in cases}
    assert set(again) == {o.case.id for o in outcomes if o.simulated} <= set(told)
    for case, metrics in again.items():
        assert set(metrics) == set(told[case])
        for metric, values in metrics.items():
            # Printed to three digits; the last may differ between processors.
            assert values == pytest.approx(told[case][metric], rel=0.011), (case, metric)


def test_the_page_ends_with_what_people_wrote_and_shows_its_plots(page: str) -> None:
    assert page.endswith((DOCS / "validation_notes.md").read_text(encoding="utf-8").rstrip() + "\n")
    plots = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    assert plots and all((DOCS / plot).is_file() for plot in plots)


def test_figures_are_read_as_they_are_printed() -> None:
    outcomes = run_cases([case for case in builtin_cases() if "static-b1" in case.id][:2])
    assert figures("\n".join(lines(outcomes))) == {
        o.case.id: {
            metric: pytest.approx((measured, o.simulated[metric]), rel=0.005)
            for metric, measured in o.case.measured.items()
        }
        for o in outcomes
    }
