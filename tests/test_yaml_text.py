"""YAML as people write it: what plain YAML passes over or stumbles on is a problem with a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory_sim import load, yaml_text
from factory_sim.errors import InputError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("site: 1\nracks: 2\nsite: 3\n", "a.yaml, line 3: is not valid YAML: the key 'site' is"),
        ("site: {pue: 1, pue: 2}\n", "a.yaml, line 1: is not valid YAML: the key 'pue' is given"),
        ("a: &a [*a]\n", "a.yaml, line 1: is not valid YAML: found unconstructable recursive node"),
        ("at: 2024-02-30\n", "a.yaml: holds a number or a date that cannot be read: day is out"),
        ("a: " + "[" * 2000 + "]" * 2000, "a.yaml: is nested too deep; write it flatter"),
        ("site:\n\tpue: 1\n", "a.yaml, line 2: is not valid YAML: found character"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        yaml_text.parse(text, "a.yaml")
    assert str(error.value).startswith(said)


def test_a_part_may_be_used_again_and_changed() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: &c {<<: *a, z: 4}\nd: {<<: *c, x: 5}\n"
    read = yaml_text.parse(text, "a.yaml")
    assert read["b"] == {"x": 1, "y": 3}
    assert read["d"] == {"x": 5, "y": 2, "z": 4}


def test_a_scenario_with_a_key_twice_is_no_other_scenario(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
    twice = tmp_path / "twice.yaml"
    twice.write_text(shipped.read_text(encoding="utf-8") + "seed: 2\n", encoding="utf-8")
    with pytest.raises(InputError, match="the key 'seed' is given twice"):
        load(twice)


def test_an_override_is_read_as_a_file_is() -> None:
    with pytest.raises(InputError, match="--set starts_at=2024-02-30: holds a number or a date"):
        load(overrides=["starts_at=2024-02-30"])
    with pytest.raises(InputError, match="the key 'pue' is given twice"):
        load(overrides=["site={pue: 1.2, pue: 1.3}"])


def test_a_run_folder_is_told_which_file_is_meant(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path)
    said = f"is a folder; name a YAML file, such as {tmp_path}/scenario.yaml of a run's folder"
    assert str(error.value) == f"{tmp_path}: {said}"
