"""`factory-sim year`, as typed."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.experiments.test_year import DAY


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = copy.deepcopy(DAY)
    given["duration"] = "3 s"
    given["warmup"] = "1 s"
    given["workload"]["w"]["arrivals"]["shape"] = {"daily": [["04:00", 0.6], ["14:00", 0.7]]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(given))
    return tmp_path


def test_says_what_months_come_to_and_how_far_off_that_is(factory_sim_command, here):
    arguments = ("mine.yaml", "--days", "2", "--check-hours", "2", "--workers", "1")
    code, out, err = factory_sim_command("year", *arguments, "--growth", "50")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "day: 48 steps of 1 h from 2025-01-31 00:00 on"
    heads = ["month", "tokens", "GWh", "PUE", "USD", "t", "CO2", "missed", "capped"]
    assert lines[2].split()[: len(heads)] == heads
    assert [line.split()[0] for line in lines[3:6]] == ["2025-01", "2025-02", "whole"]
    assert "it grows by 50 % a year" in " ".join(out.split())
    assert sum(" busy " in line for line in lines) == 1
    assert lines[-1].split() == ["tables,", "plots", "years/day"]
    kept = {path.relative_to(here / "years/day").as_posix() for path in here.rglob("*.p[na]*")}
    tables = {"hours.parquet", "months.parquet", "checks.parquet"}
    plots = {"months", "load_duration", "pue", "promises"}
    assert kept >= tables | {f"plots/{name}.png" for name in plots}
    code, out, _ = factory_sim_command("year", *arguments, "--growth", "50", "--json", "--no-plots")
    told = json.loads(out)
    assert code == 0 and told["whole"]["hours"] == 48.0 and len(told["checks"]) == 2
    assert sum(month["energy_mwh"] for month in told["months"]) == told["whole"]["energy_mwh"]


def test_options_stand_for_fields_and_wrong_ones_are_named(factory_sim_command, here):
    def told(*options: str) -> str:
        code, _, err = factory_sim_command("year", "mine.yaml", "--days", "1", *options)
        assert code == 2
        return err

    assert "site.price: 60 is a bare number" in told("--price", "60")
    assert "site.carbon: " in told("--carbon", "60 USD")
    assert "racks: need " in told("--limit", "1 kW")
    assert "site.weather: cannot read" in told("--weather", "nowhere.epw")
    assert "--step: must be from a minute to a day" in told("--step", "0")
    assert "--days: from 1 to 1,000,000 steps" in told("--days", "999", "--step", "1")
    assert "--faster: must be from -90 to 9,900 %" in told("--faster", "-95")
    assert "--check-hours: must be 0 at least" in told("--check-hours", "-1")
    (here / "years/day").mkdir(parents=True)
    (here / "years/day/thesis.txt").write_text("mine")
    assert "holds something that is no" in told()


def test_the_page_names_options_that_there_are(factory_sim_command):
    page = (Path(__file__).parents[2] / "docs" / "year.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<=[ `])--[a-z][a-z-]+", page))
    code, out, _ = factory_sim_command("year", "--help")
    assert code == 0 and len(named) > 8
    assert {option for option in named if option not in out} == set()
