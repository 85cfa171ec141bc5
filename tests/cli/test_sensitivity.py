"""`factory-sim sensitivity`, as typed."""

from __future__ import annotations

import json

import pytest
import yaml

from factory_sim.scenario.load import override
from tests.cli.test_size import BUSY
from tests.experiments.sweeps import SMALL

QUICK = ("--workers", "1", "--replications", "2", "--precision", "20")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = json.loads(json.dumps(SMALL))
    for path, value in {**BUSY, "duration": "60 s"}.items():
        override(given, path, value)
    (tmp_path / "busy.yaml").write_text(yaml.safe_dump(given))
    return tmp_path


def test_says_what_moves_goodput_and_keeps_what_was_tried(factory_sim_command, here):
    levers = ("--lever", "overheads", "--lever", "hbm_capacity", "--lever", "weather")
    code, out, err = factory_sim_command("sensitivity", "busy.yaml", *QUICK, *levers)
    assert (code, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    title, *rest = out.splitlines()
    assert title == "What would move the most goodput that this site can give"
    moved = {line.split()[0]: line for line in rest if line.strip().endswith("%")}
    assert "+" in moved["overheads"] and "overheads -10 %" in moved["overheads"]
    assert moved["HBM"].split()[-1] == "%" and " 0 %" in moved["HBM"]
    assert "left out               weather: a constant PUE knows no weather" in out
    folder = here / "sweeps" / "sensitivity"
    drawn = {path.name for path in (folder / "plots").iterdir()}
    assert "capacity.goodput_output_tokens_per_s.png" in drawn
    code, out, _ = factory_sim_command("check", str(folder / "points" / "overheads.yaml"))
    assert code == 0


def test_json_at_the_traffic_alone(factory_sim_command, here):
    options = ("--at", "traffic", "--lever", "overheads", "--json", "--no-plots")
    code, out, err = factory_sim_command("sensitivity", "busy.yaml", *QUICK, *options)
    assert (code, err) == (0, "")
    found = json.loads(out)
    (lever,) = found["levers"]
    assert found["change"] == 0.1 and lever["lever"] == "overheads"
    assert lever["traffic.tpot_ms.p99.difference"] < 0.0
    assert not any(key.startswith("capacity.") for key in lever)
    assert not (here / "sweeps" / "sensitivity" / "plots").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lever", "hbm"), "--lever: 'hbm' is none of grid_limit"),
        (("--change", "90"), "--change: must be above 0 and at most 50 %"),
        (("--at", "noon"), "noon"),
        (("--set", "deployments.d.slo=null"), "nothing is promised"),
    ],
)
def test_what_is_wrong_is_said_plainly(factory_sim_command, here, options, said):
    code, out, err = factory_sim_command("sensitivity", "busy.yaml", *QUICK, *options)
    assert code == 2 and out == "" and said in " ".join(err.split())
