"""`factory-sim validate`: as its user types it, on small cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

CASE = {
    "id": "one",
    "source": "ours",
    "gpu": "h100-sxm",
    "model": "llama-3.1-8b",
    "load": {"kind": "closed", "concurrency": 4, "requests": 12},
    "lengths": {"prompt": 100, "output": 20},
    "measured": {"tpot_mean_ms": 8.0, "output_tok_s": 400.0},
}


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    others = [CASE | {"id": f"n{n}", "lengths": {"prompt": 50 + n, "output": 9}} for n in range(6)]
    path.write_text(yaml.safe_dump([CASE, *others, CASE | {"id": "huge", "model": "deepseek-v3"}]))
    return path


def test_it_prints_and_writes_the_same_on_any_number_of_workers(cases, factory_sim_command):
    found = []
    for workers in ("1", "2"):
        file = cases.with_name(f"{workers}.json")
        code, out, err = factory_sim_command(
            "validate", str(cases), "--json", str(file), "--workers", workers
        )
        assert (code, err) == (0, "")
        found.append((out, file.read_bytes()))
    assert found[0] == found[1]
    out, data = found[0]
    assert "7 of 8 cases run" in out and "huge\n  " in out
    assert next(case["id"] for case in json.loads(data)["cases"]) == "one"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a list of cases"),
        ("- {id: x}", "mine.yaml: x: source"),
        (yaml.safe_dump([CASE, CASE]), "taken by an earlier case"),
        (yaml.safe_dump([CASE | {"measured": {"speed": 1.0}}]), "speed"),
        (yaml.safe_dump([CASE | {"measured": {"tpot_mean_ms": -1.0}}]), "measured.tpot_mean_ms"),
        (yaml.safe_dump([CASE | {"colour": "red"}]), "colour"),
        ("[", "mine.yaml"),
    ],
)
def test_bad_cases_are_one_clear_error(text, said, cases, factory_sim_command):
    cases.write_text(text)
    code, out, err = factory_sim_command("validate", str(cases))
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and said in err and "Traceback" not in err


def test_options_that_do_not_go_together(cases, factory_sim_command):
    code, _, err = factory_sim_command("validate", str(cases), "--data", ".", "--page", "x/y.md")
    assert code == 2 and "--data" in err
    code, _, err = factory_sim_command("validate", "--page", "p.md")
    assert code == 2 and "--page" in err
    code, _, err = factory_sim_command("validate", str(cases), "--json", str(cases.parent))
    assert code == 2 and "is a folder" in err
    code, _, err = factory_sim_command("validate", "--data", str(cases.parent))
    assert code == 2 and "lacks the table" in err
