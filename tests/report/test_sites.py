"""Several sites on the terminal and in plots: side by side, and each in a picture of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory_sim.factory.run import Run, simulate
from factory_sim.report import folder, plots
from factory_sim.report.layout import COLUMNS, rendered
from factory_sim.report.sites import by_site, sites
from factory_sim.report.summary import lines
from tests.factory.several_sites import NAMES, PARIS, ROME, two

CAPPED = {
    "sites": {
        "paris": PARIS,
        "rome": ROME | {"grid_limit": {"steps": [["0 s", "9 kW"], ["8 s", "4.4 kW"]]}},
    },
    "provisioning": {"oversubscribe": 4.0},
    "duration": "15 s",
}


@pytest.fixture(scope="module")
def run() -> Run:
    return simulate(two(**CAPPED))


def test_sites_stand_beside_each_other(run: Run) -> None:
    table = [line.split() for line in rendered(sites(run.summary))]
    assert table[0] == ["paris", "rome"]
    rows = {" ".join(row[:2]): row for row in table}
    assert rows["GPUs 8"] == ["GPUs", "8", "8"]
    for name, figure in zip(NAMES, rows["PUE 1.200"][1:], strict=True):
        assert figure == f"{run.summary['sites'][name]['pue']:.3f}"
    assert " ".join(rows["cap 40.0"]) == "cap 40.0 kW 4.40 kW to 9.00 kW"
    bill = run.summary["sites"]["rome"]["energy_usd_per_million_output_tokens"]
    assert float(rows["USD per"][-1]) == pytest.approx(bill, rel=5e-3)


def test_the_summary_tells_of_all_sites_and_of_each(run: Run) -> None:
    told = list(lines("two", run.summary, run.record))
    headings = [line for line in told if line and not line.startswith(" ")]
    assert "Building" not in headings
    at = [headings.index(h) for h in ("Power", "Sites", "All buildings", "Building of rome")]
    assert at == sorted(at)
    assert any(line.startswith("  all sites  ") for line in told)
    assert any("the limit of the rome/meter" in line for line in told)
    assert max(map(len, told)) <= COLUMNS


def test_each_site_has_its_own_pictures(run: Run, tmp_path: Path) -> None:
    saved = folder.read(folder.save(run, tmp_path / "run", plots=False))
    drawn = plots.plots_of(saved)
    assert {f"power-{name}" for name in NAMES} <= set(drawn) and "power" not in drawn
    assert "cooling-rome" in drawn and "cooling-paris" not in drawn  # it has a constant PUE
    assert "latency" in drawn and "latency-rome" not in drawn
    heads = {name: drawn[f"power-{name}"](saved).texts for name in NAMES}
    for name, (question, answer) in heads.items():
        assert question.get_text() == f"{name}: Does the site stay under its power cap?"
        assert ("clocks never lowered" in answer.get_text()) == (name == "paris")
    for draw in drawn.values():
        assert draw(saved).axes


def test_a_site_is_seen_as_a_run_of_its_own(run: Run, tmp_path: Path) -> None:
    saved = folder.read(folder.save(run, tmp_path / "run", plots=False))
    seen = by_site(saved)
    assert list(seen) == list(NAMES)
    rome = seen["rome"]
    assert rome.summary["pue"] == run.summary["sites"]["rome"]["pue"]
    assert rome.record["gpus"] == 8 and saved.record["gpus"] == 16
    series = rome.timeseries["grid_power_mw"]
    assert (series == run.timeseries["site/rome.grid_power_mw"]).all()
    assert not [name for name in rome.timeseries if "/" in name]
