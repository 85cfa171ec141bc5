"""The frozen, validated description of a site; nothing here runs."""

from __future__ import annotations

from factory_sim.scenario.load import built_in, json_schema, load, scenario_from, to_yaml
from factory_sim.scenario.scenario import Scenario

__all__ = ["Scenario", "built_in", "json_schema", "load", "scenario_from", "to_yaml"]
