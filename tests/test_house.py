"""The rules of the house, held by reading the house itself."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import factory_sim
from factory_sim.catalog import Fact, load_catalog
from factory_sim.factory.build import STEP_TIMES
from factory_sim.factory.dispatch import DISPATCH
from factory_sim.factory.engine.batching import BATCHING
from factory_sim.factory.power import POLICIES
from factory_sim.factory.routing import ROUTING
from factory_sim.factory.scaling import SCALING
from factory_sim.scenario.autoscaling import Reactive, Scheduled
from factory_sim.scenario.deployment import Deployment
from factory_sim.scenario.dispatch import Service
from factory_sim.scenario.engine import EngineSpec
from factory_sim.scenario.load import load, plain, scenario_from
from factory_sim.scenario.router import Router
from factory_sim.scenario.site import Power

ROOT = Path(__file__).parents[1]
PACKAGE = Path(factory_sim.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (
    {"cli"},
    {"app"},
    {"report"},
    {"experiments", "validation", "probe"},
    {"factory"},
    {"metrics", "economics"},
    {"workload", "physics"},
    {"scenario"},
    {"catalog"},
    {"units", "errors", "frozen", "atomic", "yaml_text"},
)
"""The rooms from the roof to the ground. Imports go down only, or stay in the room."""

FLOOR = {room: -depth for depth, rooms in enumerate(FLOORS) for room in rooms}


def name(source: Path) -> str:
    return source.relative_to(PACKAGE).as_posix()


def room_of(source: Path) -> str:
    return source.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(source: Path) -> Iterator[str]:
    """Yield the rooms a file imports from, imports inside functions included."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: imports are absolute here"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            package, _, rest = module.partition(".")
            room = rest.partition(".")[0]
            # `from factory_sim import load`: the public front door, a thing and not a room.
            if package == "factory_sim" and room in FLOOR:
                yield room


def test_every_file_is_in_a_room() -> None:
    assert {room_of(source) for source in SOURCES} - {"__init__"} <= set(FLOOR)


def test_imports_go_down_only() -> None:
    up = [
        f"{name(source)} imports {room}"
        for source in SOURCES
        if room_of(source) != "__init__"
        for room in imported_rooms(source)
        if room != room_of(source)
        and FLOOR[room] >= FLOOR[room_of(source)]
        # The ground floor is single files that may know one another.
        and FLOOR[room_of(source)] != min(FLOOR.values())
    ]
    assert up == []


def test_the_front_door_is_for_the_roof_alone() -> None:
    below = [
        name(source)
        for source in SOURCES
        if room_of(source) not in ("cli", "__init__")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module == "factory_sim"
        and {alias.name for alias in node.names} - {"__version__"}
    ]
    assert below == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        name(source)
        for source in SOURCES
        if not ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_nothing_is_left_to_do() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")
    files = [*SOURCES, *PACKAGE.rglob("*.yaml"), *(ROOT / "tests").rglob("*.py")]
    left = [
        f"{file}: {word}"
        for file in files
        for word in words
        if word in file.read_text(encoding="utf-8")
    ]
    assert left == []


def choices(model: type[BaseModel], field: str) -> set[str]:
    """Return the names that a scenario's field takes."""
    found: set[str] = set()
    parts: list[Any] = [model.model_fields[field].annotation]
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            found.add(part)
        parts.extend(get_args(part))
    return found


@pytest.mark.parametrize(
    ("model", "field", "registry"),
    [
        (EngineSpec, "batching", BATCHING),
        (Router, "policy", ROUTING),
        (Deployment, "step_time", STEP_TIMES),
        (Power, "policy", POLICIES),
    ],
)
def test_a_scenario_offers_what_the_engine_has(
    model: type[BaseModel], field: str, registry: dict[str, Any]
) -> None:
    assert choices(model, field) == set(registry)


def test_a_scenario_offers_the_autoscaling_that_the_engine_has() -> None:
    assert choices(Reactive, "policy") | choices(Scheduled, "policy") == set(SCALING)


def test_a_scenario_offers_the_dispatch_that_the_factory_has() -> None:
    kinds = get_args(get_args(Service)[0])
    assert set().union(*(choices(kind, "policy") for kind in kinds)) == set(DISPATCH)


def facts(thing: object, path: str) -> Iterator[tuple[str, Fact[Any]]]:
    if isinstance(thing, Fact):
        yield path, thing
    elif isinstance(thing, BaseModel):
        for key, value in thing:
            yield from facts(value, f"{path}.{key}")
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from facts(value, f"{path}.{key}")


def test_every_figure_of_the_catalogue_has_a_kind_and_a_source() -> None:
    catalog = load_catalog()
    found = [
        figure
        for section in ("accelerators", "systems", "models", "engines", "families", "power")
        for key, entry in getattr(catalog, section).items()
        for figure in facts(entry, f"{section}.{key}")
    ]
    assert len(found) > 500
    bare = [path for path, fact in found if not (fact.kind and fact.source.strip())]
    bare += [key for key, entry in catalog.models.items() if not (entry.kind and entry.source)]
    bare += [key for key, e in catalog.lengths.items() if not (e.get("kind") and e.get("source"))]
    assert bare == []


SWEEPS = {"load_sweep", "sweep_example"}
"""Files beside the scenarios that are sweeps over one."""


@pytest.mark.parametrize(
    "config",
    [path for path in sorted((ROOT / "configs").glob("*.yaml")) if path.stem not in SWEEPS],
    ids=lambda p: p.stem,
)
def test_every_scenario_that_ships_lays_out(config: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_toks,output_toks\n0.0,374,44\n4.3,396,109\n")
    overrides = []
    if "process: trace" in config.read_text(encoding="utf-8"):
        overrides = [f"workload.chat.arrivals.path={trace}"]
    given = load(config, overrides)
    # As a run folder, a sweep or a size keep it: it must come back, and still be possible.
    scenario = scenario_from(json.loads(json.dumps(plain(given))))
    assert scenario == given
    assert scenario.name == config.stem
    assert not factory_sim.check(scenario).problems


def test_the_tests_run_what_is_installed() -> None:
    # A missing file of the wheel must not be made up for by the checkout next to the tests.
    url = importlib.metadata.distribution("factory-sim").read_text("direct_url.json") or "{}"
    editable = json.loads(url).get("dir_info", {}).get("editable", False)
    assert (PACKAGE.parent == ROOT) == editable


@pytest.mark.slow
def test_in_ci_a_test_without_shared_data_fails(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_one.py").write_text(
        "import pytest\n"
        "@pytest.mark.skipif(True, reason='there is no ../shared')\n"
        "def test_data(): pass\n"
        "@pytest.mark.skipif(True, reason='root may write anywhere')\n"
        "def test_other(): pass\n"
    )

    def closing_line(**environment: str) -> str:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            cwd=tmp_path,
            env={key: value for key, value in os.environ.items() if key != "CI"} | environment,
            capture_output=True,
            text=True,
        )
        return run.stdout.strip().splitlines()[-1].rpartition(" in ")[0]

    assert closing_line() == "2 skipped"
    assert closing_line(CI="true") == "1 skipped, 1 error"
