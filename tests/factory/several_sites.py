"""Two small sites in one scenario, and each of them as a scenario that knows of no other."""

from __future__ import annotations

import copy
from typing import Any

from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario

NAMES = ("paris", "rome")

PARIS = {
    "grid_limit": "40 kW",
    "pue": 1.2,
    "price": "0.05 USD/kWh",
    "carbon": "50 g/kWh",
}
ROME = {
    "grid_limit": "40 kW",
    "cooling": "air",
    "weather": {"dry_bulb": "30 degC", "humidity": "40 %"},
    "price": {"steps": [["0 s", "0.12 USD/kWh"], ["15 s", "0.30 USD/kWh"]]},
    "carbon": "300 g/kWh",
}


def deployment(**changes: Any) -> dict[str, Any]:
    return {"model": "llama-3.1-8b", "replicas": 2, "router": "round-robin"} | changes


def workload(to: str, rate: str, prompt: int, output: int) -> dict[str, Any]:
    """Return requests that come and are as chance has no hand in."""
    return {
        "deployment": to,
        "arrivals": {"process": "constant", "rate": rate},
        "lengths": {"prompt": prompt, "output": output},
    }


def given(**changes: Any) -> dict[str, Any]:
    """Return a scenario of a server in Paris and another in Rome; `changes` replace its fields."""
    racks = {"system": "dgx-h100", "count": 1, "servers_per_rack": 1}
    return {
        "name": "two",
        "duration": "30 s",
        "warmup": "5 s",
        "sites": {"paris": PARIS, "rome": ROME},
        "racks": [{"site": name} | racks for name in NAMES],
        "power": {"period": "1 s"},
        "deployments": {"north": deployment(site="paris"), "south": deployment(site="rome")},
        "workload": {
            "n": workload("north", "40 /s", 400, 200),
            "s": workload("south", "30 /s", 900, 100),
        },
    } | copy.deepcopy(changes)


def two(**changes: Any) -> Scenario:
    return validate(Scenario, given(**changes))


def alone(name: str, **changes: Any) -> Scenario:
    """Return the scenario of `two` without all that is at other sites, written as one site."""
    whole = given(**changes)
    whole["site"] = whole.pop("sites")[name]
    for key in ("deployments", "training"):
        whole[key] = {k: v for k, v in whole.get(key, {}).items() if v["site"] == name}
    whole["racks"] = [row for row in whole["racks"] if row["site"] == name]
    for part in (*whole["racks"], *whole["deployments"].values(), *whole["training"].values()):
        del part["site"]
    if not whole["training"]:
        del whole["training"]
    whole["workload"] = {
        k: v for k, v in whole["workload"].items() if v["deployment"] in whole["deployments"]
    }
    if "failures" in whole:
        own = [w for w in whole["failures"]["schedule"] if w["what"].split("/")[0] == name]
        for when in own:
            when["what"] = when["what"].split("/", 1)[1]
        whole["failures"]["schedule"] = own
        if not own:
            del whole["failures"]
    if "network" in whole and name == "paris":
        del whole["network"]  # a link of Rome's
    return validate(Scenario, whole)
