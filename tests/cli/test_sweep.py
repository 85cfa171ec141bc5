"""`factory-sim sweep` and `compare`, as typed."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml

from tests.experiments.sweeps import RATE, REPLICAS, SMALL, small_sweep


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    sweep = small_sweep(scenario="small.yaml")
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    return tmp_path


def test_prints_a_line_for_each_point_and_keeps_everything(factory_sim_command, here):
    code, out, err = factory_sim_command("sweep", "sweep.yaml", "--workers", "1")
    assert (code, err) == (0, "")
    title, heading, five, twenty, *rest = out.splitlines()
    assert title == "tiny: 2 points, 4 runs"
    assert heading.split() == ["rate", "TTFT", "p99", "±", "TPOT", "p99", "±", "J/token", "±"]
    assert five.startswith("  5 /s ") and twenty.startswith("  20 /s ")
    assert rest[-1].split() == ["every", "figure", "sweeps/tiny/index.parquet"]
    assert len(pd.read_parquet("sweeps/tiny/index.parquet")) == 4
    drawn = sorted(path.name for path in (here / "sweeps/tiny/plots").iterdir())
    assert "ttft_ms.p99.png" in drawn
    assert all(len(line) <= 80 for line in out.splitlines())


def test_json_has_points_and_runs(factory_sim_command, here):
    arguments = ("sweep", "sweep.yaml", "--workers", "1", "--json", "--no-plots", "--out", "o")
    code, out, err = factory_sim_command(*arguments)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [point["runs"] for point in found["points"]] == [2, 2]
    assert [run["seed"] for run in found["runs"]] == [3, 4, 3, 4]
    assert found["axes"] == {RATE: [f"{RATE} [/s]"]}
    assert not (here / "o" / "plots").exists()


def test_runs_that_fail_are_said_by_the_exit_code(factory_sim_command, here):
    sweep = small_sweep(axes={REPLICAS: [1, 9]}, replications=1)
    (here / "poisoned.yaml").write_text(yaml.safe_dump(sweep))
    code, out, err = factory_sim_command("sweep", "poisoned.yaml", "--workers", "1", "--no-plots")
    assert (code, err) == (3, "")
    assert "  1 failed               deployments.d.replicas: " in out


def test_a_mistake_is_said_before_anything_runs(factory_sim_command, here):
    (here / "bad.yaml").write_text(yaml.safe_dump(small_sweep(replications=0, axis=1)))
    code, out, err = factory_sim_command("sweep", "bad.yaml")
    assert (code, out) == (2, "")
    assert "error: bad.yaml: replications: must be greater than or equal to 1, not 0\n" in err
    assert "error: bad.yaml: axis: unknown key; did you mean 'axes'?\n" in err
    code, _, err = factory_sim_command("sweep", "sweep.yaml", "--dask", "x", "--workers", "2")
    assert (code, err) == (
        2,
        "error: --workers: a cluster has workers of its own; leave it out\n",
    )
    assert not (here / "sweeps").exists()


def test_compare_prints_tables_or_json(factory_sim_command, here):
    (here / "two.yaml").write_text(yaml.safe_dump(SMALL | {"name": "two", "duration": "6 s"}))
    given = ("compare", "small.yaml", "two.yaml", "--replications", "2", "--workers", "1")
    code, out, err = factory_sim_command(*given)
    assert (code, err) == (0, "")
    assert out.startswith("two beside small: 2 runs each, with the same seeds\n")
    code, out, err = factory_sim_command(*given, "--json")
    assert (code, err) == (0, "")
    assert {row["group"] for row in json.loads(out)["rows"]} >= {"figures", "time_lost"}


def test_a_sweep_has_a_schema(factory_sim_command):
    code, out, err = factory_sim_command("schema", "sweep")
    assert (code, err) == (0, "")
    assert {"axes", "design", "set", "stop"} <= set(json.loads(out)["properties"])
