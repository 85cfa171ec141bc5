"""`factory-sim claims`, as typed."""

from __future__ import annotations

import json

import yaml

from tests.experiments.test_claims import SMALL


def test_shows_each_figure_and_writes_the_files(factory_sim_command, tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    code, out, err = factory_sim_command(
        "claims", str(tmp_path / "small.yaml"), "--page", str(page), "--json", str(figures)
    )
    assert (code, err) == (0, "")
    assert out.startswith("More users, slower each\n  claim ")
    assert "pace" in out
    assert page.read_text().startswith("# Claims, and what the simulator makes of them\n")
    (found,) = json.loads(figures.read_text()).values()
    assert found["pace"]["claimed"] == [100.0, 100.0]
    assert found["both"]["claimed"] is None
    assert found["both"]["simulated"] == int(found["both"]["simulated"]) > 50


def test_a_file_that_is_not_there_is_named(factory_sim_command, tmp_path):
    code, out, err = factory_sim_command("claims", str(tmp_path / "none.yaml"))
    assert (code, out) == (2, "")
    assert "none.yaml: there is no such file" in err
