"""`factory-sim plan`, as typed."""

from __future__ import annotations

import json

import pytest
import yaml

from factory_sim.scenario.load import to_yaml
from tests.experiments.test_planning import site

QUICK = ("--workers", "1", "--replications", "1", "--precision", "20")
ONE = ("--systems", "dgx-h100", "--precisions", "bf16,nvfp4", "--max-num-seqs", "4")
ALONE = ("--parallelism", "tp8", "--clocks", "100")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.yaml").write_text(to_yaml(site()))
    return tmp_path


def test_ranks_candidates_and_says_what_became_of_the_others(factory_sim_command, here):
    code, out, err = factory_sim_command("plan", "site.yaml", *QUICK, *ONE, *ALONE)
    assert (code, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    title, heads, first, *rest = out.splitlines()
    assert title == "The most goodput per MW of a site with 60.0 kW, every promise kept"
    assert heads.split()[:1] == ["goodput/s/MW"] and first.split()[0] == "1"
    assert "1 cannot be (precision 1)" in " ".join(" ".join(rest).split())
    folder = here / "sweeps" / "plan"
    assert {path.name for path in (folder / "plots").iterdir()} >= {"front_goodput.png"}
    (kept,) = (folder / "candidates").iterdir()
    assert yaml.safe_load(kept.read_text())["racks"][0]["system"] == "dgx-h100"
    code, out, _ = factory_sim_command("check", str(kept))
    assert code == 0


def test_where_nobody_keeps_the_promises_the_exit_code_says_so(factory_sim_command, here):
    never = ("--set", "deployments.d.slo={ttft: 1 ms}")
    code, out, err = factory_sim_command("plan", "site.yaml", *QUICK, *ONE, *ALONE, *never)
    assert (code, err) == (1, "")
    assert "best                   none: no candidate keeps the promises at any traffic" in out


def test_json_tells_it_as_data(factory_sim_command, here):
    options = ("--json", "--no-plots", "--objective", "energy")
    code, out, err = factory_sim_command("plan", "site.yaml", *QUICK, *ONE, *ALONE, *options)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["objective"] == "energy" and found["grid_limit_mw"] == 0.06
    assert found["statuses"] == {"ranked": 1, "refused: precision": 1}
    assert found["candidates"][0]["energy_per_output_token_j"] > 0.0
    assert any(point["front_energy"] for point in found["points"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--systems", "dgx-h10"), "unknown system 'dgx-h10'; did you mean"),
        (("--parallelism", "8"), "--parallelism: write it as tp4"),
        (("--clocks", "fast"), "--clocks: percentages such as 70,85"),
        (("--max-num-seqs", "0"), "--max-num-seqs: whole numbers"),
        (("--prefill", "some"), "--prefill: percentages"),
        (("--precisions", "fp7"), "fp7"),
        (("--objective", "beauty"), "beauty"),
        (("--objective", "carbon", *ONE, *ALONE), "no 'gco2_per_million_output_tokens'"),
    ],
)
def test_what_is_wrong_is_said_plainly(factory_sim_command, here, options, said):
    code, out, err = factory_sim_command("plan", "site.yaml", *QUICK, *options)
    assert code == 2 and out == "" and said in " ".join(err.split())
