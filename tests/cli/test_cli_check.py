"""`factory-sim check` and `schema`: a description, its problems, its schema."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import factory_sim.scenario
from factory_sim.errors import Problem


@pytest.fixture
def report(monkeypatch):
    """What `factory_sim.check` finds."""
    report = SimpleNamespace(
        sections={
            "Site": {"grid limit": "200 kW", "racks": "5 of dgx-h100 fit"},
            "chat": {"KV cache": "1,234,567 tokens"},
        },
        problems=[],
    )
    monkeypatch.setattr(factory_sim, "check", lambda _: report, raising=False)
    return report


def test_a_sound_scenario_is_described(engine, report, factory_sim_command):
    assert factory_sim_command("check", "site.yaml", "--set", "a.b=1 kW") == (
        0,
        "Site\n"
        "  grid limit             200 kW\n"
        "  racks                  5 of dgx-h100 fit\n"
        "\n"
        "chat\n"
        "  KV cache               1,234,567 tokens\n",
        "",
    )
    assert engine.asked["overrides"] == ["a.b=1 kW"]


def test_problems_follow_on_stderr(engine, report, factory_sim_command):
    report.problems = [Problem("racks", "none fits"), Problem("site", "too small")]
    code, out, err = factory_sim_command("check")
    assert code == 2
    assert out.startswith("Site\n")
    assert err == "error: racks: none fits\nerror: site: too small\n"


def test_the_schema_is_json(factory_sim_command, monkeypatch):
    schema = {"type": "object", "title": "Scénario"}
    monkeypatch.setattr(factory_sim.scenario, "json_schema", lambda: schema, raising=False)
    code, out, err = factory_sim_command("schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == schema


def test_a_failure_of_nothing_is_found_without_a_run(factory_sim_command):
    code, _, err = factory_sim_command(
        "check", "--set", "failures={schedule: [{at: 1 min, what: cdu-0}]}"
    )
    assert code == 2
    assert err.startswith("error: failures.schedule.0.what: this site has no 'cdu-0'; it has, for ")
