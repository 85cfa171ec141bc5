"""`factory-sim size`, as typed."""

from __future__ import annotations

import json

import pytest
import typer
import yaml

from factory_sim.cli.app import app
from factory_sim.experiments.sizing.promises import PRESETS
from factory_sim.scenario.load import override
from tests.experiments.sweeps import SMALL

BUSY = {
    "duration": "30 s",
    "deployments.d.engine": {"profile": "vllm", "max_num_seqs": 1},
    "deployments.d.slo": {"ttft": "200 ms", "percentile": 90},
    "workload.w.arrivals.rate": "20 /s",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = json.loads(json.dumps(SMALL))
    for path, value in BUSY.items():
        override(given, path, value)
    (tmp_path / "busy.yaml").write_text(yaml.safe_dump(given))
    return tmp_path


def test_says_the_answer_what_would_be_perfect_and_what_binds(factory_sim_command, here):
    arguments = ("size", "busy.yaml", "--workers", "1", "--write", "answer.yaml")
    code, out, err = factory_sim_command(*arguments)
    assert (code, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    title, answer, *rest = out.splitlines()
    assert title == "The fewest replicas that keep every promise at this traffic"
    count = int(answer.split()[1])
    assert answer.split()[2:7] == ["replicas,", "1", "rack", "with", "8"]
    labels = [line[2:24].strip() for line in rest if line[2] != " "]
    assert labels[:4] == ["promises", "perfect system", "queueing formula", "breaks first"]
    assert f"at {count - 1} replica" in out and "over 200 ms" in out
    (marked,) = [line.split() for line in rest if line.split()[1:2] == ["answer"]]
    assert marked[0] == str(count)
    sized = yaml.safe_load((here / "answer.yaml").read_text())
    assert sized["deployments"]["d"]["replicas"] == count
    code, out, _ = factory_sim_command("check", "answer.yaml")
    assert code == 0


def test_says_where_the_search_ended_without_an_edge(factory_sim_command, here):
    options = ("--for", "cap", "--precision", "25", "--replications", "1", "--set")
    easy = "deployments.d.slo={ttft: 1 h}"
    code, out, err = factory_sim_command("size", "busy.yaml", "--workers", "1", *options, easy)
    assert (code, err) == (0, "")
    told = " ".join(out.split())
    assert "breaks first nothing up to twice the best that a perfect system does" in told
    assert all(len(line) <= 80 for line in out.splitlines())


def test_json_tells_it_as_data(factory_sim_command, here):
    options = ("--for", "cap", "--precision", "20", "--replications", "1", "--json", "--set")
    arguments = ("size", "busy.yaml", "--workers", "1", *options, "duration=2 min")
    code, out, err = factory_sim_command(*arguments)
    assert (code, err) == (0, "")
    found = json.loads(out)
    (answer,) = [row for row in found["looked_at"] if row["answer"]]
    assert found["unit"] == "load" and found["answer"] == answer["load"]
    assert answer["met"] and answer["deployments.d.ttft_ms"] <= 200.0
    assert found["breaks_first"]["promise"] == "deployments.d.ttft"
    assert found["breaks_first"]["value_ms"] > found["breaks_first"]["limit_ms"] == 200.0
    assert sum(found["time_lost_beyond"].values()) == pytest.approx(1.0)


def test_the_seed_and_the_fields_of_the_command_line_count(factory_sim_command, here):
    options = ("--workers", "1", "--replications", "1", "--json")
    told = []
    for more in ((), ("--seed", "9"), ("--set", "workload.w.arrivals.rate=40 /s")):
        _, out, _ = factory_sim_command("size", "busy.yaml", *options, *more)
        told.append(json.loads(out))
    plain, seeded, busier = told
    assert plain["looked_at"] != seeded["looked_at"]
    assert busier["answer"] > plain["answer"]


def test_json_leaves_out_what_is_not_there(factory_sim_command, here):
    # Eight replicas that answer nobody in time, and a queue that turns most away.
    never = {"deployments.d.slo": "{e2e: 1 ms}", "workload.w.timeout": "10 ms"}
    sets = [part for path, value in never.items() for part in ("--set", f"{path}={value}")]
    limit = ("--set", "site.grid_limit=15 kW", "--json", "--replications", "1")
    code, out, err = factory_sim_command("size", "busy.yaml", "--workers", "1", *sets, *limit)
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert "answer" not in found and "value_ms" not in found["breaks_first"]
    assert not any("deployments.d.e2e_ms" in row for row in found["looked_at"])


def test_where_nothing_keeps_the_promises_the_exit_code_says_so(factory_sim_command, here):
    options = ("--set", "deployments.d.slo={ttft: 1 ms}", "--set", "site.grid_limit=15 kW")
    code, out, err = factory_sim_command("size", "busy.yaml", "--workers", "1", *options)
    assert (code, err) == (1, "")
    assert "answer none: no size that fits keeps the promises" in " ".join(out.split())
    assert "what binds room: the grid limit, or the row of racks," in " ".join(out.split())
    code, out, _ = factory_sim_command("size", "busy.yaml", "--for", "cap", *options[:2])
    assert code == 1
    assert "what binds the promise itself, which even this little" in " ".join(out.split())


def test_mistakes_are_said(factory_sim_command, here):
    for arguments, said in (
        (("--slo", "fast"), "error: --slo: 'fast' is none of batch, chat"),
        (("--precision", "0"), "error: --precision: must be above 0"),
        (("--set", "workload.w.arrivals={process: offline, requests: 9}", "--for", "cap"), "rate"),
    ):
        code, out, err = factory_sim_command("size", "busy.yaml", "--workers", "1", *arguments)
        assert (code, out) == (2, "")
        assert said in err
    assert not (here / "sweeps").exists()


@pytest.mark.parametrize("name", ["size", "plan", "sensitivity"])
def test_the_help_names_every_preset(name):
    command = typer.main.get_command(app).commands[name]
    (slo,) = [each for each in command.params if each.name == "slo"]
    assert slo.help.partition(": ")[2].rstrip(".").replace(" or ", ", ").split(", ") == sorted(
        PRESETS
    )
